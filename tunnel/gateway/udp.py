"""UDP from hosts: a socket for each flow, as a NAT would have it (RFC 4787), and names at our own address."""

from __future__ import annotations

import socket
from functools import partial

from dconnect.core.limits import TUNNEL_UDP_FLOWS, UDP_DATAGRAMS_PER_SOCKET, UDP_IDLE_SECONDS
from dconnect.tunnel.gateway.flows import Flow, Flows
from dconnect.tunnel.gateway.link import Link
from dconnect.tunnel.gateway.router import Router, address_of
from dconnect.tunnel.gateway.tcp import DNS_PORT
from dconnect.tunnel.wire import icmp, udp
from dconnect.tunnel.wire.packets import Packet

_DATAGRAM_BYTES = 65_535
"""No UDP datagram is larger."""


class Datagrams:
    """The flows of all links."""

    def __init__(self, router: Router, idle_seconds: float = UDP_IDLE_SECONDS) -> None:
        self._router = router
        self._view = memoryview(bytearray(_DATAGRAM_BYTES))
        self.flows = Flows(router, "udp", TUNNEL_UDP_FLOWS, idle_seconds, self._send, self._receive)

    def packet(self, link: Link, packet: Packet) -> None:
        """Take a whole datagram from a host. Raises: MalformedMessage."""
        datagram = udp.parse(packet)
        if self._router.is_own(packet.destination):
            self._own(link, packet, datagram)
            return
        key = (packet.source, datagram.source_port, packet.destination, datagram.destination_port)
        address = address_of(packet.destination)
        opens = partial(self._router.ways.datagram, address, datagram.destination_port)
        self.flows.take(link, key, packet, opens)

    def _own(self, link: Link, packet: Packet, datagram: udp.Datagram) -> None:
        if datagram.destination_port != DNS_PORT:
            self._router.unreachable(link, packet, icmp.PORT)
            return
        respond = partial(self._give, link, (packet.destination, DNS_PORT), (packet.source, datagram.source_port))
        self._router.ways.answer(bytes(datagram.payload), respond)

    def _give(self, link: Link, source: tuple[bytes, int], destination: tuple[bytes, int], payload: bytes) -> None:
        self._router.send(link, udp.packet(source, destination, payload))

    @staticmethod
    def _send(flow: Flow, sock: socket.socket, packet: Packet) -> None:
        del flow
        sock.send(udp.parse(packet).payload)

    def _receive(self, flow: Flow, sock: socket.socket) -> None:
        host, port, address, peer_port = flow.key  # as ``packet`` made it
        for _ in range(UDP_DATAGRAMS_PER_SOCKET):
            size = sock.recv_into(self._view)
            flow.last = self._router.loop.time()
            try:
                made = udp.packet((address, peer_port), (host, port), self._view[:size])
            except ValueError:  # of IPv6 a jumbogram's size, which no host of ours takes
                self._router.counters.drop("too_large")
                continue
            self._router.send(flow.link, made)
