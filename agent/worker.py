"""A worker: front door and DNS over one zone, in one process with one event loop."""

from __future__ import annotations

if __name__ == "__main__":
    from dconnect.agent import no_tls

    no_tls.pretend()

import asyncio
import contextlib
import dataclasses
import os
import resource
import time
from ipaddress import ip_address
from pathlib import Path

import structlog
import uvloop

from dconnect.agent import bus, child, labels
from dconnect.agent.lent import Lent, borrow
from dconnect.agent.log import LogBuffer
from dconnect.agent.names import Names, not_informed
from dconnect.agent.ownnet import OwnNetwork, own_network
from dconnect.agent.sockets import DialerSockets, LocalSockets
from dconnect.core.backoff import backoff
from dconnect.core.config import FRONT_DOOR_PORT
from dconnect.core.events import Session
from dconnect.core.inventory import Inventory
from dconnect.core.limits import (
    FDS_PER_CLIENT,
    FIRST_INVENTORY_SECONDS,
    MAX_CLIENTS_PER_WORKER,
    REFUSALS_TOLD_PER_SECOND,
)
from dconnect.core.rules import Rules
from dconnect.dns import DnsServer, Resolver, Zone, build
from dconnect.proxy.dial import Dial
from dconnect.proxy.frontdoor import FrontDoor
from dconnect.proxy.judge import Judge
from dconnect.proxy.policy import Admission, Policy
from dconnect.proxy.poller import Poller

_REPORT_SECONDS = 1.0
_RESERVED_DESCRIPTORS = 512
"""Not for clients: pooled sockets, DNS over TCP, idle upstreams."""

log = structlog.get_logger()


@dataclasses.dataclass
class Counters:
    """What this worker has done."""

    open: int = 0
    accepted: int = 0
    refused: int = 0
    failed: int = 0
    outcomes: dict[str, int] = dataclasses.field(default_factory=dict)


class Sessions:
    """The front door's ``Observer``: counts, and tells one line per session."""

    def __init__(self, log: LogBuffer) -> None:
        self.counters = Counters()
        self._log = log
        self._second = 0
        self._told = 0
        """Refusals that were logged in this second."""

    def opened(self) -> None:
        self.counters.open += 1
        self.counters.accepted += 1

    def closed(self) -> None:
        self.counters.open -= 1

    def refused_by_source(self, peer: str) -> None:
        self.counters.refused += 1
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= REFUSALS_TOLD_PER_SECOND:
            log.warning("connection refused: only the host may use the front door, not a container", peer=peer)

    def ended(self, session: Session) -> None:
        outcome, counters = session.outcome, self.counters
        if outcome in ("idle", "open"):
            return  # nothing was asked
        counters.outcomes[outcome] = counters.outcomes.get(outcome, 0) + 1
        seconds = round(time.monotonic() - session.started, 4)
        level = "info" if outcome == "ok" else "warning"
        counters.failed += outcome != "ok"
        # Not by way of structlog: at thousands of connections a second its pipeline is felt.
        self._log.put({"event": "session", "level": level, **session.told(), "seconds": seconds})


