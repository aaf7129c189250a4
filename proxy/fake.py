"""In-memory stand-ins for what the front door consumes: the executable form of those contracts."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from dconnect.core.address import IPAddress
from dconnect.core.errors import DialError
from dconnect.core.events import Session, UdpSession
from dconnect.core.failure import Failure
from dconnect.core.limits import PIPE_BYTES
from dconnect.proxy.dial import OwnService
from dconnect.proxy.door import Ended, Known
from dconnect.proxy.poller import Channel
from dconnect.proxy.relay.pipes import Conduit, PipePool


class FakeResolve:
    """Names from a table; ``dconnect`` is the agent itself."""

    def __init__(self, names: Mapping[str, Sequence[IPAddress]]) -> None:
        self.names = dict(names)

    async def __call__(self, host: str) -> Sequence[IPAddress] | OwnService:
        if host == "dconnect":
            return OwnService()
        if host not in self.names:
            raise DialError(Failure.NAME_UNKNOWN, f"No container is called {host}.")
        return self.names[host]


class FakeDescribe:
    """What is known, by the name asked for or the address dialed."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self.known = dict(known)

    def __call__(self, host: str, address: str) -> Known:
        return self.known.get(address or host, Known())


class FakeReverse:
    """The names of a ``FakeResolve``'s table by their addresses; the first of several."""

    def __init__(self, names: Mapping[str, Sequence[IPAddress]]) -> None:
        self._names = {address: name for name, found in reversed(list(names.items())) for address in found}

    def __call__(self, address: IPAddress) -> str:
        if address not in self._names:
            raise DialError(Failure.NAME_UNKNOWN, f"No container has the address {address}.")
        return f"{self._names[address]}.docker"


class FakeSockets:
    """Sockets of this process; a set of addresses counts as the machine's own."""

    def __init__(self, local: Sequence[IPAddress] = ()) -> None:
        self.local = frozenset(local)

    async def stream(self, address: IPAddress) -> socket.socket:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    async def datagram(self, address: IPAddress) -> socket.socket:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    async def is_local(self, address: IPAddress) -> bool:
        return address in self.local


class NoAssociates:
    """A front door's ``Associates`` where nobody holds a UDP port."""

    def take(self, channel: Channel, record: UdpSession, ended: Ended) -> bool:  # noqa: ARG002 - as the Protocol has it
        raise DialError(Failure.NOT_READY, "Nobody holds the UDP port.")

    def sessions(self) -> list[UdpSession]:
        return []

    async def close(self) -> None:
        """Nothing is held."""


class Endless:
    """A conduit between the busiest peers there can be: always full, always taken."""

    slots = 1

    def fill(self, fd: int, *, urgent: bool = False) -> int:  # noqa: ARG002 - nothing is read
        return PIPE_BYTES

    def drain(self, fd: int, count: int) -> int:  # noqa: ARG002 - nothing is written
        return count

    def close(self) -> None:
        """Nothing is held."""


class EndlessPool(PipePool):
    """Lends endless conduits."""

    def borrow(self) -> Conduit:
        return Endless()


class Recorder:
    """An Observer that keeps what it is told."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.refusals: list[str] = []
        self.pauses: list[str] = []
        """What was short, and "" for each time that it was so no more."""
        self.open = 0

    def opened(self) -> None:
        self.open += 1

    def adopted(self) -> None:
        self.open += 1

    def ended(self, session: Session) -> None:
        self.sessions.append(session)

    def closed(self) -> None:
        self.open -= 1

    def refused_by_source(self, peer: str) -> None:
        self.refusals.append(peer)

    def paused(self, reason: str) -> None:
        self.pauses.append(reason)

    def resumed(self) -> None:
        self.pauses.append("")


class FakeLinks:
    """One token is right; whoever has it is told, and left alone."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self.away = False
        """Whether nobody takes links at the moment."""
        self.taken: list[tuple[str, bytes]] = []
        """Peer, and what came behind its request."""
        self.keys: list[tuple[str, bytes]] = []
        """What each was, and its key."""
        self._kept: list[socket.socket] = []

    def opens(self, token: bytes) -> bool:
        return token == self._token

    def take(self, channel: Channel, record: Session, early: bytes, key: bytes) -> None:
        if self.away:
            raise DialError(Failure.NOT_READY, "The agent's gateway is away.")
        self.taken.append((record.peer, early))
        self.keys.append((record.front, key))
        sock = channel.sock.dup()
        channel.leave()
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self._kept.append(sock)

    def close(self) -> None:
        """End the connections that were taken."""
        for sock in self._kept:
            sock.close()
