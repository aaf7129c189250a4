"""SIGTERM and SIGHUP end a command as Ctrl-C does, cleaning up included."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def as_ctrl_c() -> Iterator[list[int]]:
    """Within the block both become SIGINT; the list holds those that came.

    Only the first does: a terminal that goes away sends SIGHUP through its shell and by itself,
    and a second Ctrl-C would end the cleaning up.
    """
    came: list[int] = []

    def turn(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            signal.raise_signal(signal.SIGINT)

    changed = []
    for name in ("SIGTERM", "SIGHUP"):
        number: signal.Signals | None = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, turn)
            changed.append(number)
    try:
        yield came
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
