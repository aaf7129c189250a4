from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.door import LOOPS, DoorThread, open_descriptors


@pytest.fixture(scope="session", autouse=True)
def _warm_loops() -> None:
    """The first loop of a process opens descriptors that stay (signals)."""
    for new_loop in LOOPS.values():
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.fixture
def loop() -> str:
    """The event loop of workers; the relay's tests run on asyncio's own as well."""
    return "uvloop"


@pytest.fixture
def door(tmp_path: Path, loop: str) -> Iterator[DoorThread]:
    before = open_descriptors()
    with DoorThread(tmp_path, loop) as running:
        yield running
    assert running.recorder.open == 0, "a client was never told to be gone"
    assert open_descriptors() == before, "a descriptor leaked"
