"""UDP ASSOCIATE (RFC 1928 §4, §6, §7): every association, and the one UDP port that they share.

One process holds the port, since a datagram goes to whoever reads first, and only it knows the associations. It is
one published port, so a datagram tells by its source alone to which association it belongs. Behind docker-proxy,
and behind every desktop's relay, that source is the bridge's gateway with a port that nobody has announced. Hence:

- A new source takes the oldest association of the same address that has no source yet; if there is none, its
  datagrams are dropped.
- So two programs of one host may have taken each other's association, and neither notices: an association is no more
  than the right to one source. But the end of one's TCP connection must not silence the other. Therefore a source
  outlives the association that it took, until its address has none left, or UDP_IDLE_SECONDS passed without a datagram.

    association:   WAITING ──first datagram of a new source──▶ TAKEN ──its source was idle──▶ WAITING
                      └───────────── the client's TCP connection ends ─────┴──▶ gone
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from dconnect.core.address import IPAddress
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import UdpSession
from dconnect.core.failure import Failure
from dconnect.core.limits import (
    UDP_ASSOCIATIONS,
    UDP_ASSOCIATIONS_PER_ADDRESS,
    UDP_DATAGRAMS_PER_SOCKET,
    UDP_HELD_BYTES,
    UDP_IDLE_SECONDS,
    UDP_LOOKUPS,
    UDP_SOCKETS_PER_TURN,
)
from dconnect.core.tasks import Tasks
from dconnect.proxy.dial import Dial
from dconnect.proxy.door import Ended
from dconnect.proxy.flow import Flow, Source, reason_of
from dconnect.proxy.policy import Policy
from dconnect.proxy.poller import HANGUP, Channel, Poller
from dconnect.proxy.wire import socks5, udp

_DATAGRAM_BYTES = 65_535
"""No UDP datagram is larger."""
_SWEEPS = 8
"""Looks for idle sources within the time that they may be idle: one may stay an eighth longer."""


class _Association:
    """One client's TCP connection, and the right to one source."""

    __slots__ = ("channel", "ended", "flow", "host", "record")

    def __init__(self, channel: Channel, host: _Host, record: UdpSession, ended: Ended) -> None:
        self.channel = channel
        self.host = host
        self.record = record
        self.ended = ended
        self.flow: Flow | None = None
        """The source that took it; others may be on its account."""


class _Host:
    """A client address."""

    __slots__ = ("address", "associations", "flows")

    def __init__(self, address: str) -> None:
        self.address = address
        self.associations: dict[_Association, None] = {}
        """Oldest first."""
        self.flows: set[Flow] = set()


