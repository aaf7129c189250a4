"""Logging of control and workers: JSON lines on stderr, or text when that is a terminal.

Lines are collected and written together a moment later: the engine pays per write for every
line of a container's output, and a front door at thousands of connections a second must not
spend its time there. The buffer is bounded; what does not fit is counted, not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_FLUSH_SECONDS = 0.05
_MAX_LINES = 4096
"""About 1 MiB: a second of full load. A reader that slow is not reading."""


class LineBuffer:
    """A structlog logger that writes in batches."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[str] = []
        self._dropped = 0
        self._scheduled = False

    def msg(self, line: str) -> None:
        """Take one rendered line."""
        if len(self._lines) >= _MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._scheduled:
            try:
                asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
                self._scheduled = True
            except RuntimeError:  # no loop: start-up and shutdown
                self.flush()

    debug = info = warning = error = critical = msg

    def flush(self) -> None:
        """Write what is there; a broken stderr must not stop the agent."""
        self._scheduled = False
        if self._dropped:
            self._lines.append(f'{{"event":"log lines dropped","level":"warning","count":{self._dropped}}}')
            self._dropped = 0
        lines, self._lines = self._lines, []
        if lines:
            with contextlib.suppress(OSError):
                os.write(self._fd, ("\n".join(lines) + "\n").encode("utf-8", "replace"))


def configure(process: str) -> LineBuffer:
    """Set structlog up for this process; flush the returned buffer before exit."""
    buffer = LineBuffer(sys.stderr.fileno())
    terminal = sys.stderr.isatty()
    # A default per call would make a new encoder for every line.
    encode = json.JSONEncoder(default=repr).encode
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if terminal
        else structlog.processors.JSONRenderer(serializer=lambda line, **_: encode(line))
    )

    def add_process(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["process"] = process
        return line

    structlog.configure(
        processors=[
            add_process,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: buffer,
        cache_logger_on_first_use=True,
    )
    return buffer
