"""What the gateway needs of the agent: a judgement, sockets that reach containers, and somebody who relays."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from dconnect.core.address import IPAddress
from dconnect.core.events import Session


class Ways(Protocol):
    """The way out, and who is told."""

    async def connect(self, address: IPAddress, port: int, session: Session) -> socket.socket:
        """A connected, non-blocking TCP socket to where a rule lets one go; ``session`` learns how it went.

        Raises: DialError with the true reason.
        """

    async def own_dns(self) -> socket.socket:
        """A connection to the agent's own DNS server.

        Raises: DialError.
        """

    async def datagram(self, address: IPAddress, port: int) -> socket.socket:
        """A connected, non-blocking UDP socket to where a rule lets one go.

        Raises: DialError with the true reason.
        """

    async def echo(self, address: IPAddress) -> socket.socket:
        """A connected, non-blocking raw ICMP socket that hears echo replies only, to where a rule lets one go.

        Raises: DialError with the true reason.
        """

    def relay(self, client: socket.socket, upstream: socket.socket, session: Session) -> bool:
        """Have somebody relay between two connections, and own them; False when nobody can."""

    def answer(self, query: bytes, respond: Callable[[bytes], None]) -> None:
        """Answer a DNS query over UDP, soon or now, or never where that is the answer."""

    def prepare(self, listener: socket.socket) -> None:
        """Give a listener what all connections of the agent have; those that it accepts inherit it."""

    def ended(self, session: Session) -> None:
        """A flow that never came to a relay, or a link, is over."""
