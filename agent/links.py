"""Control's side of the bus: every worker, and the gateway, gets the latest inventory, and tells what it has done.

A worker is sent the next inventory only when it has told that it serves the one before, so what
waits for a slow or stuck one is a single snapshot, and it skips those that are out of date.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Literal

from dconnect.agent import bus
from dconnect.agent.tally import Tally
from dconnect.core.inventory import Inventory
from dconnect.core.limits import ANSWER_SECONDS

_CLOSE_SECONDS = 1.0
"""A link ends within one turn of the loop."""


@dataclass(eq=False, slots=True)
class _Link:
    writer: asyncio.StreamWriter
    task: asyncio.Task[Any] | None
    sent: int = -1
    served: int = -1
    """Serials of the inventories that it was sent and serves last; -1 before the first."""
    asked: dict[str, asyncio.Future[bus.Message]] = field(default_factory=dict)
    """What it was asked and has not answered yet: each question once, so that nothing piles up before a stuck one."""


class Links:
    """The workers, and the gateway, that are connected now."""

    def __init__(self, workers: int, *, gateway: bool = False) -> None:
        """Prepare for so many workers, and for a gateway, whose index is the next one."""
        self.workers = workers
        self.members = workers + gateway
        """All that report."""
        self._links: set[_Link] = set()
        self._snapshot = b""
        self.serial = 0
        """Counts inventories; a worker reports the one it serves."""
        self.reports: dict[int, dict[str, Any]] = {}
        """Index → latest report; at most as many as there are members."""
        self.tally = Tally()

    @property
    def in_step(self) -> bool:
        """Whether an inventory exists and everyone is there and serves the latest one."""
        serials = [report["serial"] for report in self.reports.values()]
        return self.serial > 0 and serials == [self.serial] * self.members

    @property
    def worker_reports(self) -> list[dict[str, Any]]:
        """Those of the workers, in order."""
        return [self.reports[index] for index in sorted(self.reports) if index < self.workers]

    @property
    def tunnel_report(self) -> dict[str, Any] | None:
        """The gateway's; None while there is none."""
        return self.reports.get(self.workers)

    def publish(self, inventory: Inventory) -> None:
        """Send an inventory to all workers, and to every later one."""
        self.serial += 1
        self._snapshot = bus.encode({"serial": self.serial, "inventory": inventory.to_json()})
        for link in self._links:
            self._bring_up(link)

    def _bring_up(self, link: _Link) -> None:
        if link.served == link.sent < self.serial and self._snapshot:
            link.sent = self.serial
            link.writer.write(self._snapshot)

    async def ask(self, question: Literal["report", "connections"]) -> list[bus.Message]:
        """What the workers answer, those that do so in time."""
        answers = [self._ask(link, question) for link in self._links]
        if answers:
            await asyncio.wait(answers, timeout=ANSWER_SECONDS)
        return [answer.result() for answer in answers if answer.done() and not answer.cancelled()]

    @staticmethod
    def _ask(link: _Link, question: str) -> asyncio.Future[bus.Message]:
        if question not in link.asked:
            link.asked[question] = asyncio.get_running_loop().create_future()
            link.writer.write(bus.encode({"ask": question}))
        return link.asked[question]

    async def close(self) -> None:
        """Cut all links, and wait until each has seen its end."""
        tasks = [link.task for link in self._links if link.task is not None]
        for link in self._links:
            link.writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker's link, from connect to loss."""
        link = _Link(writer, asyncio.current_task())
        self._links.add(link)
        report: bus.Message = {}
        try:
            while True:
                self._bring_up(link)
                message = await bus.receive(reader)
                answers = message.pop("answers", None)
                if answers != "connections":
                    report = message
                    link.served = int(report["serial"])
                    self.reports[int(report["index"])] = report
                    self.tally.update(report)
                if (waiting := link.asked.pop(str(answers), None)) is not None:
                    waiting.set_result(message)
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            pass
        finally:
            self._links.discard(link)
            for waiting in link.asked.values():
                waiting.cancel()
            for index in [index for index, latest in self.reports.items() if latest is report]:
                del self.reports[index]  # unless its successor has reported already
            with contextlib.suppress(OSError):
                writer.close()
