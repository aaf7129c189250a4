"""Pings from hosts: real echo requests, with an identifier of ours, and what really comes back.

A host's identifier means nothing outside: programs on several hosts, or beside us in the engine, may have the same.
"""

from __future__ import annotations

import socket
import struct
from functools import partial
from typing import NamedTuple

from dconnect.core.limits import TUNNEL_ECHO_FLOWS, TUNNEL_ECHO_SECONDS, UDP_DATAGRAMS_PER_SOCKET
from dconnect.tunnel.gateway.flows import Flow, Flows
from dconnect.tunnel.gateway.link import Link
from dconnect.tunnel.gateway.router import Router, address_of
from dconnect.tunnel.wire import icmp
from dconnect.tunnel.wire.icmp import Echo
from dconnect.tunnel.wire.packets import HOPS, Packet, with_hops

_MESSAGE_BYTES = 65_535 + 60
"""A packet's most, and more than its header."""
_HEADERS = {4: 20, 6: 40}
_REPLIES = {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")
_HOPS = struct.Struct("=i")


class _Key(NamedTuple):
    host: bytes
    address: bytes
    identifier: int
    """The host's."""


class Pings:
    """The flows of all links."""

    def __init__(self, router: Router, idle_seconds: float = TUNNEL_ECHO_SECONDS) -> None:
        self._router = router
        self._view = memoryview(bytearray(_MESSAGE_BYTES))
        self.flows = Flows(router, "echo", TUNNEL_ECHO_FLOWS, idle_seconds, self._send, self._receive)

    def packet(self, link: Link, packet: Packet) -> None:
        """Take a whole ICMP message from a host. Raises: MalformedMessage."""
        echo = icmp.parse_echo(packet)
        if echo is None or not echo.is_request:
            self._router.counters.drop("icmp")  # nothing of ours asks a host anything
            return
        if self._router.is_own(packet.destination):
            answer = Echo(False, echo.identifier, echo.sequence, echo.data)
            self._router.send(link, icmp.echo_packet(packet.destination, packet.source, answer))
            return
        key = _Key(packet.source, packet.destination, echo.identifier)
        self.flows.take(link, key, packet, partial(self._router.ways.echo, address_of(packet.destination)))

    @staticmethod
    def _send(flow: Flow, sock: socket.socket, packet: Packet) -> None:
        _, _, _, _, sequence = _HEADER.unpack_from(packet.payload)
        echo = Echo(True, flow.number, sequence, packet.payload[_HEADER.size :])
        sock.send(icmp.echo_packet(packet.source, packet.destination, echo)[_HEADERS[packet.version] :])

    def _receive(self, flow: Flow, sock: socket.socket) -> None:
        key: _Key = flow.key
        version = 4 if len(key.address) == 4 else 6
        for _ in range(UDP_DATAGRAMS_PER_SOCKET):
            size, ancillary, _, _ = sock.recvmsg_into([self._view], 64)
            if version == 4:  # a raw socket gives the packet
                hops, message = self._view[8], self._view[(self._view[0] & 15) * 4 : size]
            else:
                hops, message = _hop_limit(ancillary), self._view[:size]
            if len(message) < _HEADER.size:
                continue
            kind, code, _, identifier, sequence = _HEADER.unpack_from(message)
            if kind != _REPLIES[version] or code or identifier != flow.number:
                continue  # the answer to somebody else's ping
            flow.last = self._router.loop.time()
            answer = Echo(False, key.identifier, sequence, message[_HEADER.size :])
            self._router.send(flow.link, with_hops(icmp.echo_packet(key.address, key.host, answer), hops))


def _hop_limit(ancillary: list[tuple[int, int, bytes]]) -> int:
    """What the kernel tells of an IPv6 packet (RFC 3542 §6.3)."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) and len(data) == _HOPS.size:
            (hops,) = _HOPS.unpack(data)
            return int(hops)
    return HOPS
