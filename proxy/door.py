"""What a protocol handler needs of the front door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from dconnect.core.events import Session, UdpSession
from dconnect.proxy.dial import Dial
from dconnect.proxy.lookup import Lookup
from dconnect.proxy.poller import Channel
from dconnect.proxy.stream import Stream

Ended: TypeAlias = Callable[[UdpSession, OSError | None], None]
"""Told once, when the client's connection is closed: its record, and what cut it, if anything did."""


class Associates(Protocol):
    """Whoever holds the UDP port, or knows who does."""

    def take(self, channel: Channel, record: UdpSession, ended: Ended) -> bool:
        """Take a client's connection over, and answer its request; ``ended`` is called later, never at once.

        False when another process has it now; then the channel is closed, and nobody calls ``ended``.

        Raises: DialError NOT_READY: there is no place, or nobody who holds the port.
        """

    def sessions(self) -> Sequence[UdpSession]:
        """The records of those taken here that are open, oldest first."""

    async def close(self) -> None:
        """End them all."""


class Links(Protocol):
    """Whoever knows where the links of the transparent mode end."""

    def opens(self, token: bytes) -> bool:
        """Whether a token is the right one; takes as long whatever is wrong with it."""

    def take(self, channel: Channel, record: Session, early: bytes, key: bytes) -> None:
        """Hand a client's connection over to be answered elsewhere, with what it sent behind its request; close ours.

        The record's front says what it is: a link; a trunk with this key; or ``tunnel``, to which a trunk's stream is
        to move, whose number stands behind the key.

        Raises: DialError NOT_READY.
        """


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a destination that was not reached."""

    container: str = ""
    """The name of the container, if it is one."""
    ports: tuple[int, ...] = ()
    """TCP ports that it exposes, in order."""
    candidates: tuple[str, ...] = ()
    """Names that may have been meant."""


class Describe(Protocol):
    """Tells more of a failed destination, to a person."""

    def __call__(self, host: str, address: str) -> Known:
        """``address`` is what was dialed, empty when it did not come to that."""


Accepts: TypeAlias = Callable[[bytes, bytes], bool]
"""Whether a user name and a password are the right ones."""


class Door(Protocol):
    """The front door as seen by ``socks`` and ``http``."""

    dial: Dial
    describe: Describe
    lookup: Lookup
    hosts: frozenset[str]
    """Host names and addresses that mean the agent itself in an origin-form request."""
    accepts: Accepts | None
    """None: nobody is asked for a password."""
    links: Links | None
    """None: the agent has no tunnel."""

    def session(self, client: Stream) -> Session:
        """A fresh record for the client's next destination."""

    def ended(self, session: Session) -> None:
        """A session that never reached a relay is over."""

    def relay(self, client: Stream, upstream: Channel, session: Session) -> None:
        """Take over both sockets; the session ends when the relay does."""

    def link(self, links: Links, client: Stream, session: Session, key: bytes = b"") -> None:
        """Give the client's connection away, as ``Links.take`` does.

        Raises: DialError NOT_READY.
        """

    def associate(self, client: Stream, session: Session) -> None:
        """Take over the client's connection for UDP ASSOCIATE, answer it, and go on with the session.

        Raises: DialError NOT_READY.
        """