class Associations:
    """Implements ``door.Associates``, and the ``flow.Port`` of all flows."""

    def __init__(
        self,
        *,
        poller: Poller,
        dial: Dial,
        policy: Callable[[], Policy],
        sock: socket.socket,
        bound: tuple[IPAddress, int],
        idle_seconds: float = UDP_IDLE_SECONDS,
    ) -> None:
        """Listen.

        Args:
            poller: watches the clients' connections.
            dial: resolves and judges destinations, and gives sockets.
            policy: the rules in force now; another object whenever they may judge otherwise.
            sock: the UDP port, non-blocking; it is owned from now on.
            bound: where clients reach that port, for BND.ADDR and BND.PORT.
            idle_seconds: after so long without a datagram a source is forgotten.
        """
        self.loop = poller.loop
        self.dial = dial
        self.policy = policy
        self.view = memoryview(bytearray(udp.MAX_HEADER_BYTES + _DATAGRAM_BYTES))
        self.relayed = {"up": 0, "down": 0}
        self.dropped: dict[str, int] = {}
        """Reason → datagrams; they only grow."""
        self._poller = poller
        self._sock = sock
        self._reply = socks5.reply(socks5.SUCCEEDED, bound)
        self._idle_seconds = idle_seconds
        self._hosts: dict[str, _Host] = {}
        self._associations: dict[_Association, None] = {}
        self._flows: dict[Source, Flow] = {}
        self._lookups = Tasks()
        self._held = 0
        self._sweeper: asyncio.TimerHandle | None = None
        # Level-triggered, so that a turn may stop anywhere; the kernel puts whoever was served last in the queue.
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {sock.fileno(): self._from_clients}
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self.loop.add_reader(self._epoll.fileno(), self._turn)

    # What the front door asks for.

    def take(self, channel: Channel, record: UdpSession, ended: Ended) -> bool:
        if self._sock.fileno() < 0:
            raise DialError(Failure.NOT_READY, "The agent stops and takes no further UDP associations.")
        address = record.peer.rpartition(":")[0]
        host = self._hosts.get(address) or _Host(address)
        if len(self._associations) >= UDP_ASSOCIATIONS:
            raise _too_many(f"The agent has {UDP_ASSOCIATIONS} UDP associations")
        if len(host.associations) >= UDP_ASSOCIATIONS_PER_ADDRESS:
            raise _too_many(f"{address} has {UDP_ASSOCIATIONS_PER_ADDRESS} UDP associations")
        association = _Association(channel, host, record, ended)
        self._hosts[address] = host
        host.associations[association] = self._associations[association] = None
        self._poller.replace(channel.fd, partial(self._client_ready, association))
        try:
            channel.sock.send(self._reply)
        except OSError as error:
            self.loop.call_soon(self._end, association, error)
        else:
            if channel.hung_up:
                self.loop.call_soon(self._client_ready, association, channel.hung_up)
        return True

    def sessions(self) -> list[UdpSession]:
        return [association.record for association in self._associations]

    async def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        for association in tuple(self._associations):
            self._end(association, OSError(errno.ESHUTDOWN, "the agent stopped"))
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._sock.close()
        await self._lookups.cancel()

    def _client_ready(self, association: _Association, mask: int) -> None:
        """Only the end counts: the connection carries nothing, so what a client sends stays in the kernel."""
        if mask & HANGUP and association in self._associations:
            code = association.channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._end(association, OSError(code, "client") if code else None)

    def _end(self, association: _Association, error: OSError | None) -> None:
        if association not in self._associations:
            return
        host = association.host
        del self._associations[association], host.associations[association]
        if not host.associations:
            for flow in tuple(host.flows):
                self._forget(flow)
            del self._hosts[host.address]
        else:
            heir = next(iter(host.associations))
            for flow in host.flows:
                if flow.record is association.record:
                    flow.record = heir.record
        association.channel.close()
        association.ended(association.record, error)

    # Datagrams.

    def _turn(self) -> None:
        for fd, _ in self._epoll.poll(0, UDP_SOCKETS_PER_TURN):
            reader = self._readers.get(fd)
            if reader is not None:
                reader()

    def _from_clients(self) -> None:
        view = self.view
        for _ in range(UDP_DATAGRAMS_PER_SOCKET):
            try:
                count, source = self._sock.recvfrom_into(view)
            except OSError:  # mostly BlockingIOError
                return
            flow = self._flows.get(source)
            try:
                destination, offset = udp.parse_header(view[:count])
                flow = flow or self._bind(source)
                if flow is None:
                    self.drop("no_association", None)
                else:
                    flow.send(destination, view[offset:count])
            except MalformedMessage as error:
                reason = "fragment" if isinstance(error, udp.Fragmented) else "malformed"
                self.drop(reason, flow)
            except DialError as error:
                self.drop(error.failure.name.lower(), flow, str(error))

    def _bind(self, source: Source) -> Flow | None:
        """A new source takes the oldest association of its address that no other has taken."""
        host = self._hosts.get(source[0])
        if host is None:
            return None
        for association in host.associations:
            if association.flow is None:
                break
        else:
            return None
        if len(host.flows) >= UDP_ASSOCIATIONS_PER_ADDRESS:  # some took associations that are gone
            taken = {each.flow for each in host.associations}
            self._forget(min(host.flows - taken, key=lambda flow: flow.last))
        flow = Flow(self, source, association.record)
        association.flow = self._flows[source] = flow
        host.flows.add(flow)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(self._idle_seconds / _SWEEPS, self._sweep)
        return flow

    def _forget(self, flow: Flow) -> None:
        flow.close()
        del self._flows[flow.source]
        host = self._hosts[flow.source[0]]
        host.flows.discard(flow)
        for association in host.associations:
            if association.flow is flow:
                association.flow = None

    def _sweep(self) -> None:
        idle_since = self.loop.time() - self._idle_seconds
        for flow in [flow for flow in self._flows.values() if flow.last <= idle_since]:
            self._forget(flow)
        again = self._idle_seconds / _SWEEPS
        self._sweeper = self.loop.call_later(again, self._sweep) if self._flows else None

    # What flows ask for.

    def look_up(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        if len(self._lookups) >= UDP_LOOKUPS:
            coroutine.close()
            return False
        _ = self._lookups.start(coroutine, "datagram's destination")
        return True

    def hold(self, count: int) -> bool:
        if self._held + count > UDP_HELD_BYTES:
            return False
        self._held += count
        return True

    def release(self, count: int) -> None:
        self._held -= count

    def watch(self, sock: socket.socket, flow: Flow) -> None:
        self._epoll.register(sock.fileno(), select.EPOLLIN)  # fails where the machine watches no further sockets
        self._readers[sock.fileno()] = partial(flow.receive, sock)

    def unwatch(self, sock: socket.socket) -> None:
        del self._readers[sock.fileno()]
        self._epoll.unregister(sock.fileno())
        sock.close()

    def send_back(self, start: int, end: int, flow: Flow) -> None:
        record = flow.record
        try:
            self._sock.sendto(self.view[start:end], flow.source)
        except OSError as error:
            self.drop(reason_of(error), flow)
            return
        self.relayed["down"] += 1
        record.datagrams_down += 1
        record.bytes_down += end - udp.MAX_HEADER_BYTES

    def drop(self, reason: str, flow: Flow | None, detail: str = "") -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if flow is not None:
            record = flow.record
            record.dropped[reason] = record.dropped.get(reason, 0) + 1
            record.detail = detail or record.detail


def _too_many(what: str) -> DialError:
    return DialError(Failure.NOT_READY, f"{what}, which is as many as may be; close some, then try again.")
