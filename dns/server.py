"""DNS on sockets: UDP, and TCP with pipelining (RFC 7766).

The sockets are shared with the other workers: whoever accepts a connection first has it. Datagrams are one worker's, as
long as it is quick; the others help when it is not.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import (
    DNS_FORWARDS_WAITING,
    DNS_LOOK_SECONDS,
    DNS_QUERIES_PER_TURN,
    DNS_TCP_CLIENTS,
    DNS_TCP_IDLE_SECONDS,
    LISTEN_BACKLOG,
)
from dconnect.core.tasks import Tasks
from dconnect.dns.batch import Datagrams, Peer, plain_address
from dconnect.dns.resolver import Elsewhere, Resolver
from dconnect.dns.wire.message import SERVFAIL, Query, encode
from dconnect.dns.wire.stream import frame, parse_frame


class Forward(Protocol):
    """Whoever asks other servers; ``dconnect.dns.forward.Forwarder.answer``."""

    async def __call__(self, query: Query, limit: int) -> bytes:
        """The answer, of at most ``limit`` bytes, whatever happens."""


class DnsServer:
    """Serves a resolver on sockets that it owns from now on."""

    def __init__(
        self,
        *,
        udp: Sequence[socket.socket],
        tcp: Sequence[socket.socket],
        admits: Callable[[str], bool],
        resolver: Resolver,
        forward: Forward | None = None,
        patience: float = 0,
        max_clients: int = DNS_TCP_CLIENTS,
        idle_seconds: float = DNS_TCP_IDLE_SECONDS,
    ) -> None:
        """Take what is needed; nothing happens before ``start``.

        Args:
            udp: bound sockets.
            tcp: bound sockets.
            admits: whether a peer's address text may ask; the others get silence, or a closed connection.
            resolver: makes the answers.
            forward: asks elsewhere, if the resolver forwards.
            patience: for how many seconds a datagram is left to a sibling.
            max_clients: TCP connections at once.
            idle_seconds: between whole queries on one TCP connection.
        """
        self.admits = admits
        self.resolver = resolver
        self._forward = forward
        self._waiting = Tasks()
        """Queries that are answered elsewhere."""
        self._patience = patience
        self.max_clients = max_clients
        self.idle_seconds = idle_seconds
        self.clients: dict[_Client, None] = {}
        """Open TCP connections, the longest idle first."""
        self._udp = udp
        self._tcp = tcp
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Begin to answer."""
        loop = asyncio.get_running_loop()
        for sock in self._udp:
            sock.setblocking(False)
            self._watch(sock, Datagrams(sock, timed=bool(self._patience)))
        for sock in self._tcp:
            sock.setblocking(False)
            server = await loop.create_server(lambda: _Client(self), sock=sock, backlog=LISTEN_BACKLOG)
            self._servers.append(server)

    async def close(self) -> None:
        """Stop; answers already written are still sent."""
        loop = asyncio.get_running_loop()
        for sock in self._udp:
            if sock.fileno() >= 0:
                loop.remove_reader(sock.fileno())
                sock.close()
        for server in self._servers:
            server.close()
        await self._waiting.cancel()
        for client in list(self.clients):
            client.close()
        self._servers.clear()
        for sock in self._tcp:
            sock.close()

    def _datagrams(self, sock: socket.socket, datagrams: Datagrams) -> None:
        """Answer what has arrived, up to a bound; the loop calls again while there is more."""
        if self._patience and datagrams.waited() < self._patience:
            self._step_back(sock, datagrams)
            return
        arrived = datagrams.receive()
        respond = self.resolver.respond
        admitted = {peer: self.admits(datagrams.host(peer)) for peer in {peer for _, peer in arrived}}
        answers = []
        for query, peer in arrived:
            if not admitted[peer]:
                continue
            answer = respond(query)
            if type(answer) is bytes:
                answers.append((answer, peer))
            elif isinstance(answer, Elsewhere):
                self.elsewhere(answer, partial(_send, datagrams, peer))
        datagrams.send(answers)

    def _watch(self, sock: socket.socket, datagrams: Datagrams) -> None:
        if sock.fileno() >= 0:
            asyncio.get_running_loop().add_reader(sock.fileno(), self._datagrams, sock, datagrams)

    def _step_back(self, sock: socket.socket, datagrams: Datagrams) -> None:
        """The sibling is quick enough: look again later.

        Being woken for nothing costs as much as an answer, and turns that are shared hold fewer datagrams.
        """
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.call_later(DNS_LOOK_SECONDS, self._watch, sock, datagrams)

    def elsewhere(self, asked: Elsewhere, give: Callable[[bytes], None]) -> None:
        """Have a query answered elsewhere, soon, or SERVFAIL now."""
        if self._forward is None or len(self._waiting) >= DNS_FORWARDS_WAITING:
            # Not at once: a pipelining client would be answered from within its answers, ever deeper.
            asyncio.get_running_loop().call_soon(give, encode(asked.query, SERVFAIL, recursion=True))
        else:
            _ = self._waiting.start(self._relay(self._forward, asked, give), "dns query")

    @staticmethod
    async def _relay(forward: Forward, asked: Elsewhere, give: Callable[[bytes], None]) -> None:
        give(await forward(asked.query, asked.limit))


