"""What control tells: a link to it over the bus, kept by every process that needs the inventory.

Control sends inventories and questions; back go counters, at once after each inventory and every second.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import structlog

from dconnect.agent import bus
from dconnect.core.backoff import backoff
from dconnect.core.inventory import Inventory

_REPORT_SECONDS = 1.0

log = structlog.get_logger()


class Member(Protocol):
    """A process that is informed."""

    def publish(self, inventory: Inventory) -> None:
        """Serve a new inventory from now on."""

    def counted(self) -> bus.Message:
        """What it has done: ``index``, ``pid`` and its counters."""

    def answer(self, ask: str) -> bus.Message:
        """What control asks on behalf of a person; nothing of this is done for nobody."""


class Informed:
    """The member's end of the bus."""

    def __init__(self, path: str, member: Member) -> None:
        """Prepare; ``path`` is where control listens."""
        self._path = path
        self._member = member
        self._serial = -1
        """Of the inventory served; -1 before the first."""

    async def run(self) -> None:
        """Keep a link to control; while there is none, the last inventory serves on."""
        attempt = 0
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self._path)
                attempt = 0 if await self._follow(reader, writer) else attempt
            await asyncio.sleep(backoff(attempt))
            attempt += 1

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve every inventory that control sends until the link is lost; whether any came."""
        came = False
        self._serial = -1  # of another control's counting
        reports = asyncio.get_running_loop().create_task(self._report(writer), name="reports")
        try:
            while True:
                try:
                    message = await bus.receive(reader)
                    if "ask" in message:
                        ask = str(message["ask"])
                        writer.write(bus.encode(self._answer(ask) | {"answers": ask}))
                        continue
                    serial, inventory = int(message["serial"]), Inventory.from_json(message["inventory"])
                except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
                    log.warning("control is away; the last inventory serves on", reason=type(error).__name__)
                    return came
                self._member.publish(inventory)
                self._serial = serial
                self._write(writer)
                came = True
        finally:
            reports.cancel()
            writer.close()

    def _answer(self, ask: str) -> bus.Message:
        answer = self._member.answer(ask)
        return answer | {"serial": self._serial} if ask == "report" else answer

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._write(writer)
            with contextlib.suppress(OSError):
                await writer.drain()
            await asyncio.sleep(_REPORT_SECONDS)

    def _write(self, writer: asyncio.StreamWriter) -> None:
        writer.write(bus.encode(self._member.counted() | {"serial": self._serial}))
