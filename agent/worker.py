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
import socket
import time
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import structlog
import uvloop

from dconnect.agent import bus, child, labels, upstream
from dconnect.agent.describing import describe
from dconnect.agent.handover import Handover, Reception
from dconnect.agent.lent import Lent, borrow
from dconnect.agent.log import LogBuffer
from dconnect.agent.names import Names, not_informed
from dconnect.agent.ownnet import OwnNetwork, own_network
from dconnect.agent.sessions import Sessions
from dconnect.agent.sockets import DialerSockets, LocalSockets
from dconnect.core.address import IPAddress, parse_ip
from dconnect.core.backoff import backoff
from dconnect.core.config import FRONT_DOOR_PORT, AgentConfig
from dconnect.core.inventory import Inventory
from dconnect.core.limits import (
    CONNECTIONS_TOLD,
    FDS_PER_CLIENT,
    FIRST_INVENTORY_SECONDS,
    MAX_CLIENTS_PER_WORKER,
    SESSION_TEXT_CHARS,
)
from dconnect.core.rules import Rules
from dconnect.dns import DnsServer, Forwarder, Resolver, Zone, build
from dconnect.proxy.associate import Associations
from dconnect.proxy.dial import Dial
from dconnect.proxy.door import Accepts
from dconnect.proxy.frontdoor import FrontDoor
from dconnect.proxy.judge import Judge
from dconnect.proxy.lookup import Lookup
from dconnect.proxy.policy import Admission, Policy
from dconnect.proxy.poller import Poller

_REPORT_SECONDS = 1.0
_RESERVED_DESCRIPTORS = 512
"""Not for clients: pooled sockets, DNS over TCP, idle upstreams."""

log = structlog.get_logger()


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
        self._resolver = Resolver(forwards=self._may_ask if self._config.dns_forward else None)
        self._forwarder = Forwarder(upstream.servers(self._config), socket.gethostname(), log.warning)
        self._names = Names(lambda: self._zone, self._config.egress, rules=self._rules)
        judge = Judge(self._judgement, self._sockets.is_local)
        dial = Dial(
            poller=self._poller,
            resolve=self._names,
            sockets=self._sockets,
            judge=judge,
            own_service=lent.api_path,
            own_ports=frozenset((80, FRONT_DOOR_PORT, self._config.port)),
        )
        self._associations = self._associate(dial) if lent.index == 0 else None
        self._door = FrontDoor(
            poller=self._poller,
            listener=borrow(lent.front),
            dial=dial,
            describe=lambda host, address: describe(self._zone, host, address),
            associates=self._associations or Handover(lent.handover_path),
            observer=self._sessions,
            admits=self.admits,
            hosts=own_hosts(self._config.bind, self._config.suffixes),
            max_clients=_max_clients(),
            lookup=Lookup(resolve=self._names, reverse=self._names.name_of, judge=judge),
            accepts=_accepts(self._config.auth),
        )
        self._reception = Reception(lent.handover_path, self._door.adopt)
        self._dns = DnsServer(
            udp=[borrow(lent.dns_udp)],
            tcp=[borrow(lent.dns_tcp)],
            admits=self.admits,
            resolver=self._resolver,
            forward=self._forwarder.answer,
        )

    def _associate(self, dial: Dial) -> Associations:
        return Associations(
            poller=self._poller,
            dial=dial,
            policy=self._judgement,
            sock=borrow(self._lent.front_udp),
            bound=published(self._config),
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
            if self._associations is not None:
                self._reception.start()
            await self._dns.start()
            log.info("worker ready")
            await stop.wait()
            self._reception.close()
            await asyncio.gather(self._door.drain(), self._dns.close())
            link.cancel()
        await self._forwarder.close()
        await self._sockets.close()
        self._poller.close()

    def _may_ask(self, name: str) -> bool:
        """Whether another domain's name may be asked elsewhere: the rules for dialing hold for looking up too."""
        if self._policy is None or self._policy.name_objection(name):
            return False
        return self._names.may_leave(name)

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
                    if "ask" in message:
                        self._answer(str(message["ask"]), writer)
                        continue
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
        writer.write(bus.encode(self._counted()))

    def _counted(self) -> bus.Message:
        dialer = not isinstance(self._sockets, DialerSockets) or self._sockets.connected
        return {
            **dataclasses.asdict(self._sessions.counters),
            "index": self._lent.index,
            "pid": os.getpid(),
            "serial": self._serial,
            "dialer": dialer,
            "dns": dataclasses.asdict(self._resolver.counters),
            **self._datagrams(),
        }

    def _datagrams(self) -> bus.Message:
        associations = self._associations
        if associations is None:
            return {}
        return {"datagrams": associations.relayed, "datagrams_dropped": associations.dropped}

    def _answer(self, ask: str, writer: asyncio.StreamWriter) -> None:
        """Answer what control asks on behalf of a person: nothing of this is done for nobody."""
        if ask == "report":
            report = self._counted()
            report["open_bytes_up"], report["open_bytes_down"] = self._door.bytes_moved()
        else:
            report = {"index": self._lent.index, "total": self._sessions.counters.open, "connections": self._open()}
        writer.write(bus.encode(report | {"answers": ask}))

    def _open(self) -> list[dict[str, str | int | float]]:
        """The newest connections, newest first."""
        now = time.monotonic()
        found = sorted(self._door.connections(CONNECTIONS_TOLD), key=lambda each: each[0].started, reverse=True)
        return [
            {
                "peer": session.peer,
                "front": session.front,
                "target": session.target[:SESSION_TEXT_CHARS],
                "address": session.address,
                "state": session.outcome if session.target or session.outcome != "open" else "handshake",
                "bytes_up": up,
                "bytes_down": down,
                "age_s": round(now - session.started, 3),
                "worker": self._lent.index,
            }
            for session, up, down in found[:CONNECTIONS_TOLD]
        ]


def own_hosts(bind: str, suffixes: tuple[str, ...]) -> frozenset[str]:
    """What may stand in the Host of a request for the agent itself."""
    return frozenset(("127.0.0.1", "localhost", "::1", bind, *(f"dconnect.{suffix}" for suffix in suffixes)))


def published(config: AgentConfig) -> tuple[IPAddress, int]:
    """Where clients reach the front door's UDP port (RFC 1928 §6, BND.ADDR); zeros where any address may be the one.

    A client takes zeros for the address at which it reached us over TCP.
    """
    address = parse_ip(config.bind)
    return (IPv4Address(0) if address is None or address.is_unspecified else address), config.port


def _accepts(auth: str) -> Accepts | None:
    """Who knows the right password; None when there is none."""
    if not auth:
        return None
    from dconnect.core.credentials import Verifier  # noqa: PLC0415 - hashing is wanted by few, and takes memory

    return Verifier(auth).accepts


def _max_clients() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(MAX_CLIENTS_PER_WORKER, int((soft - _RESERVED_DESCRIPTORS) / FDS_PER_CLIENT)))


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
