"""Flows that need no kernel of ours: each has one connected socket, and is forgotten when it was idle for long.

first packet ──▶ OPENING (packets wait, in bounds) ──judged, socket there──▶ OPEN ──idle, or room is needed──▶ gone
                    └──▶ REFUSED for a moment: each packet is told why
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import secrets
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeAlias

from dconnect.core.errors import DialError
from dconnect.core.limits import TUNNEL_HELD_BYTES, TUNNEL_HELD_PACKETS, UDP_REFUSED_SECONDS
from dconnect.core.tasks import Tasks
from dconnect.tunnel.gateway import errors
from dconnect.tunnel.gateway.link import Link
from dconnect.tunnel.gateway.router import Router
from dconnect.tunnel.wire.packets import Packet

Opens: TypeAlias = Callable[[], Awaitable[socket.socket]]

_SWEEPS = 8
"""Looks for idle flows within the time that they may be idle."""
_QUOTE_BYTES = 128
"""Of a packet that may have to be told of later: its headers, and what lets the sender know its flow."""
_HOP_OPTIONS = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}


class Flow:
    """One flow of one link."""

    __slots__ = ("code", "held", "hops", "key", "last", "link", "number", "quote", "sock", "until")

    def __init__(self, link: Link, key: Any, number: int, quote: Packet) -> None:
        self.link = link
        self.key = key
        self.number = number
        """Of 16 bits; few other flows have the same."""
        self.hops = 0
        """Of the last packet, and set on the socket; 0 while it has its own."""
        self.sock: socket.socket | None = None
        self.quote = quote
        """The last packet's beginning."""
        self.held: list[Packet] | None = []
        """Packets that wait for the socket; None when they need not."""
        self.code: int | None = None
        """What each packet is told while the flow is refused; None is silence."""
        self.until = 0.0
        """When the flow is no longer refused."""
        self.last = 0.0


