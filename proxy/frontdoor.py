"""The front door: accepts, admits, tells protocols apart, and hands connections to relays."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable

from dconnect.core.errors import MalformedMessage
from dconnect.core.events import Observer, Session
from dconnect.core.limits import DRAIN_SECONDS, HANDSHAKE_SECONDS
from dconnect.proxy.dial import Dial
from dconnect.proxy.fiber import Fibers
from dconnect.proxy.http import serve_http
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay import PipePool, Relay
from dconnect.proxy.socks import refuse_socks4, serve_socks5
from dconnect.proxy.stream import Gone, Stream
from dconnect.proxy.wire.sniff import Protocol, sniff

_PAUSE_SECONDS = 0.1
"""How long accepting pauses when the process has no descriptors left."""

_TLS_HANDSHAKE = 0x16
_CUT = {errno.EPIPE: "reset", errno.ECONNRESET: "reset", errno.ETIMEDOUT: "timeout", errno.ESHUTDOWN: "stopped"}


class FrontDoor:
    """One worker's share of the front door."""

    def __init__(
        self,
        *,
        poller: Poller,
        listener: socket.socket,
        dial: Dial,
        observer: Observer,
        admits: Callable[[str], bool],
        hosts: frozenset[str],
        max_clients: int,
    ) -> None:
        """Wire it; ``start`` opens it.

        Args:
            poller: watches every socket.
            listener: non-blocking, shared with the other workers, lent by the supervisor.
            dial: the way out.
            observer: told of every session.
            admits: whether a peer's address may talk to us.
            hosts: what may stand in the Host of an origin-form request.
            max_clients: beyond it accepting pauses.
        """
        self.dial = dial
        self.hosts = hosts
        self._poller = poller
        self._listener = listener
        # What accept() does, without looking up two enums for every socket.
        self._accept_fd = listener._accept  # type: ignore[attr-defined]  # noqa: SLF001
        self._family = listener.family
        self._observer = observer
        self._admits = admits
        self._max_clients = max_clients
        self._pipes = PipePool()
        self._fibers = Fibers(poller.loop)
        self._relays: set[Relay] = set()
        self._clients = 0
        self._listening = False
        self._draining = False
        self._empty = asyncio.Event()
        """Set when the last client leaves; drain waits for it."""

    def start(self) -> None:
        """Accept connections."""
        if not self._listening and not self._draining:
            self._listening = True
            self._poller.loop.add_reader(self._listener, self._accept)

    def _pause(self) -> None:
        self._poller.loop.remove_reader(self._listener)
        self._listening = False

    async def drain(self) -> None:
        """Take no more clients, give the present ones DRAIN_SECONDS, then cut them."""
        self._draining = True
        self._pause()
        if self._clients:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), DRAIN_SECONDS)
        await self._fibers.cancel()
        for relay in tuple(self._relays):
            relay.abort()
        self._pipes.close()

    def _accept(self) -> None:
        """Take one client; its siblings, woken as well, and the events of those already here take their turns.

        Taking more at once, one worker holds all clients of a burst while another idles: 13 to 18 % of the rate.
        """
        if self._clients >= self._max_clients:
            self._pause()  # _gone starts again
            return
        try:
            fd, address = self._accept_fd()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._pause()
                self._poller.loop.call_later(_PAUSE_SECONDS, self.start)
            return  # else the client gave up while it was queued
        sock = socket.socket(self._family, socket.SOCK_STREAM, 0, fd)
        if not self._admits(address[0]):
            sock.close()
            self._observer.refused_by_source(address[0])
            return
        sock.setblocking(False)
        self._clients += 1
        self._observer.opened()
        session = Session(f"{address[0]}:{address[1]}", started=time.monotonic())
        channel = Channel(self._poller, sock)
        channel.dry = False  # the first bytes came along
        self._fibers.start(self._serve(Stream(channel), session))

    def _gone(self) -> None:
        self._clients -= 1
        self._observer.closed()
        if not self._clients:
            self._empty.set()
        if not self._listening and self._clients == self._max_clients - 1:
            self.start()

    async def _serve(self, client: Stream, session: Session) -> None:
        client.peer = session.peer
        try:
            client.channel.deadline(HANDSHAKE_SECONDS)
            client.buffer += await client.channel.receive(4096)
            if client.buffer:
                await self._speak(client, session)
        except TimeoutError:
            silent = session.front == "none"
            what = "connected and said nothing" if silent else "did not finish its request in time"
            session.outcome, session.detail = "timeout", f"The client {what}."
            self.ended(session)
        except MalformedMessage as error:
            session.outcome, session.detail = "malformed", str(error)
            self.ended(session)
        except (Gone, OSError):
            if session.outcome == "open":
                session.outcome, session.detail = "gone", "The client left during its handshake."
                self.ended(session)
        finally:
            if not client.relayed:
                client.close()
                self._gone()

    async def _speak(self, client: Stream, session: Session) -> None:
        match sniff(client.buffer[0]):
            case Protocol.HTTP:
                await serve_http(self, client, session)
                return
            case Protocol.SOCKS5:
                await serve_socks5(self, client, session)
            case Protocol.SOCKS4:
                await refuse_socks4(client, session)
            case Protocol.UNKNOWN:
                tls = client.buffer[0] == _TLS_HANDSHAKE
                hint = "TLS: write the proxy's URL with http://, not https://." if tls else "neither SOCKS nor HTTP."
                raise MalformedMessage(f"The client speaks {hint}")
        if not client.relayed:
            self.ended(session)

    def session(self, client: Stream) -> Session:
        return Session(client.peer, started=time.monotonic())

    def ended(self, session: Session) -> None:
        self._observer.ended(session)

    def relay(self, client: Stream, upstream: Channel, session: Session) -> None:
        client.relayed = True
        session.outcome = "relaying"
        relay: Relay | None = None

        def on_end(up: int, down: int, error: OSError | None) -> None:
            session.bytes_up += up
            session.bytes_down += down
            session.outcome = "ok" if error is None else _CUT.get(error.errno or 0, "cut")
            if error is not None:
                session.detail = f"One side cut the connection ({error.strerror})."
            if relay is not None:
                self._relays.discard(relay)
            self._observer.ended(session)
            self._gone()

        relay = Relay(self._poller, self._pipes, client.channel, upstream, on_end)
        if session.outcome == "relaying":
            self._relays.add(relay)
