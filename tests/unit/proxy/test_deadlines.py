"""Deadlines of channels, when this process was stopped, or very busy, while they came."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from dconnect.core.limits import DEADLINE_TICK_SECONDS
from dconnect.proxy.poller import Channel, Poller

LONG = 3 * DEADLINE_TICK_SECONDS


def run(scenario: Callable[[Channel, socket.socket], Awaitable[None]]) -> None:
    """With libuv's loop, which looks at its timers before it looks at sockets."""

    async def main() -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        poller = Poller()
        with far, contextlib.closing(Channel(poller, near)) as channel:
            async with asyncio.timeout(10):
                await scenario(channel, far)
        poller.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_what_came_while_we_were_stopped_is_heard_before_anybody_is_told_that_nothing_did() -> None:
    async def scenario(channel: Channel, far: socket.socket) -> None:
        channel.deadline(DEADLINE_TICK_SECONDS / 2)
        received = asyncio.ensure_future(channel.receive(10))
        await asyncio.sleep(0)
        far.send(b"in time")
        time.sleep(LONG)  # noqa: ASYNC251 - as a stopped process does
        assert await received == b"in time"

    run(scenario)


def test_whoever_waits_for_what_did_not_come_is_told_though_we_are_always_late() -> None:
    async def scenario(channel: Channel, _: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        def be_busy() -> None:
            time.sleep(LONG)
            if not received.done():
                loop.call_soon(be_busy)

        channel.deadline(DEADLINE_TICK_SECONDS / 2)
        received = asyncio.ensure_future(channel.receive(10))
        loop.call_soon(be_busy)
        with pytest.raises(TimeoutError):
            await received

    run(scenario)
