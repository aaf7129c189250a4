"""Ways without an engine, for tests of the gateway: the executable form of ``Ways``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from dconnect.core.address import IPAddress
from dconnect.core.errors import DialError
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.tasks import Tasks
from dconnect.tunnel.gateway.tcp import cut
from dconnect.tunnel.gateway.ways import Dials


class _Tasks:
    """``Dials``, each in a task."""

    def __init__(self) -> None:
        self._tasks = Tasks()

    def start(self, dial: Coroutine[Any, Any, None], /) -> None:
        _ = self._tasks.start(dial, "tunnel dial")

    async def cancel(self) -> None:
        await self._tasks.cancel()


class FakeWays:
    """Every destination is this process's own loopback, or refused as the test says."""

    def __init__(self) -> None:
        self.dials: Dials = _Tasks()
        self.refusals: dict[int, Failure] = {}
        """Destination port (0 for pings) → why nothing goes there."""
        self.gate = asyncio.Event()
        """Whoever asks for a way waits for it."""
        self.gate.set()
        self.asked: list[tuple[str, int]] = []
        """Addresses and ports, in order."""
        self.far: list[socket.socket] = []
        """The other ends of what was given, in order: connected, non-blocking."""
        self.relayed: list[tuple[socket.socket, socket.socket, Session]] = []
        self.takes_relays = True
        self.sessions: list[Session] = []
        """Those that have ended."""

    async def connect(self, address: IPAddress, port: int, session: Session) -> socket.socket:
        session.address = str(address)
        await self._let(address, port)
        return self._pair(socket.SOCK_STREAM)

    async def own_dns(self) -> socket.socket:
        self.asked.append(("own dns", 53))
        return self._pair(socket.SOCK_STREAM)

    async def datagram(self, address: IPAddress, port: int) -> socket.socket:
        await self._let(address, port)
        return self._datagrams(address)

    async def echo(self, address: IPAddress) -> socket.socket:
        await self._let(address, 0)
        return self._datagrams(address)

    def relay(self, client: socket.socket, upstream: socket.socket, session: Session) -> bool:
        if self.takes_relays:
            self.relayed.append((client, upstream, session))
        return self.takes_relays

    def give_up(self, upstream: socket.socket) -> None:
        cut(upstream)

    def answer(self, query: bytes, respond: Callable[[bytes], None]) -> None:
        respond(b"answer to " + query)

    def prepare(self, listener: socket.socket) -> None:
        """Nothing is needed."""

    def ended(self, session: Session) -> None:
        self.sessions.append(session)

    def close(self) -> None:
        """Close what is left."""
        for sock in self.far:
            sock.close()
        for client, upstream, _ in self.relayed:
            client.close()
            upstream.close()

    async def _let(self, address: IPAddress, port: int) -> None:
        self.asked.append((str(address), port))
        await self.gate.wait()
        if (failure := self.refusals.get(port)) is not None:
            raise DialError(failure, f"{address} is out of reach.")

    def _pair(self, kind: socket.SocketKind) -> socket.socket:
        near, far = socket.socketpair(socket.AF_UNIX, kind)
        for sock in (near, far):
            sock.setblocking(False)
        self.far.append(far)
        return near

    def _datagrams(self, address: IPAddress) -> socket.socket:
        """Of the address's family: it takes options that others do not have."""
        family, host = (socket.AF_INET6, "::1") if address.version == 6 else (socket.AF_INET, "127.0.0.1")
        near, far = (socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2))
        far.bind((host, 0))
        near.connect(far.getsockname())
        far.connect(near.getsockname())
        self.far.append(far)
        return near
