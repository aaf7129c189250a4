"""The gateway's process: the agent's end of the links, wired to the same names, rules and sockets as the workers."""

from __future__ import annotations

if __name__ == "__main__":
    from dconnect.agent import no_tls

    no_tls.pretend()

import asyncio
import contextlib
import dataclasses
import itertools
import os
import resource
import socket
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_network

import structlog
import uvloop

from dconnect.agent import bus, child, labels
from dconnect.agent.handover import RelayHandover, link_reception
from dconnect.agent.informed import Informed
from dconnect.agent.knowledge import Knowledge
from dconnect.agent.lent import Lent
from dconnect.agent.log import LogBuffer
from dconnect.agent.ownnet import own_network
from dconnect.agent.sessions import Sessions
from dconnect.agent.steering import steer
from dconnect.agent.trunks import Trunks
from dconnect.core.address import IPAddress, IPNetwork
from dconnect.core.config import TUNNEL_SUBNET_V6
from dconnect.core.errors import DconnectError, DialError
from dconnect.core.events import Session
from dconnect.core.failure import Failure, from_errno
from dconnect.core.inventory import Inventory
from dconnect.core.keepalive import watch_peer
from dconnect.core.limits import (
    CONNECTIONS_TOLD,
    DNS_FORWARDS_WAITING,
    FIRST_INVENTORY_SECONDS,
    PACKET_BYTES,
    TRUNK_STREAMS,
    TUNNEL_ECHO_FLOWS,
    TUNNEL_UDP_FLOWS,
)
from dconnect.core.priority import be_prompt
from dconnect.core.tasks import Tasks
from dconnect.dns import Elsewhere
from dconnect.proxy.fiber import Fibers
from dconnect.proxy.policy import ON_THE_LAN
from dconnect.proxy.poller import Poller
from dconnect.proxy.wire.socks5 import TRUNK_KEY_BYTES
from dconnect.tunnel.device import inherited_device
from dconnect.tunnel.gateway import Gateway, Plan
from dconnect.tunnel.gateway.listeners import listen
from dconnect.tunnel.gateway.tcp import cut
from dconnect.tunnel.gateway.ways import Dials

_RESERVED_DESCRIPTORS = TUNNEL_UDP_FLOWS + TUNNEL_ECHO_FLOWS + 512
"""Not for streams, which have one each, and another while they move: flows, links, trunks and pooled sockets."""

log = structlog.get_logger()


