from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dconnect.core.tasks import Tasks


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


def test_a_task_is_owned_while_it_runs() -> None:
    async def main() -> None:
        tasks = Tasks()
        gate = asyncio.Event()
        task = tasks.start(gate.wait(), "waits")
        assert (len(tasks), task.get_name()) == (1, "waits")
        gate.set()
        await task
        assert len(tasks) == 0

    asyncio.run(main())


def test_a_crash_is_reported_with_the_tasks_name() -> None:
    reports: list[dict[str, Any]] = []

    async def crash() -> None:
        raise LookupError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        tasks = Tasks()
        _ = tasks.start(crash(), "crasher")
        await tasks.wait(10)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ["crasher" in report["message"] for report in reports] == [True]


def test_a_cancelled_task_is_no_crash() -> None:
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        tasks = Tasks()
        _ = tasks.start(_forever(), "cancelled")
        await tasks.cancel()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert not reports


def test_cancel_ends_all_tasks_also_those_that_fail_meanwhile() -> None:
    async def stubborn() -> None:
        try:
            await _forever()
        finally:
            raise LookupError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        tasks = Tasks()
        both = [tasks.start(_forever(), "one"), tasks.start(stubborn(), "two")]
        await asyncio.sleep(0)
        await tasks.cancel()
        assert [task.done() for task in both] == [True, True]
        await tasks.cancel()  # none left: nothing to wait for

    asyncio.run(main())


def test_who_cancels_tasks_can_be_cancelled_itself() -> None:
    async def slow_to_end(gate: asyncio.Event) -> None:
        try:
            await _forever()
        finally:
            await gate.wait()

    async def main() -> None:
        tasks, gate = Tasks(), asyncio.Event()
        slow = tasks.start(slow_to_end(gate), "slow")
        await asyncio.sleep(0)
        owner = asyncio.ensure_future(tasks.cancel())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        owner.cancel()
        with pytest.raises(asyncio.CancelledError):
            await owner
        gate.set()
        await asyncio.wait([slow])

    asyncio.run(main())


def test_wait_gives_up_after_its_time() -> None:
    async def main() -> None:
        tasks = Tasks()
        _ = tasks.start(_forever(), "forever")
        await tasks.wait(0)
        assert len(tasks) == 1
        await tasks.cancel()
        await tasks.wait(0)

    asyncio.run(main())
