"""What the parts of a gateway (``tcp``, ``udp``, ``echo``) have in common, and may ask for."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from typing import Protocol, TypeVar

from dconnect.core.address import IPAddress, canonical
from dconnect.core.limits import TUNNEL_ERRORS_PER_SECOND, TUNNEL_KNOWN_ADDRESSES
from dconnect.tunnel.gateway.counters import Counters
from dconnect.tunnel.gateway.link import Link
from dconnect.tunnel.gateway.ways import Connects, U, Ways
from dconnect.tunnel.wire.packets import Packet

L_contra = TypeVar("L_contra", contravariant=True)
"""What tells one host's packets from another's."""


class TcpRouter(Protocol[L_contra, U]):
    """Whoever has the packets, as seen by ``tcp``."""

    loop: asyncio.AbstractEventLoop
    counters: Counters

    @property
    def ways(self) -> Connects[U]:
        """The way out."""

    def is_own(self, address: bytes) -> bool:
        """Whether it is the agent's end of the tunnel."""

    def admit(self, packet: memoryview) -> None:
        """Give a packet to the kernel that ends the connections."""

    def send(self, link: L_contra, packet: bytes) -> None:
        """Send a packet to a link's host, in fragments where its MTU wants them."""

    def unreachable(self, link: L_contra, packet: Packet, code: int) -> None:
        """Tell the host that a packet did not arrive, where that may be told; ``code`` is ``icmp.unreachable``'s."""


class ErrorBound:
    """How many ICMP errors are sent: TUNNEL_ERRORS_PER_SECOND."""

    def __init__(self) -> None:
        self._second = self._sent = 0

    def allows(self, now: float) -> bool:
        """Whether one more may be sent now, in seconds; it is counted."""
        second = int(now)
        if second != self._second:
            self._second, self._sent = second, 0
        self._sent += 1
        return self._sent <= TUNNEL_ERRORS_PER_SECOND


class Router(TcpRouter[Link, socket.socket], Protocol):
    """The gateway, as seen by all its parts."""

    @property
    def ways(self) -> Ways:
        """The way out."""


@functools.lru_cache(TUNNEL_KNOWN_ADDRESSES)
def address_of(packed: bytes) -> IPAddress:
    """An address out of a packet; canonical, so that policy judges what is dialed."""
    return canonical(ipaddress.ip_address(packed))