class AgentWays:
    """``tunnel.gateway.Ways`` over what the agent has."""

    def __init__(self, lent: Lent, known: Knowledge, plan: Plan, sessions: Sessions, poller: Poller) -> None:
        self._known = known
        self._plan = plan
        self._sessions = sessions
        self._dial = known.dial(poller, lent.api_path)
        self.dials: Dials = Fibers(poller.loop)
        self._relays = RelayHandover([lent.relay_path(index) for index in range(lent.workers)])
        self._asked = Tasks()
        """Names that are asked elsewhere."""

    async def connect(self, address: IPAddress, port: int, session: Session) -> socket.socket:
        self._refuse_neighbours(address)
        return await self._dial.unwatched(address, port, session)

    async def own_dns(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", labels.DNS_CONTAINER_PORT))
        except OSError as error:
            sock.close()
            raise DialError(from_errno(error.errno or 0), "The agent's own DNS server is restarting.") from error
        return sock

    async def datagram(self, address: IPAddress, port: int) -> socket.socket:
        await self._allow(address)
        return _connected(await self._known.sockets.datagram(address), address, port)

    async def echo(self, address: IPAddress) -> socket.socket:
        await self._allow(address)
        return _connected(await self._known.sockets.ping(address), address, 0)

    def relay(self, client: socket.socket, upstream: socket.socket, session: Session) -> bool:
        return self._relays.give(client, upstream, session)

    def give_up(self, upstream: socket.socket) -> None:
        cut(upstream)

    def answer(self, query: bytes, respond: Callable[[bytes], None]) -> None:
        answer = self._known.resolver.respond(query)
        if isinstance(answer, Elsewhere):
            if len(self._asked) < DNS_FORWARDS_WAITING:
                _ = self._asked.start(self._ask(answer, respond), "tunnel dns query")
        elif answer is not None:
            respond(answer)

    def prepare(self, listener: socket.socket) -> None:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch_peer(listener)

    def ended(self, session: Session) -> None:
        self._sessions.ended(session)

    async def close(self) -> None:
        """Give up questions and connections to the workers."""
        await self._asked.cancel()
        self._relays.close()

    async def _ask(self, asked: Elsewhere, respond: Callable[[bytes], None]) -> None:
        respond(await self._known.forwarder.answer(asked.query, asked.limit))

    async def _allow(self, address: IPAddress) -> None:
        self._refuse_neighbours(address)
        objection = await self._known.judge.objection(address)
        if objection:
            raise DialError(Failure.POLICY, f"{address} is not allowed: {objection}.")

    def _refuse_neighbours(self, address: IPAddress) -> None:
        """Another link's host is nobody's to reach; and from the engine its address would lead who knows where.

        Raises: DialError.
        """
        if address in self._plan.subnet4 or address in self._plan.subnet6:
            raise DialError(Failure.HOST_UNREACHABLE, f"{address} is an address of the tunnel itself.")


def _connected(sock: socket.socket, address: IPAddress, port: int) -> socket.socket:
    try:
        sock.connect((str(address), port))
    except OSError as error:
        sock.close()
        raise DialError(from_errno(error.errno or 0), f"{address} is not reachable: {error.strerror}.") from error
    return sock


class GatewayProcess:
    """The wiring of it."""

    def __init__(self, lent: Lent, log_buffer: LogBuffer) -> None:
        """Wire it. Raises: DconnectError."""
        self._lent = lent
        self._plan = plan = Plan(lent.config.tunnel_subnet(), TUNNEL_SUBNET_V6)
        device = inherited_device([os.dup(fd) for fd in lent.tun], PACKET_BYTES)
        self._sessions = Sessions(log_buffer)
        self._known = Knowledge(lent.config, own_network(), (plan.own4, plan.own6))
        self._informed = Informed(lent.bus_path, self)
        self._poller = Poller()
        self._ways = AgentWays(lent, self._known, plan, self._sessions, self._poller)
        self._gateway = Gateway(
            device=device,
            plan=plan,
            ways=self._ways,
            listen=lambda version, port: listen(version, port, device.name),
        )
        self._trunks = Trunks(self._poller, self._ways, self._sessions, _most_streams())
        self._reception = link_reception(lent.link_path, self._adopt)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        self._known.start()
        async with asyncio.TaskGroup() as tasks:
            informed = tasks.create_task(self._informed.run(), name="bus")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._known.informed.wait(), FIRST_INVENTORY_SECONDS)
            self._gateway.start()
            self._reception.start()
            log.info("gateway ready", subnet=str(self._plan.subnet4))
            await stop.wait()
            self._reception.close()
            self._trunks.close()
            await self._gateway.close()
            await self._ways.close()
            informed.cancel()
        await self._known.close()
        self._poller.close()

    def _adopt(self, sock: socket.socket, session: Session, early: bytes, key: bytes) -> None:
        """What the workers hand over, as ``door.Links.take`` has it."""
        if session.front == "link":
            self._gateway.adopt(sock, session, early)
        elif session.front == "trunk":
            self._trunks.adopt(sock, session, early, key[:TRUNK_KEY_BYTES])
        else:
            self._trunks.move(sock, early, key[:TRUNK_KEY_BYTES], int.from_bytes(key[TRUNK_KEY_BYTES:]))

    def publish(self, inventory: Inventory) -> None:
        self._known.publish(inventory)
        self._gateway.publish(subnets(inventory))

    def counted(self) -> bus.Message:
        return {
            **dataclasses.asdict(self._sessions.counters),
            "index": self._lent.index,
            "pid": os.getpid(),
            "dialer": self._known.dialer,
            "dns": dataclasses.asdict(self._known.resolver.counters),
            "tunnel": self._gateway.counted(),
        }

    def answer(self, ask: str) -> bus.Message:
        if ask == "report":
            return self.counted()
        now = time.monotonic()
        links = [
            {
                "peer": session.peer,
                "front": session.front,
                "target": session.target,
                "address": session.address,
                "state": "relaying" if session.target else "handshake",
                "bytes_up": session.bytes_up,
                "bytes_down": session.bytes_down,
                "age_s": round(now - session.started, 3),
                "worker": self._lent.index,
            }
            for session in itertools.islice((*self._gateway.sessions(), *self._trunks.sessions()), CONNECTIONS_TOLD)
        ]
        return {"index": self._lent.index, "total": len(links), "connections": links}


def _most_streams() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(TRUNK_STREAMS, (soft - _RESERVED_DESCRIPTORS) // 2))


def subnets(inventory: Inventory) -> Iterable[IPNetwork]:
    """What hosts are to route to us, in order: the engine's own networks, never the LAN that a macvlan is part of."""
    texts = {subnet for network in inventory.networks if network.driver not in ON_THE_LAN for subnet in network.subnets}
    return sorted((ip_network(text, strict=False) for text in texts), key=lambda each: (each.version, each))


async def main(lent: Lent, stop: asyncio.Event, log_buffer: LogBuffer) -> None:
    """Run the gateway."""
    be_prompt()
    try:
        # In a thread, because pyroute2 runs an event loop of its own.
        await asyncio.to_thread(steer, labels.TUN_NAME, lent.config.tunnel_subnet(), TUNNEL_SUBNET_V6)
        process = GatewayProcess(lent, log_buffer)
    except DconnectError as error:
        log.critical("the tunnel cannot be set up", reason=str(error))
        raise SystemExit(1) from None
    await process.run(stop)


if __name__ == "__main__":
    child.run(lambda _: "gateway", main, uvloop.new_event_loop, keeps_rights=True)
