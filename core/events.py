"""What happened to a connection, as plain data: rooms tell it, the agent logs and counts it."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from dconnect.core.errors import DialError
from dconnect.core.limits import SESSION_TEXT_CHARS

Front = Literal["socks5", "socks4", "associate", "connect", "http", "link", "trunk", "tunnel", "none"]
SHUTDOWN = "shutdown"
"""The outcome of what the agent's end has cut."""
_CUT = {errno.EPIPE: "reset", errno.ECONNRESET: "reset", errno.ETIMEDOUT: "vanished", errno.ESHUTDOWN: SHUTDOWN}


@dataclass(slots=True)
class Session:
    """One client's one destination, filled in while it lives; the canonical log line at its end."""

    peer: str
    """The client's address and port."""
    front: Front = "none"
    """How the destination was named; none while the client has not said."""
    target: str = ""
    """What the client asked for, ``host:port``."""
    address: str = ""
    """The address that was dialed last."""
    outcome: str = "open"
    """While it lives: ``open``, ``idle`` (nothing is asked: the next HTTP request may come) or ``relaying``.
    At its end: ``ok``, a Failure's name in lower case, or what the client did wrong (``docs/log.md`` lists them)."""
    detail: str = ""
    """One sentence for a person; empty when all went well."""
    status: int = 0
    """HTTP status, when the front is http."""
    bytes_up: int = 0
    """From the client to the destination, payload only."""
    bytes_down: int = 0
    started: float = 0.0
    """Monotonic seconds."""
    connect: float = 0.0
    """Seconds from the whole request to the connected socket: name, policy, connect; 0 when that was not reached."""

    def failed(self, error: DialError) -> None:
        """Its destination was not reached, or nobody was there to try."""
        self.outcome, self.detail = error.failure.name.lower(), str(error)

    def relayed(self, error: OSError | None) -> None:
        """Its relay has ended; ``error`` is what cut it."""
        self.outcome = "ok" if error is None else _CUT.get(error.errno or 0, "cut")
        if error is not None:
            self.detail = self.detail or f"One side cut the connection ({error.strerror})."

    def told(self) -> dict[str, Any]:
        """What is known of it, for the log: the fields that are not empty, without the times."""
        told: dict[str, Any] = {"peer": self.peer, "front": self.front}
        if self.target:
            told["target"] = _bounded(self.target)
        if self.address:
            told["address"] = self.address
        told["outcome"] = self.outcome
        if self.detail:
            told["detail"] = _bounded(self.detail)
        told["status"], told["bytes_up"], told["bytes_down"] = self.status, self.bytes_up, self.bytes_down
        return told


@dataclass(slots=True)
class UdpSession(Session):
    """A UDP association: ``target`` is its first destination, ``address`` the last one dialed."""

    targets: int = 0
    """Destinations asked for; one that was forgotten counts again."""
    datagrams_up: int = 0
    datagrams_down: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason → datagrams that were not relayed, either way."""

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = Session.told(self)
        told |= {"targets": self.targets, "datagrams_up": self.datagrams_up, "datagrams_down": self.datagrams_down}
        if self.dropped:
            told["dropped"] = self.dropped
        return told


def _bounded(text: str) -> str:
    return text if len(text) <= SESSION_TEXT_CHARS else f"{text[:SESSION_TEXT_CHARS]}…"


class Observer(Protocol):
    """Whoever wants to know (the agent's log and counters)."""

    def opened(self) -> None:
        """A client was accepted."""

    def adopted(self) -> None:
        """A client came here from another worker, which has told of it already."""

    def ended(self, session: Session) -> None:
        """A session is over; its record is complete."""

    def closed(self) -> None:
        """A client is gone; there may have been many sessions (HTTP) or none."""

    def refused_by_source(self, peer: str) -> None:
        """A connection from a forbidden source (a container) was closed unread."""

    def paused(self, reason: str) -> None:
        """Accepting pauses again and again from now on; the words say what is short."""

    def resumed(self) -> None:
        """Accepting has gone on for a while."""
