"""What a protocol handler needs of the front door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from dconnect.core.events import Session
from dconnect.proxy.dial import Dial
from dconnect.proxy.lookup import Lookup
from dconnect.proxy.poller import Channel
from dconnect.proxy.stream import Stream

Accepts: TypeAlias = Callable[[bytes, bytes], bool]
"""Whether a user name and a password are the right ones."""


class Door(Protocol):
    """The front door as seen by ``socks`` and ``http``."""

    dial: Dial
    lookup: Lookup
    hosts: frozenset[str]
    """Host names and addresses that mean the agent itself in an origin-form request."""
    accepts: Accepts | None
    """None: nobody is asked for a password."""

    def session(self, client: Stream) -> Session:
        """A fresh record for the client's next destination."""

    def ended(self, session: Session) -> None:
        """A session that never reached a relay is over."""

    def relay(self, client: Stream, upstream: Channel, session: Session) -> None:
        """Take over both sockets; the session ends when the relay does."""
