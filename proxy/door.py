"""What a protocol handler needs of the front door."""

from __future__ import annotations

from typing import Protocol

from dconnect.core.events import Session
from dconnect.proxy.dial import Dial
from dconnect.proxy.poller import Channel
from dconnect.proxy.stream import Stream


class Door(Protocol):
    """The front door as seen by ``socks`` and ``http``."""

    dial: Dial
    hosts: frozenset[str]
    """Host names and addresses that mean the agent itself in an origin-form request."""

    def session(self, client: Stream) -> Session:
        """A fresh record for the client's next destination."""

    def ended(self, session: Session) -> None:
        """A session that never reached a relay is over."""

    def relay(self, client: Stream, upstream: Channel, session: Session) -> None:
        """Take over both sockets; the session ends when the relay does."""