def _send(datagrams: Datagrams, peer: Peer, answer: bytes) -> None:
    datagrams.send([(answer, peer)])


class _Client(asyncio.Protocol):
    """One TCP connection: queries in, answers out, in order.

    Reading pauses while queries wait for their turn or answers for the client, so the buffer never holds more than
    one read and a part of a query, and a FIN is seen only when everything before it has been answered.
    """

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None
        self._elsewhere = 0
        """Queries of this connection that are answered elsewhere; they may be overtaken (RFC 7766 §6.2.1.1)."""
        self._ended = False
        self.writable = True
        """False while the client does not read what it asked for; nothing is answered then."""

    # -- what the transport calls ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        peer = stream.get_extra_info("peername")
        if not peer or not self._server.admits(plain_address(peer[0])):
            stream.abort()
            return
        self._transport = stream
        clients = self._server.clients
        if len(clients) >= self._server.max_clients:
            next(iter(clients)).close()
        clients[self] = None
        self._timer = self._loop.call_later(self._server.idle_seconds, self._expire)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._buffer += data
        self._answer()

    def eof_received(self) -> bool:
        self._ended = True
        return self._elsewhere > 0  # what is still to come is written, then we close

    def pause_writing(self) -> None:
        self.writable = False
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.writable = True
        self._answer()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._transport = None
        self._server.clients.pop(self, None)
        for handle in (self._timer, self._turn):
            if handle is not None:
                handle.cancel()

    # -- work --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close after what is written; the client is no longer counted."""
        self._server.clients.pop(self, None)
        if self._transport is not None:
            self._transport.close()

    def _answer(self) -> None:
        """Answer whole queries in the buffer, up to a bound; then let others run."""
        self._turn = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        answers: list[bytes] = []
        taken = 0
        try:
            while taken < DNS_QUERIES_PER_TURN and self._elsewhere < DNS_QUERIES_PER_TURN and self._take(answers):
                taken += 1
        except MalformedMessage:  # the stream cannot be followed any further
            transport.write(b"".join(answers))
            self.close()
            return
        if taken:
            self._touch()
        if answers:
            transport.write(b"".join(answers))  # may call pause_writing
        if not self.writable:
            return  # resume_writing goes on
        if self._elsewhere == DNS_QUERIES_PER_TURN:
            transport.pause_reading()  # until one is answered
        elif taken == DNS_QUERIES_PER_TURN:
            transport.pause_reading()
            self._turn = self._loop.call_soon(self._answer)
        else:
            transport.resume_reading()

    def _take(self, answers: list[bytes]) -> bool:
        """Answer one query of the buffer, into the list or elsewhere; False when it holds no whole one.

        Raises: MalformedMessage: what came is no query.
        """
        taken = parse_frame(self._buffer)
        if taken is None:
            return False
        query, consumed = taken
        del self._buffer[:consumed]
        answer = self._server.resolver.respond(query, stream=True)
        if answer is None:
            raise MalformedMessage("A response, where queries are read.")
        if isinstance(answer, Elsewhere):
            self._elsewhere += 1
            self._server.elsewhere(answer, self._give)
        else:
            answers.append(frame(answer))
        return True

    def _give(self, answer: bytes) -> None:
        """One that was asked elsewhere has its answer."""
        self._elsewhere -= 1
        if self._transport is None or self._transport.is_closing():
            return
        self._touch()
        self._transport.write(frame(answer))
        if self._ended and not self._elsewhere:
            self.close()
        elif self._turn is None and self.writable:
            self._answer()

    def _touch(self) -> None:
        """A whole query came: the client is not idle."""
        self._last = self._loop.time()
        clients = self._server.clients
        if self in clients:
            del clients[self]
            clients[self] = None

    def _expire(self) -> None:
        """Close when no whole query came in time, else look again when that would be."""
        left = self._last + self._server.idle_seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._expire)
            return
        self._server.clients.pop(self, None)
        if self._transport is not None:
            self._transport.abort()  # what it did not read in this time it will not read
