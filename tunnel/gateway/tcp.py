"""TCP from hosts: the agent's kernel ends it, once the destination has said yes.

    SYN ──▶ judged, dialed ──no──▶ RST, ICMP unreachable, or silence: as the destination itself would have been felt
    (held)      │ yes
                ▼
            SYN into the device ──▶ the kernel's handshake ──▶ accepted ──▶ both sockets to a worker, which relays
            (RELEASED)

So a port looks open only if it is. A SYN that comes again while the first is held is dropped; once that is released it
is let through again, for the first may have been lost. All other segments are the kernel's business alone.
"""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Callable
from typing import Generic, TypeVar

from dconnect.core.address import Target
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.keepalive import probe_in_turn
from dconnect.core.limits import (
    TUNNEL_ACCEPT_SECONDS,
    TUNNEL_ACCEPTS_PER_TURN,
    TUNNEL_DIALS,
    TUNNEL_KNOWN_ADDRESSES,
)
from dconnect.tunnel.gateway.listeners import Listeners
from dconnect.tunnel.gateway.router import TcpRouter, address_of
from dconnect.tunnel.gateway.ways import U
from dconnect.tunnel.wire import tcp
from dconnect.tunnel.wire.packets import parse

DNS_PORT = 53
_RESET = struct.pack("ii", 1, 0)
L = TypeVar("L")
"""What tells one host's packets from another's."""


class _Held(Generic[L, U]):
    """One connection that is to be."""

    __slots__ = ("key", "link", "packet", "port", "session", "until", "upstream", "version")

    def __init__(self, link: L, key: bytes, packet: bytes, session: Session) -> None:
        self.link = link
        self.key = key
        self.packet = packet
        """The SYN."""
        self.session = session
        self.version = 4 if len(key) == 12 else 6
        self.port = int.from_bytes(key[-2:])
        self.upstream: U | None = None
        """The dialed connection; None while the SYN is held."""
        self.until = 0.0


