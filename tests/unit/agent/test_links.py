"""Control's links to the workers: who is in step, and how little waits for one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dconnect.agent import bus, links
from dconnect.agent.links import Links
from dconnect.core.inventory import Container, Inventory

DEADLINE = 5.0
LARGE = Inventory((Container("0" * 64, "large", "running", image="x" * (1 << 20)),))
"""More than a unix socket holds."""


class Worker:
    """A worker's end of a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, index: int) -> None:
        self._reader, self._writer, self._index = reader, writer, index

    async def told(self) -> int:
        return int((await bus.receive(self._reader))["serial"])

    async def asked(self) -> str:
        return str((await bus.receive(self._reader))["ask"])

    def answer(self, question: str, **others: Any) -> None:
        message = {"index": self._index, "pid": 100 + self._index, "answers": question}
        self._writer.write(bus.encode(message | others))

    def report(self, serial: int) -> None:
        self._writer.write(bus.encode({"index": self._index, "pid": 100 + self._index, "serial": serial}))

    async def leave(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


class Control:
    """Links behind a socket."""

    def __init__(self, path: Path, workers: int) -> None:
        self.links = Links(workers)
        self._path = path
        self._workers: list[Worker] = []

    async def worker(self, index: int) -> Worker:
        reader, writer = await asyncio.open_unix_connection(self._path)
        self._workers.append(Worker(reader, writer, index))
        return self._workers[-1]

    async def close(self) -> None:
        await self.links.close()
        for worker in self._workers:
            await worker.leave()

    async def until(self, holds: Callable[[Links], bool]) -> None:
        while True:
            if holds(self.links):
                return
            await asyncio.sleep(0.001)


@asynccontextmanager
async def control(folder: Path, workers: int) -> AsyncIterator[Control]:
    made = Control(folder / "bus.sock", workers)
    server = await asyncio.start_unix_server(made.links.serve, folder / "bus.sock")
    try:
        async with asyncio.timeout(DEADLINE):
            yield made
    finally:
        server.close()
        await made.close()


def test_in_step_means_every_worker_and_the_latest_inventory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with control(tmp_path, 2) as made:
            links = made.links
            first, second = await made.worker(0), await made.worker(1)
            first.report(-1)
            second.report(-1)
            await made.until(lambda links: len(links.reports) == 2)
            assert not links.in_step, "there is no inventory yet"
            links.publish(Inventory())
            first.report(await first.told())
            await made.until(lambda links: links.reports[0]["serial"] == 1)
            assert not links.in_step, "one worker serves nothing yet"
            second.report(await second.told())
            await made.until(lambda links: links.in_step)
            links.publish(Inventory())
            assert not links.in_step
            first.report(await first.told())
            second.report(await second.told())
            await made.until(lambda links: links.in_step)
            await second.leave()
            await made.until(lambda links: not links.in_step)
            assert set(links.reports) == {0}

    asyncio.run(scenario())


def test_a_later_worker_gets_the_latest_inventory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with control(tmp_path, 1) as made:
            made.links.publish(Inventory())
            made.links.publish(Inventory())
            worker = await made.worker(0)
            assert await worker.told() == 2
            worker.report(2)
            await made.until(lambda links: links.in_step)

    asyncio.run(scenario())


def test_what_a_slow_worker_missed_is_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with control(tmp_path, 1) as made:
            worker = await made.worker(0)
            made.links.publish(LARGE)
            worker.report(-1)
            await made.until(lambda links: bool(links.reports))
            for _ in range(50):
                made.links.publish(LARGE)
            worker.report(-1)  # its periodic report; it has not got through yet
            assert await worker.told() == 1
            worker.report(1)
            assert await worker.told() == 51
            worker.report(51)
            await made.until(lambda links: links.in_step)

    asyncio.run(scenario())


def test_the_end_of_a_workers_predecessor_does_not_hide_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with control(tmp_path, 1) as made:
            old, new = await made.worker(0), await made.worker(0)
            old.report(-1)
            await made.until(lambda links: bool(links.reports))
            made.links.publish(Inventory())
            new.report(await new.told())
            await made.until(lambda links: links.in_step)
            await old.leave()
            third = await made.worker(1)  # accepted after the end was seen
            third.report(-1)
            await made.until(lambda links: 1 in links.reports)
            assert 0 in made.links.reports

    asyncio.run(scenario())


def test_workers_are_asked_and_their_answers_are_no_reports(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with control(tmp_path, 2) as made:
            workers = [await made.worker(index) for index in range(2)]
            for worker in workers:
                worker.report(0)
            await made.until(lambda links: len(links.reports) == 2)
            asking = asyncio.ensure_future(made.links.ask("connections"))
            for index, worker in enumerate(workers):
                assert await worker.asked() == "connections"
                worker.answer("connections", total=index, connections=[])
            assert sorted(answer["total"] for answer in await asking) == [0, 1]
            assert all("total" not in report for report in made.links.reports.values())
            asking = asyncio.ensure_future(made.links.ask("report"))
            for worker in workers:
                assert await worker.asked() == "report"
                worker.answer("report", serial=0, accepted=5)
            assert len(await asking) == 2
            assert made.links.tally.total()["accepted"] == 10

    asyncio.run(scenario())


def test_a_stuck_worker_is_left_out_and_asked_once_however_often_people_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.05)

    async def scenario() -> None:
        async with control(tmp_path, 1) as made:
            stuck = await made.worker(0)
            stuck.report(0)
            await made.until(lambda links: bool(links.reports))
            for _ in range(5):
                assert await made.links.ask("connections") == []
            assert await stuck.asked() == "connections"
            stuck.answer("connections", total=1, connections=[])
            await made.until(lambda links: not any(link.asked for link in links._links))
            asking = asyncio.ensure_future(made.links.ask("report"))
            assert await stuck.asked() == "report", "it was asked again and again"
            await stuck.leave()  # and who dies meanwhile answers nothing
            assert await asking == []

    asyncio.run(scenario())


def test_nonsense_ends_a_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with control(tmp_path, 1) as made:
            made.links.publish(Inventory())
            reader, writer = await asyncio.open_unix_connection(tmp_path / "bus.sock")
            await bus.receive(reader)
            writer.write(bus.encode({"index": 0}))
            assert await reader.read() == b""
            writer.close()
            assert not made.links.reports

    asyncio.run(scenario())