class Flows:
    """All flows of one protocol. ``send`` and ``receive`` are the protocol's."""

    def __init__(
        self,
        router: Router,
        name: str,
        most: int,
        idle_seconds: float,
        send: Callable[[Flow, socket.socket, Packet], None],
        receive: Callable[[Flow, socket.socket], None],
    ) -> None:
        """Begin with none.

        Args:
            router: the gateway.
            name: of the protocol, in the counters.
            most: flows at once.
            idle_seconds: after so long without a packet a flow is forgotten.
            send: sends a packet's contents through a flow's socket. May raise OSError.
            receive: reads a flow's socket, a few times at most. May raise OSError.
        """
        self._router = router
        self._loop = router.loop
        self._name = name
        self._most = most
        self._idle_seconds = idle_seconds
        self._send = send
        self._receive = receive
        self._flows: OrderedDict[Hashable, Flow] = OrderedDict()
        """The one used last stands last."""
        self._opening = Tasks()
        self._held = 0
        """Bytes that wait, of all."""
        self._numbers = itertools.count(secrets.randbits(16))
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self, link: Link, key: Hashable, packet: Packet, opens: Opens) -> None:
        """Take a packet from a host; ``opens`` gets a new flow's socket, or raises DialError."""
        now = self._loop.time()
        flow = self._flows.get(key)
        if flow is not None and flow.until and now >= flow.until:
            self.forget(flow)
            flow = None
        if flow is None:
            flow = self._new(link, key, packet, opens)
        else:
            self._flows.move_to_end(key)
        flow.last = now
        if flow.sock is not None:
            flow.quote = _quote(packet)
            self._pass(flow, flow.sock, packet)
        elif flow.held is not None:
            self._hold(flow, packet)
        else:
            self._tell(flow, packet)

    def forget(self, flow: Flow) -> None:
        """Close a flow's socket."""
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
        for packet in flow.held or ():
            self._held -= len(packet.raw)
        flow.held = None
        if flow.sock is not None:
            self._loop.remove_reader(flow.sock)
            flow.sock.close()
            flow.sock = None
        self._router.counters.flows[self._name] = len(self._flows)

    def forget_link(self, link: Link) -> None:
        """A link is lost, and its flows with it."""
        for flow in [flow for flow in self._flows.values() if flow.link is link]:
            self.forget(flow)

    async def close(self) -> None:
        """Forget all."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._opening.cancel()
        for flow in tuple(self._flows.values()):
            self.forget(flow)

    def _new(self, link: Link, key: Hashable, packet: Packet, opens: Opens) -> Flow:
        if len(self._flows) >= self._most:
            self.forget(next(iter(self._flows.values())))
        flow = self._flows[key] = Flow(link, key, next(self._numbers) & 0xFFFF, _quote(packet))
        self._router.counters.flows[self._name] = len(self._flows)
        _ = self._opening.start(self._open(flow, opens), f"tunnel {self._name}")
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_seconds / _SWEEPS, self._sweep)
        return flow

    async def _open(self, flow: Flow, opens: Opens) -> None:
        sock = None
        try:
            sock = await opens()
        except DialError as error:
            icmp = error.failure.value.icmp
            flow.code = icmp[1] if icmp is not None else None
            flow.until = self._loop.time() + UDP_REFUSED_SECONDS
        if self._flows.get(flow.key) is not flow:  # forgotten meanwhile
            if sock is not None:
                sock.close()
            return
        held, flow.held = flow.held or [], None
        if sock is not None:
            errors.watch(sock)
            flow.sock = sock
            self._loop.add_reader(sock, self._readable, flow, sock)
        for packet in held:
            self._held -= len(packet.raw)
            if flow.sock is not None:
                self._pass(flow, flow.sock, packet)
            else:
                self._tell(flow, packet)

    def _hold(self, flow: Flow, packet: Packet) -> None:
        assert flow.held is not None
        size = len(packet.raw)
        if len(flow.held) >= TUNNEL_HELD_PACKETS or self._held + size > TUNNEL_HELD_BYTES:
            self._router.counters.drop("full")
            return
        raw = memoryview(bytes(packet.raw))
        flow.held.append(packet._replace(raw=raw, payload=raw[size - len(packet.payload) :]))
        self._held += size

    def _tell(self, flow: Flow, packet: Packet) -> None:
        self._router.counters.drop("refused")
        if flow.code is not None:
            self._router.unreachable(flow.link, packet, flow.code)

    def _pass(self, flow: Flow, sock: socket.socket, packet: Packet) -> None:
        hops = packet.raw[8 if packet.version == 4 else 7]
        try:
            if hops != flow.hops and hops:
                sock.setsockopt(*_HOP_OPTIONS[sock.family], hops)
                flow.hops = hops
            self._send(flow, sock, packet)
        except BlockingIOError:
            self._router.counters.drop("full")
        except OSError as error:
            if not self._failed(flow, sock, error):
                self._router.counters.drop("too_large" if error.errno == errno.EMSGSIZE else "failed")
                return
            # The error was about an earlier one; the socket is good, and this one has not been sent.
            try:
                self._send(flow, sock, packet)
            except OSError:
                self._router.counters.drop("failed")

    def _readable(self, flow: Flow, sock: socket.socket) -> None:
        try:
            self._receive(flow, sock)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(flow, sock, error)

    def _failed(self, flow: Flow, sock: socket.socket, error: OSError) -> bool:
        """Tell the host what the network said; whether it said something."""
        code = errors.code_of(sock, error)
        if code is None:
            return False
        self._router.unreachable(flow.link, flow.quote, code)
        return True

    def _sweep(self) -> None:
        since = self._loop.time() - self._idle_seconds
        for flow in [flow for flow in self._flows.values() if flow.last <= since]:
            self.forget(flow)
        again = self._idle_seconds / _SWEEPS
        self._sweeper = self._loop.call_later(again, self._sweep) if self._flows else None


def _quote(packet: Packet) -> Packet:
    raw = memoryview(bytes(packet.raw[:_QUOTE_BYTES]))
    return packet._replace(raw=raw, payload=raw[len(raw) :])
