"""Control: follows the engine, feeds the workers, keeps the dialer, answers people."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import structlog
from aiohttp import web

from dconnect.agent import child, labels
from dconnect.agent.api import application
from dconnect.agent.dialing import EMBEDDED, TESTING, Dialing, Strategy
from dconnect.agent.docker.engine import Engine
from dconnect.agent.docker.watch import Source, Watcher
from dconnect.agent.lent import Lent, borrow
from dconnect.agent.links import Links
from dconnect.agent.log import LogBuffer
from dconnect.agent.mooring import cut_off
from dconnect.agent.ownnet import own_network
from dconnect.agent.sockets import DialerSockets
from dconnect.core.errors import DconnectError
from dconnect.core.inventory import Inventory
from dconnect.dns import Zone, build

log = structlog.get_logger()


class Control:
    """The wiring of control; also what the API shows."""

    def __init__(self, lent: Lent) -> None:
        self._lent = lent
        self.config = lent.config
        self.links = Links(lent.workers, gateway=bool(lent.tun))
        self.inventory = Inventory()
        self.zone: Zone | None = None
        self.engine_version: dict[str, str] = {}
        self.watcher = Watcher(self._connect, self._publish)
        self._dialing: Dialing | None = None

    @property
    def strategy(self) -> Strategy:
        return self._dialing.strategy if self._dialing is not None else (EMBEDDED if self.config.embedded else TESTING)

    @property
    def dialer_state(self) -> str:
        return (
            self._dialing.state if self._dialing is not None else ("not needed" if self.config.embedded else "absent")
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        runner = web.AppRunner(application(self), access_log=None, handle_signals=False)
        await runner.setup()
        await web.SockSite(runner, borrow(self._lent.api)).start()
        server = await asyncio.start_unix_server(self.links.serve, sock=borrow(self._lent.bus))
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(self.watcher.run(), name="watcher")]
                if not self.config.embedded:
                    background.append(tasks.create_task(self._keep_dialer(), name="dialer"))
                    background.append(tasks.create_task(self._keep_moored(), name="mooring"))
                await stop.wait()
                for task in background:
                    task.cancel()
        finally:
            server.close()
            await self.links.close()
            await runner.cleanup()

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[Source]:
        async with Engine.open(self._lent.engine) as engine:
            info = await engine.ping()
            self.engine_version = {"name": info.name, "version": info.version, "api_version": info.api_version}
            log.info("engine connected", **self.engine_version)
            yield engine

    def _publish(self, inventory: Inventory) -> None:
        self.links.publish(inventory)  # first: the workers' answers are what people wait for
        self.inventory = inventory
        self.zone = build(inventory, self.config.suffixes, [ip_address(self.config.reach.strip("[]"))])
        log.info("inventory", serial=self.links.serial, containers=len(inventory.containers))

    async def _keep_moored(self) -> None:
        """End the whole agent, in order, when only its next start leads to the engine again."""
        await cut_off(labels.DOCKER_SOCKET, lambda: self.watcher.connected)
        log.warning("engine has another socket; the agent ends, for the engine to start it again")
        os.kill(os.getppid(), signal.SIGTERM)

    async def _keep_dialer(self) -> None:
        sockets = DialerSockets(Path(labels.RUN_DIR))
        sockets.start()
        try:
            async with Engine.open(self._lent.engine) as engine:
                self._dialing = Dialing(engine, sockets, own_network())
                await self._dialing.keep()
        finally:
            await sockets.close()


async def main(lent: Lent, stop: asyncio.Event, _buffer: LogBuffer) -> None:
    """Run control."""
    try:
        await Control(lent).run(stop)
    except* DconnectError as group:
        log.critical("control failed", reason="; ".join(str(error) for error in group.exceptions))
        raise SystemExit(1) from None


if __name__ == "__main__":
    child.run(lambda _: "control", main)
