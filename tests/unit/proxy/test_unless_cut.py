"""A dial and its client, in tasks and in fibers: who ends whom."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dconnect.core.events import Session
from dconnect.core.tasks import Tasks
from dconnect.proxy.fiber import Fibers
from dconnect.proxy.leaving import unless_cut
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.stream import Gone
from kit.door import PATIENCE, reset


@asynccontextmanager
async def _client() -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A client's channel, and the client."""
    poller = Poller()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as far:
        near, _ = listener.accept()
        near.setblocking(False)
        channel = Channel(poller, near)
        try:
            yield channel, far
        finally:
            channel.close()
            poller.close()


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


def test_what_is_over_at_once_is_not_watched() -> None:
    async def scenario() -> None:
        async def dial() -> str:
            assert channel.on_hangup is None
            return "connected"

        async with _client() as (channel, _):
            assert await unless_cut(channel, Session("p"), dial()) == "connected"
            assert channel.on_hangup is None

    _run(scenario)


def test_what_the_dial_raises_is_raised_at_once_or_later() -> None:
    async def scenario() -> None:
        async def dial(waits: int) -> str:
            for _ in range(waits):
                await asyncio.sleep(0)
            raise LookupError

        async with _client() as (channel, _):
            for waits in range(3):
                with pytest.raises(LookupError):
                    await unless_cut(channel, Session("p"), dial(waits))
                assert channel.on_hangup is None

    _run(scenario)


def test_a_dial_may_have_deadlines_of_its_own() -> None:
    async def scenario() -> None:
        async def dial() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                await asyncio.sleep(0)
            return "second attempt"

        async with _client() as (channel, _):
            assert await unless_cut(channel, Session("p"), dial()) == "second attempt"

    _run(scenario)


@pytest.mark.parametrize("in_fiber", [False, True])
def test_a_reset_ends_it_and_the_caller_goes_on(in_fiber: bool) -> None:
    ended: list[str] = []
    session = Session("p", target="web:80")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        waiting, over = loop.create_future(), loop.create_future()

        async def dial() -> None:
            try:
                waiting.set_result(None)
                await asyncio.Event().wait()
            finally:
                ended.append("dial")

        async def caller(channel: Channel) -> None:
            with pytest.raises(Gone):
                await unless_cut(channel, session, dial())
            await asyncio.sleep(0.01)  # it is not cancelled any more
            over.set_result(None)

        async with _client() as (channel, far):
            coroutine: Coroutine[Any, Any, None] = caller(channel)
            if in_fiber:
                loop.call_soon(Fibers(loop).start, coroutine)
            else:
                _ = Tasks().start(coroutine, "caller")
            await waiting
            reset(far)
            await over

    _run(scenario)
    assert ended == ["dial"]
    assert session.detail == "The client left while web:80 was being dialed."


def test_a_client_that_was_cut_before_is_not_waited_for() -> None:
    ended: list[str] = []

    async def scenario() -> None:
        async def dial() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("dial")

        async with _client() as (channel, far):
            reset(far)
            with pytest.raises(ConnectionResetError):
                await channel.receive(1)
            with pytest.raises(Gone):
                await unless_cut(channel, Session("p"), dial())
            assert channel.on_hangup is None

    _run(scenario)
    assert ended == ["dial"]


def test_the_callers_own_cancellation_is_passed_on() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def dial() -> None:
            begun.set()
            await asyncio.Event().wait()

        async with _client() as (channel, _):
            task = Tasks().start(unless_cut(channel, Session("p"), dial()), "caller")
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert channel.on_hangup is None

    _run(scenario)