class Worker:
    """The wiring of one worker."""

    def __init__(self, lent: Lent, log_buffer: LogBuffer) -> None:
        self._lent = lent
        self._config = lent.config
        self._own = OwnNetwork() if self._config.embedded else own_network()
        self._sessions = Sessions(log_buffer)
        self._serial = -1
        self._zone: Zone | None = None
        self._informed = asyncio.Event()
        """Set by the first inventory."""
        self._rules = Rules(self._config.allow, self._config.deny)
        self._policy: Policy | None = None
        self._admission = Admission(Inventory(), self._own.subnets, self._own.gateways)
        self._sockets = LocalSockets() if self._config.embedded else DialerSockets(Path(labels.RUN_DIR))
        self._poller = Poller()
        self._resolver = Resolver()
        self._door = FrontDoor(
            poller=self._poller,
            listener=borrow(lent.front),
            dial=Dial(
                poller=self._poller,
                resolve=Names(lambda: self._zone, self._config.egress, rules=self._rules),
                sockets=self._sockets,
                judge=Judge(self._judgement, self._sockets.is_local),
                own_service=lent.api_path,
                own_ports=frozenset((80, FRONT_DOOR_PORT, self._config.port)),
            ),
            observer=self._sessions,
            admits=self.admits,
            hosts=own_hosts(self._config.bind, self._config.suffixes),
            max_clients=_max_clients(),
        )
        self._dns = DnsServer(
            udp=[borrow(lent.dns_udp)], tcp=[borrow(lent.dns_tcp)], admits=self.admits, resolver=self._resolver
        )

    def admits(self, peer: str) -> bool:
        """Whether the peer is not a container."""
        return self._admission.admits(peer)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, then drain."""
        if isinstance(self._sockets, DialerSockets):
            self._sockets.start()
        async with asyncio.TaskGroup() as tasks:  # whose end is ours: without the link we would serve the past
            link = tasks.create_task(self._follow_control(), name="bus")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._informed.wait(), FIRST_INVENTORY_SECONDS)
            self._door.start()
            await self._dns.start()
            log.info("worker ready")
            await stop.wait()
            await asyncio.gather(self._door.drain(), self._dns.close())
            link.cancel()
        await self._sockets.close()
        self._poller.close()

    def _judgement(self) -> Policy:
        """The policy in force; before the first inventory nothing is known to be harmless.

        Raises: DialError NOT_READY.
        """
        if self._policy is None:
            raise not_informed()
        return self._policy

    def publish(self, inventory: Inventory) -> None:
        """Serve a new inventory from now on."""
        zone = build(inventory, self._config.suffixes, [ip_address(self._config.reach.strip("[]"))])
        self._zone = zone
        self._resolver.publish(zone)
        self._policy = Policy(inventory, self._config.egress, self._own.addresses, self._rules)
        self._admission = Admission(inventory, self._own.subnets, self._own.gateways)
        self._informed.set()

    async def _follow_control(self) -> None:
        """Keep a link to control; while there is none, the last inventory serves on."""
        attempt = 0
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self._lent.bus_path)
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
                    serial, inventory = int(message["serial"]), Inventory.from_json(message["inventory"])
                except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
                    log.warning("control is away; the last inventory serves on", reason=type(error).__name__)
                    return came
                self.publish(inventory)
                self._serial = serial
                self._write(writer)
                came = True
        finally:
            reports.cancel()
            writer.close()

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._write(writer)
            with contextlib.suppress(OSError):
                await writer.drain()
            await asyncio.sleep(_REPORT_SECONDS)

    def _write(self, writer: asyncio.StreamWriter) -> None:
        counters = dataclasses.asdict(self._sessions.counters)
        dialer = not isinstance(self._sockets, DialerSockets) or self._sockets.connected
        message = {
            "index": self._lent.index,
            "pid": os.getpid(),
            "serial": self._serial,
            "dialer": dialer,
            "dns": dataclasses.asdict(self._resolver.counters),
        }
        writer.write(bus.encode(counters | message))


def own_hosts(bind: str, suffixes: tuple[str, ...]) -> frozenset[str]:
    """What may stand in the Host of a request for the agent itself."""
    return frozenset(("127.0.0.1", "localhost", "::1", bind, *(f"dconnect.{suffix}" for suffix in suffixes)))


def _max_clients() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(MAX_CLIENTS_PER_WORKER, (soft - _RESERVED_DESCRIPTORS) // FDS_PER_CLIENT))


def keep_apart(index: int, workers: int) -> None:
    """Deal the CPUs out among the workers.

    A wake-up tends to stay on the CPU of whoever causes it, so with the choice the kernel often
    has both workers share one CPU while another idles (measured: 5 % of the connection rate).
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) >= workers:
        os.sched_setaffinity(0, cpus[index::workers])


async def main(lent: Lent, stop: asyncio.Event, log_buffer: LogBuffer) -> None:
    """Run one worker."""
    keep_apart(lent.index, lent.workers)
    await Worker(lent, log_buffer).run(stop)


if __name__ == "__main__":
    child.run(lambda lent: f"worker {lent.index}", main, uvloop.new_event_loop)