class Connections(Generic[L, U]):
    """Those of all hosts that are dialed or not accepted yet."""

    def __init__(self, router: TcpRouter[L, U], listen: Callable[[int, int], socket.socket]) -> None:
        """Begin with none; ``listen`` makes listeners, as ``listeners.listen`` does."""
        self._router = router
        self._loop = router.loop
        self._held: dict[bytes, _Held[L, U]] = {}
        self._listeners = Listeners(listen, self._watch, self._unwatch)
        self._sweeper = self._loop.call_later(1.0, self._sweep)

    def syn(self, link: L, key: bytes, packet: memoryview) -> None:
        """Take the first segment of a connection; ``key`` is ``packets.flow``'s."""
        router = self._router
        held = self._held.get(key)
        if held is not None:
            if held.upstream is None:
                router.counters.drop("held")
            else:
                router.admit(packet)
            return
        if len(self._held) >= TUNNEL_DIALS:
            router.counters.drop("full")
            return
        address = key[len(key) // 2 - 2 : -4]
        peer = Target(_text(key[: len(key) // 2 - 2]), int.from_bytes(key[-4:-2]))
        target = Target(_text(address), int.from_bytes(key[-2:]))
        session = Session(str(peer), "tunnel", target=str(target), started=self._loop.time())
        self._held[key] = held = _Held(link, key, bytes(packet), session)
        router.ways.dials.start(self._dial(held, address))

    def forget(self, link: L) -> None:
        """A link is lost: what it waits for is given up."""
        for held in [held for held in self._held.values() if held.link is link and held.upstream is not None]:
            self._give_up(held, "The host's link was lost before its connection was there.")

    async def close(self) -> None:
        """Give up everything."""
        self._sweeper.cancel()
        await self._router.ways.dials.cancel()
        for held in tuple(self._held.values()):
            self._give_up(held, "The agent stopped.")
        self._listeners.close()

    async def _dial(self, held: _Held[L, U], address: bytes) -> None:
        try:
            upstream = await self._connect(held, address)
            try:
                self._listeners.hold(held.version, held.port)
            except OSError as error:
                self._router.ways.give_up(upstream)
                sentence = f"The agent cannot listen for port {held.port} ({error.strerror}); see its log."
                raise DialError(Failure.NOT_READY, sentence) from error
        except DialError as error:
            del self._held[held.key]
            self._refuse(held, error)
            return
        except BaseException:
            del self._held[held.key]
            raise
        held.upstream = upstream
        held.until = self._loop.time() + TUNNEL_ACCEPT_SECONDS
        self._router.admit(memoryview(held.packet))

    async def _connect(self, held: _Held[L, U], address: bytes) -> U:
        router = self._router
        if not router.is_own(address):
            return await router.ways.connect(address_of(address), held.port, held.session)
        if held.port != DNS_PORT:
            raise DialError(Failure.REFUSED, "At the tunnel's own address nothing but names is served.")
        return await router.ways.own_dns()

    def _refuse(self, held: _Held[L, U], error: DialError) -> None:
        """Let the host feel what the dial felt."""
        router, failure = self._router, error.failure
        held.session.failed(error)
        router.ways.ended(held.session)
        try:
            packet = parse(held.packet)
            segment = tcp.parse(packet)
        except MalformedMessage:  # nobody who answers such a packet knows whom
            router.counters.drop("malformed")
            return
        if failure is Failure.REFUSED:
            reset = tcp.reset(packet, segment)
            if reset is not None:
                router.send(held.link, reset)
        elif failure.value.icmp is not None:
            router.unreachable(held.link, packet, failure.value.icmp[1])

    def _watch(self, listener: socket.socket) -> None:
        self._router.ways.prepare(listener)
        self._loop.add_reader(listener, self._accept, listener)

    def _unwatch(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(TUNNEL_ACCEPTS_PER_TURN):
            try:
                client, peer = listener.accept()
            except OSError:  # mostly BlockingIOError
                return
            try:
                key = _key(peer, client.getsockname())
            except OSError:  # cut already
                client.close()
                continue
            held = self._held.get(key)
            if held is None or held.upstream is None:
                cut(client)  # a stranger, or a connection that took too long
                continue
            self._pair(held, client, held.upstream)

    def _pair(self, held: _Held[L, U], client: socket.socket, upstream: U) -> None:
        del self._held[held.key]
        self._listeners.release(held.version, held.port)
        session = held.session
        probe_in_turn(client)
        if not self._router.ways.relay(client, upstream, session):
            cut(client)
            self._router.ways.give_up(upstream)
            session.outcome, session.detail = "not_ready", "No worker of the agent took the connection."
            self._router.ways.ended(session)

    def _sweep(self) -> None:
        now = self._loop.time()
        for held in [held for held in self._held.values() if held.upstream is not None and held.until <= now]:
            self._give_up(held, "The host did not go on with its connection.")
        self._sweeper = self._loop.call_later(1.0, self._sweep)

    def _give_up(self, held: _Held[L, U], why: str) -> None:
        if self._held.pop(held.key, None) is None or held.upstream is None:
            return
        self._listeners.release(held.version, held.port)
        self._router.ways.give_up(held.upstream)
        held.session.outcome, held.session.detail = "gone", why
        self._router.ways.ended(held.session)


@functools.lru_cache(TUNNEL_KNOWN_ADDRESSES)
def _text(packed: bytes) -> str:
    return str(address_of(packed))


def _key(peer: tuple[str, int], local: tuple[str, int]) -> bytes:
    """The key under which a connection's SYN came."""
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    return b"".join(
        (
            socket.inet_pton(family, peer[0].partition("%")[0]),
            socket.inet_pton(family, local[0].partition("%")[0]),
            peer[1].to_bytes(2),
            local[1].to_bytes(2),
        )
    )


def cut(sock: socket.socket) -> None:
    """Close with RST."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    finally:
        sock.close()
