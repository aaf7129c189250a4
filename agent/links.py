"""Control's side of the bus: every worker gets each inventory, and tells what it has done."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from dconnect.agent import bus
from dconnect.core.inventory import Inventory
from dconnect.core.limits import BUS_MESSAGE_BYTES

_MAX_UNSENT_BYTES = 4 * BUS_MESSAGE_BYTES
"""A worker that has taken nothing for this long is stuck; its link is cut and it starts afresh."""

_CLOSE_SECONDS = 1.0
"""A link ends within one turn of the loop."""


class Links:
    """The workers that are connected now."""

    def __init__(self) -> None:
        self._writers: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._snapshot: bytes | None = None
        self.serial = 0
        """Counts inventories; a worker reports the one it serves."""
        self.reports: dict[int, dict[str, Any]] = {}
        """Worker index → its latest report; at most as many as there are workers."""

    @property
    def in_step(self) -> bool:
        """Whether an inventory exists and every connected worker serves the latest one."""
        return bool(self.reports) and all(report["serial"] == self.serial for report in self.reports.values())

    def publish(self, inventory: Inventory) -> None:
        """Send an inventory to all workers, and to every later one."""
        self.serial += 1
        self._snapshot = bus.encode({"serial": self.serial, "inventory": inventory.to_json()})
        for writer in tuple(self._writers):
            self._send(writer, self._snapshot)

    def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            writer.transport.abort()
            return
        writer.write(data)

    async def close(self) -> None:
        """Cut all links, and wait until each has seen its end."""
        tasks = [task for task in self._writers.values() if task is not None]
        for writer in self._writers:
            writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker's link, from connect to loss."""
        self._writers[writer] = asyncio.current_task()
        index: int | None = None
        try:
            if self._snapshot is not None:
                self._send(writer, self._snapshot)
            while True:
                report = await bus.receive(reader)
                index = int(report["index"])
                self.reports[index] = report
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            pass
        finally:
            self._writers.pop(writer, None)
            if index is not None:
                self.reports.pop(index, None)
            with contextlib.suppress(OSError):
                writer.close()
