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
from collections.abc import Iterator
from ipaddress import IPv4Address

import structlog
import uvloop

from dconnect.agent import bus, child
from dconnect.agent.describing import describe
from dconnect.agent.handover import Handover, LinkHandover, reception, relay_reception
from dconnect.agent.informed import Informed
from dconnect.agent.knowledge import Knowledge
from dconnect.agent.lent import Lent, borrow
from dconnect.agent.log import LogBuffer
from dconnect.agent.ownnet import OwnNetwork, own_network
from dconnect.agent.passing import Receiver
from dconnect.agent.sessions import Sessions
from dconnect.core.address import IPAddress, parse_ip
from dconnect.core.config import AgentConfig
from dconnect.core.inventory import Inventory
from dconnect.core.limits import (
    CONNECTIONS_TOLD,
    DNS_PATIENCE_SECONDS,
    FDS_PER_CLIENT,
    FIRST_INVENTORY_SECONDS,
    MAX_CLIENTS_PER_WORKER,
    SESSION_TEXT_CHARS,
)
from dconnect.core.priority import be_prompt
from dconnect.dns import DnsServer
from dconnect.proxy.associate import Associations
from dconnect.proxy.dial import Dial
from dconnect.proxy.door import Accepts
from dconnect.proxy.frontdoor import FrontDoor
from dconnect.proxy.lookup import Lookup
from dconnect.proxy.poller import Poller

_RESERVED_DESCRIPTORS = 512
"""Not for clients: pooled sockets, DNS over TCP, idle upstreams."""

log = structlog.get_logger()


class Worker:
    """The wiring of one worker."""

    def __init__(self, lent: Lent, log_buffer: LogBuffer) -> None:
        self._lent = lent
        self._config = config = lent.config
        self._sessions = Sessions(log_buffer)
        self._known = known = Knowledge(config, OwnNetwork() if config.embedded else own_network())
        self._informed = Informed(lent.bus_path, self)
        self._poller = Poller()
        dial = known.dial(self._poller, lent.api_path)
        self._associations = self._associate(dial) if lent.index == 0 else None
        self._links = LinkHandover(lent.link_path, config.tun) if lent.tun else None
        self._door = FrontDoor(
            poller=self._poller,
            listener=borrow(lent.front),
            dial=dial,
            describe=lambda host, address: describe(known.zone, host, address),
            associates=self._associations or Handover(lent.handover_path),
            observer=self._sessions,
            admits=known.admits,
            hosts=own_hosts(config.bind, config.suffixes),
            max_clients=_max_clients(),
            lookup=Lookup(resolve=known.names, reverse=known.names.name_of, judge=known.judge),
            accepts=_accepts(config.auth),
            links=self._links,
        )
        self._receptions = list(self._receive())
        self._dns = DnsServer(
            udp=[borrow(lent.dns_udp)],
            tcp=[borrow(lent.dns_tcp)],
            admits=known.admits,
            resolver=known.resolver,
            forward=known.forwarder.answer,
            # One worker has the datagrams of names, the first those of SOCKS.
            patience=0 if lent.index == lent.workers - 1 else DNS_PATIENCE_SECONDS,
        )

    def _receive(self) -> Iterator[Receiver]:
        """Where other processes hand clients over."""
        if self._associations is not None:
            yield reception(self._lent.handover_path, self._door.adopt)
        if self._lent.tun:
            yield relay_reception(self._lent.relay_path(self._lent.index), self._door.take_relay)

    def _associate(self, dial: Dial) -> Associations:
        return Associations(
            poller=self._poller,
            dial=dial,
            policy=self._known.judgement,
            sock=borrow(self._lent.front_udp),
            bound=published(self._config),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, then drain."""
        self._known.start()
        async with asyncio.TaskGroup() as tasks:  # whose end is ours: without the link we would serve the past
            link = tasks.create_task(self._informed.run(), name="bus")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._known.informed.wait(), FIRST_INVENTORY_SECONDS)
            self._door.start()
            for each in self._receptions:
                each.start()
            await self._dns.start()
            log.info("worker ready")
            await stop.wait()
            for each in self._receptions:
                each.close()
            await asyncio.gather(self._door.drain(), self._dns.close())
            link.cancel()
        if self._links is not None:
            self._links.close()
        await self._known.close()
        self._poller.close()

    def publish(self, inventory: Inventory) -> None:
        self._known.publish(inventory)

    def counted(self) -> bus.Message:
        return {
            **dataclasses.asdict(self._sessions.counters),
            "index": self._lent.index,
            "pid": os.getpid(),
            "dialer": self._known.dialer,
            "dns": dataclasses.asdict(self._known.resolver.counters),
            **self._datagrams(),
        }

    def _datagrams(self) -> bus.Message:
        associations = self._associations
        if associations is None:
            return {}
        return {"datagrams": associations.relayed, "datagrams_dropped": associations.dropped}

    def answer(self, ask: str) -> bus.Message:
        if ask == "report":
            report = self.counted()
            report["open_bytes_up"], report["open_bytes_down"] = self._door.bytes_moved()
            return report
        return {"index": self._lent.index, "total": self._sessions.counters.open, "connections": self._open()}

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
    if lent.tun:
        be_prompt()  # bulk goes on in carriers
    await Worker(lent, log_buffer).run(stop)


if __name__ == "__main__":
    child.run(lambda lent: f"worker {lent.index}", main, uvloop.new_event_loop)
