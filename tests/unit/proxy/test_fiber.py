from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from dconnect.proxy.fiber import Fibers, Wait

DEADLINE = 5.0
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[[Callable[[Fibers], Coroutine[Any, Any, None]]], None]:
    """Run a scene with a new owner of fibers."""

    def run(scene: Callable[[Fibers], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(DEADLINE):
                await scene(Fibers(asyncio.get_running_loop()))

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


Play = Callable[[Callable[[Fibers], Coroutine[Any, Any, None]]], None]


async def turn(fibers: Fibers, coroutine: Coroutine[Any, Any, None]) -> None:
    """Start a fiber as an event handler does: from the loop, outside every task."""
    started = asyncio.get_running_loop().create_future()

    def start() -> None:
        fibers.start(coroutine)
        started.set_result(None)

    asyncio.get_running_loop().call_soon(start)
    await started


def test_a_fiber_goes_on_within_the_call_that_wakes_it(play: Play) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        wait, told = Wait(loop), list[str]()

        async def client() -> None:
            told.append("began")
            await wait
            told.append("went on")

        await turn(fibers, client())
        assert told == ["began"]
        done = loop.create_future()

        def wake() -> None:
            wait.wake()
            done.set_result(list(told))

        loop.call_soon(wake)
        assert await done == ["began", "went on"]

    play(scene)


def test_a_wait_may_end_with_an_error_and_only_once(play: Play) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        wait, told = Wait(loop), list[str]()

        async def client() -> None:
            try:
                await wait
            except TimeoutError:
                told.append("timeout")

        await turn(fibers, client())
        loop.call_soon(wait.wake, TimeoutError())
        loop.call_soon(wait.wake)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == ["timeout"]
        assert not wait.wake_soon(OSError())

    play(scene)


def test_a_fiber_may_wait_for_what_asyncio_has(play: Play) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        future, done = loop.create_future(), loop.create_future()

        async def slow() -> str:
            async with asyncio.timeout(DEADLINE):
                await asyncio.sleep(0)
            return "task"

        async def client() -> None:
            await asyncio.sleep(0)
            done.set_result((await future, await loop.create_task(slow())))

        await turn(fibers, client())
        future.set_result("future")
        assert await done == ("future", "task")

    play(scene)


def test_a_task_may_wait_as_well(play: Play) -> None:
    async def scene(_: Fibers) -> None:
        loop = asyncio.get_running_loop()
        wait = Wait(loop)

        async def body() -> str:
            await wait
            return "woken"

        task = loop.create_task(body())
        await asyncio.sleep(0)
        loop.call_soon(wait.wake)
        assert await task == "woken"

    play(scene)


def test_a_task_that_waits_can_be_cancelled(play: Play) -> None:
    async def scene(_: Fibers) -> None:
        async def body() -> None:
            await Wait(asyncio.get_running_loop())

        task = asyncio.get_running_loop().create_task(body())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(scene)


@pytest.mark.parametrize("where", ["a wait", "a future", "the next iteration"])
def test_cancelling_reaches_a_fiber_wherever_it_waits(play: Play, where: str) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        told = list[str]()

        async def client() -> None:
            try:
                if where == "a wait":
                    await Wait(loop)
                elif where == "a future":
                    await loop.create_future()
                else:
                    while True:  # noqa: ASYNC110 - this wait is what is tested
                        await asyncio.sleep(0)
            finally:
                told.append("cleaned up")

        await turn(fibers, client())
        await fibers.cancel()
        assert told == ["cleaned up"]

    play(scene)


def test_cancelling_waits_for_a_fiber_that_takes_its_time(play: Play) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        told = list[str]()

        async def client() -> None:
            try:
                await Wait(loop)
            finally:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                told.append("at last")

        await turn(fibers, client())
        await fibers.cancel()
        assert told == ["at last"]

    play(scene)


def test_the_crash_of_a_fiber_is_told_and_the_others_live(play: Play) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        told = list[BaseException]()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        wait, done = Wait(loop), loop.create_future()

        async def bad() -> None:
            raise ZeroDivisionError

        async def good() -> None:
            await wait
            done.set_result("alive")

        await turn(fibers, good())
        await turn(fibers, bad())
        loop.call_soon(wait.wake)
        assert await done == "alive"
        assert [type(error) for error in told] == [ZeroDivisionError]

    play(scene)


def test_a_deadline_of_asyncio_holds_in_a_fiber_and_leaves_it_usable(play: Play) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        wait, done = Wait(loop), loop.create_future()

        async def client() -> None:
            try:
                async with asyncio.timeout(0.01):
                    await wait
            except TimeoutError:
                await asyncio.sleep(0)
                done.set_result("timeout")

        await turn(fibers, client())
        assert await done == "timeout"

    play(scene)


def test_the_cancellation_of_a_fiber_is_no_timeout(play: Play) -> None:
    async def scene(fibers: Fibers) -> None:
        loop = asyncio.get_running_loop()
        told = list[str]()

        async def client() -> None:
            try:
                async with asyncio.timeout(DEADLINE):
                    await Wait(loop)
            except asyncio.CancelledError:
                told.append("cancelled")
                raise

        await turn(fibers, client())
        await fibers.cancel()
        assert told == ["cancelled"]

    play(scene)
