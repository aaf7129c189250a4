"""Logging of control and workers: JSON lines on stderr, or text when that is a terminal.

Lines are collected and written together a moment later: the engine pays per write for every
line of a container's output, and a front door at thousands of connections a second must not
spend its time there. The buffer is bounded; what does not fit is counted, not kept. While nobody
reads, nothing is written and nothing waits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from dconnect.agent import stderr

_FLUSH_SECONDS = 0.05
_MAX_LINES = 4096
"""About 1 MiB: a second of full load. A reader that slow is not reading."""


class LineBuffer:
    """A structlog logger that writes in batches, and never waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[str] = []
        self._batch = b""
        """Lines on their way; while the reader does not take them, no more are encoded."""
        self._dropped = 0
        self._scheduled = False

    def msg(self, line: str) -> None:
        """Take one rendered line."""
        if len(self._lines) >= _MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._scheduled and not self._later():
            self.flush()

    debug = info = warning = error = critical = msg

    def _later(self) -> bool:
        try:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        except RuntimeError:  # no loop: start-up and shutdown
            return False
        self._scheduled = True
        return True

    def flush(self) -> None:
        """Write what is taken at once; what is not is tried again as long as a loop runs."""
        self._scheduled = False
        self._batch = stderr.write(self._fd, self._batch)
        if not self._batch:
            if self._dropped:
                self._lines.append(f'{{"event":"log lines dropped","level":"warning","count":{self._dropped}}}')
                self._dropped = 0
            if self._lines:
                lines, self._lines = self._lines, []
                self._batch = stderr.write(self._fd, ("\n".join(lines) + "\n").encode("utf-8", "replace"))
        if self._batch and not self._scheduled:
            self._later()


def configure(process: str, fd: int) -> LineBuffer:
    """Set structlog up for this process, which writes to ``fd``; flush the returned buffer before exit."""
    buffer = LineBuffer(fd)
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
