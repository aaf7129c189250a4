"""A wait and the client it is for: who ends whom."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from dconnect.agent.sockets import DialerSockets
from dconnect.proxy.fiber import Cut, Fibers, UnlessCut
from dconnect.proxy.poller import Channel, Poller
from kit.door import PATIENCE, reset


class Served:
    """A client, and a fiber that works for it; ``told`` is what became of it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.loop = asyncio.get_running_loop()
        self.poller = Poller()
        near.setblocking(False)
        self.channel = Channel(self.poller, near)
        self.far = far
        self.fibers = Fibers(self.loop)
        self.begun, self.over = asyncio.Event(), asyncio.Event()
        self.told: list[str] = []

    def serve(self, work: Callable[[], Awaitable[object]], *, watches_itself: bool = False) -> None:
        """Start a fiber as an event handler does: from the loop, outside every task."""
        self.loop.call_soon(lambda: self.fibers.start(self._serve(work, watches_itself=watches_itself), self.channel))

    async def _serve(self, work: Callable[[], Awaitable[object]], *, watches_itself: bool) -> None:
        try:
            with contextlib.nullcontext() if watches_itself else UnlessCut():
                self.begun.set()
                await work()
            self.told.append("done")
        except Cut:
            self.told.append("cut")
        except asyncio.CancelledError:
            self.told.append("cancelled")
            raise
        finally:
            self.over.set()
        await asyncio.sleep(0.001)  # nothing of it is left to end this
        self.told.append("goes on")


def _run(scene: Callable[[Served], Awaitable[None]]) -> Served:
    async def main() -> Served:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as far,
        ):
            served = Served(listener.accept()[0], far)
            try:
                async with asyncio.timeout(PATIENCE):
                    await scene(served)
                    await served.over.wait()
                    while served.told[-1] == "cut":  # noqa: ASYNC110 - the fiber is about to end
                        await asyncio.sleep(0)
                assert served.channel.on_hangup is None
            finally:
                served.channel.close()
                served.poller.close()
            return served

    return asyncio.run(main())


async def _for_ever() -> None:
    await asyncio.Event().wait()


def test_a_reset_ends_the_wait_and_nothing_else() -> None:
    async def scene(served: Served) -> None:
        served.serve(_for_ever)
        await served.begun.wait()
        reset(served.far)

    assert _run(scene).told == ["cut", "goes on"]


def test_a_fin_does_not() -> None:
    async def scene(served: Served) -> None:
        end = asyncio.Event()
        served.serve(end.wait)
        await served.begun.wait()
        served.far.shutdown(socket.SHUT_WR)
        while not served.channel.hung_up:  # noqa: ASYNC110 - the poller's turn comes
            await asyncio.sleep(0)
        end.set()

    assert _run(scene).told[0] == "done"


def test_after_a_reset_no_wait_is_begun() -> None:
    async def scene(served: Served) -> None:
        reset(served.far)
        with pytest.raises(ConnectionResetError):
            await served.channel.receive(1)
        served.serve(_for_ever)

    served = _run(scene)
    assert served.told[0] == "cut"
    assert not served.begun.is_set()


def test_a_wait_may_have_a_deadline_of_its_own() -> None:
    async def late() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await _for_ever()

    async def scene(served: Served) -> None:
        served.serve(late)

    assert _run(scene).told[0] == "done"


@pytest.mark.parametrize("and_reset", [False, True])
def test_whoever_ends_all_fibers_ends_this_one_too(and_reset: bool) -> None:
    async def scene(served: Served) -> None:
        served.serve(_for_ever)
        await served.begun.wait()
        if and_reset:
            reset(served.far)
            served.poller.loop.call_soon(served.channel._ready, 0x10 | 0x08)
        await served.fibers.cancel()

    assert _run(scene).told == ["cancelled"]


def test_a_wait_for_the_dialer_ends_as_well(tmp_path: Path) -> None:
    async def scene(served: Served) -> None:
        sockets = DialerSockets(tmp_path)  # where no dialer is
        served.serve(lambda: sockets.stream(ip_address("192.0.2.1")), watches_itself=True)
        await served.begun.wait()
        reset(served.far)

    assert _run(scene).told[0] == "cut"


def test_a_task_has_no_client() -> None:
    async def main() -> None:
        with UnlessCut():
            await asyncio.sleep(0)

    asyncio.run(main())
