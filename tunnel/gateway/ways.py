"""What the gateway needs of the agent: a judgement, sockets that reach containers, and somebody who relays."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from dconnect.core.address import IPAddress
from dconnect.core.events import Session


class Dials(Protocol):
    """Runs dials, and owns them."""

    def start(self, dial: Coroutine[Any, Any, None], /) -> None:
        """Run it, perhaps at once up to its first wait; never called from within a task."""

    async def cancel(self) -> None:
        """End all, and wait until they have ended."""


U = TypeVar("U")
"""What a dial gives: a socket, or whatever leads to one."""


class Connects(Protocol[U]):
    """The way out for TCP, and who is told."""

    dials: Dials

    async def connect(self, address: IPAddress, port: int, session: Session) -> U:
        """A connection to where a rule lets one go; ``session`` learns how it went.

        Raises: DialError with the true reason.
        """

    async def own_dns(self) -> U:
        """A connection to the agent's own DNS server.

        Raises: DialError.
        """

    def relay(self, client: socket.socket, upstream: U, session: Session) -> bool:
        """Have somebody relay between two connections, and own them; False when nobody can.

        ``client`` may block still.
        """

    def give_up(self, upstream: U) -> None:
        """Cut a connection that nobody relays."""

    def prepare(self, listener: socket.socket) -> None:
        """Give a listener what all connections of the agent have; those that it accepts inherit it."""

    def ended(self, session: Session) -> None:
        """A flow that never came to a relay, or a link, is over."""


class Ways(Connects[socket.socket], Protocol):
    """The same for all that a gateway takes; its TCP sockets are connected and do not block."""

    async def datagram(self, address: IPAddress, port: int) -> socket.socket:
        """A connected, non-blocking UDP socket to where a rule lets one go.

        Raises: DialError with the true reason.
        """

    async def echo(self, address: IPAddress) -> socket.socket:
        """A connected, non-blocking raw ICMP socket that hears echo replies only, to where a rule lets one go.

        Raises: DialError with the true reason.
        """

    def answer(self, query: bytes, respond: Callable[[bytes], None]) -> None:
        """Answer a DNS query over UDP, soon or now, or never where that is the answer."""
