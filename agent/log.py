"""Logging of control and workers: JSON lines on stderr, or text when that is a terminal.

Records are collected, then rendered and written together a moment later: the engine pays per
write for every line of a container's output, and a front door at thousands of connections a
second must not spend its time there. The buffer is bounded; what does not fit is counted, not
kept. While nobody reads, nothing is written and nothing waits.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import orjson
import structlog

from dconnect.agent import stderr

_FLUSH_SECONDS = 0.05
_MAX_RECORDS = 4096
"""About 1 MiB: a second of full load. A reader that slow is not reading."""

Record: TypeAlias = dict[str, Any]
"""``event``, ``level`` and whatever else is told."""


class LogBuffer:
    """Writes records in batches, and never waits."""

    def __init__(self, fd: int, render: Callable[[Record], bytes]) -> None:
        self._fd = fd
        self._render = render
        self._records: list[Record] = []
        self._batch = b""
        """Lines on their way; while the reader does not take them, no more are rendered."""
        self._dropped = 0
        self._scheduled = False

    def put(self, record: Record) -> None:
        """Take one record, which is the buffer's from now on, and note when it was told."""
        if len(self._records) >= _MAX_RECORDS:
            self._dropped += 1
            return
        record["timestamp"] = dt.datetime.now(dt.UTC)
        self._records.append(record)
        if not self._scheduled and not self._later():
            self.flush()

    debug = info = warning = error = critical = put
    """What structlog asks of a logger."""

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
        if not self._batch and self._records:
            records, self._records = self._records, []
            if self._dropped:
                records.append({"event": "log lines dropped", "level": "warning", "count": self._dropped})
                self._dropped = 0
            self._batch = stderr.write(self._fd, b"".join(map(self._render, records)))
        if self._batch and not self._scheduled:
            self._later()


def configure(process: str, fd: int) -> LogBuffer:
    """Set structlog up for this process, which writes to ``fd``; flush the returned buffer before exit."""
    to_text = structlog.dev.ConsoleRenderer()

    def text(record: Record) -> bytes:
        if stamp := record.get("timestamp"):
            record["timestamp"] = stamp.isoformat()
        return f"{to_text(None, '', record | {'process': process})}\n".encode("utf-8", "replace")

    def line(record: Record) -> bytes:
        record["process"] = process
        try:
            return orjson.dumps(record, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError:  # lone surrogates, huge numbers
            return json.dumps(record, default=str).encode() + b"\n"

    buffer = LogBuffer(fd, text if sys.stderr.isatty() else line)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            lambda _logger, _method, record: ((record,), {}),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: buffer,
        cache_logger_on_first_use=True,
    )
    return buffer
