"""Where words go: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def say(text: str = "") -> None:
    """One line of result."""
    sys.stdout.write(text + "\n")


def say_json(value: Any) -> None:
    """A result for programs."""
    say(json.dumps(value, indent=2))


def complain(text: str) -> None:
    """One line for the person, not the program."""
    with suppress(OSError):  # a terminal that was closed; what is being done must still be finished
        err.print(text)


class Progress:
    """What is being done: one changing line in a terminal, elsewhere a line for each step."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._step = ""

    def __enter__(self) -> Self:
        if err.is_terminal:
            self._status = err.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            with suppress(OSError):  # as above
                self._status.stop()

    def __call__(self, text: str) -> None:
        """Show what is being done now; what follows a colon is detail, for a line that can change."""
        if self._status is not None:
            with suppress(OSError):  # as above
                self._status.update(Text(text))
            return
        step = text.rpartition(": ")[0] or text
        if step != self._step:
            complain(step)
        self._step = step
