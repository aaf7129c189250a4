"""Log lines are written in batches, bounded, and never at the agent's cost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dconnect.agent import log
from dconnect.agent.log import LogBuffer, Record

PROGRAM = """
import structlog
from dconnect.agent.log import configure
buffer = configure("worker 1", 2)
log = structlog.get_logger()
log.debug("hidden")
log.info("seen", port=80, name="\\N{LATIN SMALL LETTER U WITH DIAERESIS}\\n")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
buffer.put({"event": "odd", "level": "info", "target": "\\ud800", "what": ValueError("x")})
buffer.flush()
"""


def bare(record: Record) -> bytes:
    """What is rendered in these tests."""
    return f"{record.get('event')}\n".encode() if "count" not in record else f"{record['count']} dropped\n".encode()


def told(event: str) -> Record:
    return {"event": event, "level": "info"}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe2(os.O_NONBLOCK)
    yield read, write
    os.close(read)
    os.close(write)


def test_without_a_loop_a_line_is_written_at_once(pipe: tuple[int, int]) -> None:
    read, write = pipe
    LogBuffer(write, bare).put(told("one"))
    assert os.read(read, 100) == b"one\n"


def test_in_a_loop_lines_wait_for_each_other(pipe: tuple[int, int]) -> None:
    read, write = pipe

    async def body() -> None:
        buffer = LogBuffer(write, bare)
        buffer.put(told("one"))
        buffer.put(told("two"))
        with pytest.raises(BlockingIOError):
            os.read(read, 100)
        written = asyncio.Event()
        asyncio.get_running_loop().add_reader(read, written.set)
        async with asyncio.timeout(20):
            await written.wait()
        asyncio.get_running_loop().remove_reader(read)
        assert os.read(read, 100) == b"one\ntwo\n"

    asyncio.run(body())


def test_what_does_not_fit_is_counted(pipe: tuple[int, int]) -> None:
    read, write = pipe

    async def body() -> list[str]:
        buffer = LogBuffer(write, bare)
        for number in range(log._MAX_RECORDS + 7):
            buffer.put(told(str(number)))
        buffer.flush()
        return os.read(read, 1 << 20).decode().splitlines()

    *kept, last = asyncio.run(body())
    assert kept == [str(number) for number in range(log._MAX_RECORDS)]
    assert last == "7 dropped"


def test_a_stderr_that_nobody_reads_does_not_stop_the_agent() -> None:
    read, write = os.pipe()
    os.close(read)
    LogBuffer(write, bare).put(told("one"))
    os.close(write)


def test_a_reader_that_does_not_read_stops_nothing_and_gets_every_line_later() -> None:
    read, write = os.pipe()  # blocking, as stderr is
    lines = [f"{number} {'x' * 200}" for number in range(1000)]

    async def body() -> None:
        buffer = LogBuffer(write, bare)
        for line in lines:
            buffer.put(told(line))
        buffer.flush()
        buffer.flush()
        buffer.put(told("last"))
        got = b""
        async with asyncio.timeout(20):
            while not got.endswith(b"last\n"):
                got += await asyncio.to_thread(os.read, read, 1 << 16)
        assert got.decode().splitlines() == [*lines, "last"]

    asyncio.run(body())
    os.close(read)
    os.close(write)


def test_a_line_is_one_json_object_that_names_its_process() -> None:
    result = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, check=True, timeout=60)
    seen, broken, odd = (json.loads(line) for line in result.stderr.splitlines())
    assert (seen["event"], seen["level"], seen["process"]) == ("seen", "info", "worker 1")
    assert (seen["port"], seen["name"]) == (80, "ü\n")
    assert seen["timestamp"].endswith("Z")
    assert "ZeroDivisionError" in broken["exception"]
    # What a client sent may be no text at all: a line that cannot be written must not take others along.
    assert (odd["target"], odd["what"]) == ("\ud800", "x")
