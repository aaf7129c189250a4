"""A socket that was mounted, and the engine that made itself another."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dconnect.agent.mooring import LOOK_SECONDS, cut_off

FOREVER = 1000.0
LOOKS = 5 * LOOK_SECONDS


class Mounted:
    """A socket by its name, and by a descriptor, which like a mount keeps the file whatever becomes of the name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        self.descriptor = os.open(path, os.O_PATH)
        self.mount = f"/proc/self/fd/{self.descriptor}"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path / "engine.sock")
    yield made
    os.close(made.descriptor)


async def returns(watching: asyncio.Future[None], seconds: float = LOOKS) -> bool:
    done, _ = await asyncio.wait([watching], timeout=seconds)
    return bool(done)


def test_a_crashed_engine_s_successor_cuts_the_agent_off_at_once(mounted: Mounted) -> None:
    async def scenario() -> None:
        engine = [True]
        watching = asyncio.ensure_future(cut_off(mounted.mount, lambda: engine[0], patience=FOREVER))
        assert not await returns(watching)
        engine[0] = False
        assert not await returns(watching), "the socket is still there, and may be listened at again"
        mounted.path.unlink()
        assert await returns(watching, 10.0)

    asyncio.run(scenario())


def test_an_engine_that_took_its_socket_along_is_waited_for_and_not_for_ever(mounted: Mounted) -> None:
    async def scenario() -> None:
        mounted.path.unlink()
        patient = asyncio.ensure_future(cut_off(mounted.mount, lambda: False, patience=FOREVER))
        hasty = asyncio.ensure_future(cut_off(mounted.mount, lambda: False, patience=2 * LOOK_SECONDS))
        assert await returns(hasty, 10.0)
        assert not await returns(patient)
        patient.cancel()

    asyncio.run(scenario())


def test_while_the_engine_is_reached_its_socket_s_name_does_not_matter(mounted: Mounted) -> None:
    async def scenario() -> None:
        mounted.path.unlink()
        watching = asyncio.ensure_future(cut_off(mounted.mount, lambda: True, patience=0.0))
        assert not await returns(watching)
        watching.cancel()

    asyncio.run(scenario())


def test_a_path_that_is_not_there_is_no_reason_to_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        watching = asyncio.ensure_future(cut_off(str(tmp_path / "none"), lambda: False, patience=0.0))
        assert not await returns(watching)
        watching.cancel()

    asyncio.run(scenario())
