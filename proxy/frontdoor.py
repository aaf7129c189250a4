"""The front door: accepts, admits, tells protocols apart, and hands connections to relays."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import time
from collections.abc import Callable
from itertools import islice

from dconnect.core.errors import MalformedMessage
from dconnect.core.events import SHUTDOWN, Observer, Session, UdpSession
from dconnect.core.keepalive import probe_in_turn
from dconnect.core.limits import DRAIN_SECONDS, HANDSHAKE_SECONDS, PAUSE_SECONDS, RELIEVED_SECONDS
from dconnect.proxy.dial import Dial
from dconnect.proxy.door import Accepts, Associates, Describe, Links
from dconnect.proxy.fiber import Fibers, Gone
from dconnect.proxy.guests import CROWDED, Guests
from dconnect.proxy.http import serve_http
from dconnect.proxy.lookup import Lookup
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay import PipePool, Relay
from dconnect.proxy.relay.carrier import Carrier
from dconnect.proxy.socks import associate, serve_socks5
from dconnect.proxy.socks4 import serve_socks4
from dconnect.proxy.stream import Stream
from dconnect.proxy.wire.sniff import Protocol, sniff

_SHORTAGES = {
    errno.EMFILE: "the process has no descriptors left",
    errno.ENFILE: "the machine has no descriptors left",
    errno.ENOBUFS: "the machine has no memory left for sockets",
    errno.ENOMEM: "the machine has no memory left for sockets",
    errno.ENOSPC: "the machine watches no further sockets (fs.epoll.max_user_watches)",
}
_TLS_HANDSHAKE = 0x16


class FrontDoor:
    """One worker's share of the front door."""

    _listening = _draining = False
    _again: asyncio.TimerHandle | None = None
    """Set while accepting pauses."""
    _relief: asyncio.TimerHandle | None = None
    """Set while accepting pauses now and then."""
    _clients = 0
    """Relays, associations, guests, and for a moment whoever was given up."""

    def __init__(
        self,
        *,
        poller: Poller,
        listener: socket.socket,
        dial: Dial,
        describe: Describe,
        associates: Associates,
        observer: Observer,
        admits: Callable[[str], bool],
        hosts: frozenset[str],
        max_clients: int,
        lookup: Lookup,
        accepts: Accepts | None = None,
        links: Links | None = None,
    ) -> None:
        """Wire it; ``start`` opens it.

        Args:
            poller: watches every socket.
            listener: non-blocking, shared with the other workers, lent by the supervisor.
            dial: the way out.
            describe: tells more of what was not reached, for error pages.
            associates: takes the clients that want UDP.
            observer: told of every session.
            admits: whether a peer's address may talk to us.
            hosts: what may stand in the Host of an origin-form request.
            max_clients: beyond it accepting pauses.
            lookup: names and addresses for those who only ask.
            accepts: knows the right user name and password; None when nobody is asked for one.
            links: take those of the transparent mode; None when there is no tunnel.
        """
        self.dial = dial
        self.describe = describe
        self.lookup = lookup
        self.accepts = accepts
        self.links = links
        self.hosts = hosts
        self._poller = poller
        self._listener = listener
        # What accept() does, without looking up two enums for every socket.
        self._accept_fd = listener._accept  # type: ignore[attr-defined]  # noqa: SLF001
        self._family = listener.family
        self._associates = associates
        self._observer = observer
        self._admits = admits
        self._max_clients = max_clients
        self._pipes, self._carrier = PipePool(), Carrier(poller)
        self._fibers = Fibers(poller.loop)
        self._relays: dict[Relay, Session] = {}
        self._on_relay_end = self._relay_ended  # one bound method for all of them
        self._guests = Guests(max_clients)
        self._backlog = select.poll()
        self._backlog.register(listener, select.POLLIN)
        self._empty = asyncio.Event()
        """Set when the last client leaves; drain waits for it."""

    def start(self) -> None:
        """Accept connections."""
        if not self._listening and not self._draining:
            self._listening = True
            if self._again is not None:
                self._again.cancel()
                self._again = None
            self._poller.loop.add_reader(self._listener, self._accept)

    def _pause(self) -> None:
        self._poller.loop.remove_reader(self._listener)
        self._listening = False

    def _rest(self, shortage: str) -> None:
        """Leave clients in the backlog for a moment, where siblings may take them; told once, not each time."""
        self._pause()
        self._again = self._poller.loop.call_later(PAUSE_SECONDS, self.start)
        if self._relief is None:
            self._observer.paused(shortage)
        else:
            self._relief.cancel()
        self._relief = self._poller.loop.call_later(RELIEVED_SECONDS, self._relieved)

    def _relieved(self) -> None:
        self._relief = None
        self._observer.resumed()

    async def drain(self) -> None:
        """Take no more clients, give the present ones DRAIN_SECONDS, then cut them.

        Idle ones are let go at once; whoever comes stays in the backlog, for a sibling or a successor.
        """
        self._draining = True
        self._pause()
        for guest in tuple(self._guests):
            self._guests.dismiss_if_idle(guest)
        await self._associates.close()  # datagrams have no end to wait for
        if self._clients:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), DRAIN_SECONDS)
        self._guests.stop()
        await self._fibers.cancel()
        for relay in tuple(self._relays):
            relay.abort()
        self._carrier.close()
        for timer in (self._again, self._relief):
            if timer is not None:
                timer.cancel()
        self._pipes.close()

    def _accept(self) -> None:
        """Take one client; its siblings, woken as well, and the events of those already here take their turns.

        Taking more at once, one worker holds all clients of a burst while another idles: 13 to 18 % of the rate.
        """
        if self._clients >= self._max_clients:
            if not self._backlog.poll(0):
                return  # full, but a sibling has taken it
            if not self._guests.give_up_one():
                self._rest("the worker has all the clients that its descriptors allow")  # siblings may have room
                return
        try:
            fd, address = self._accept_fd()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _SHORTAGES and not (error.errno == errno.EMFILE and self._guests.give_up_one()):
                self._rest(_SHORTAGES[error.errno])
            return  # else there is room now, or the client gave up while it was queued
        sock = socket.socket(self._family, socket.SOCK_STREAM, 0, fd)
        if not self._admits(address[0]):
            sock.close()
            self._observer.refused_by_source(address[0])
            return
        sock.setblocking(False)
        probe_in_turn(sock)
        try:
            channel = Channel(self._poller, sock)
        except OSError as error:
            sock.close()
            self._rest(_SHORTAGES.get(error.errno or 0, str(error)))
            return
        channel.dry = False  # the first bytes came along
        self._clients += 1
        self._observer.opened()
        client = Stream(channel)
        session = Session(f"{address[0]}:{address[1]}", started=time.monotonic())
        self._guests[client] = session
        self._fibers.start(self._serve(client, session), channel)

    def adopt(self, sock: socket.socket, session: Session) -> None:
        """Go on with a client whose request for UDP another worker has read."""
        try:
            channel = Channel(self._poller, sock)
        except OSError:
            sock.close()
            return
        self._clients += 1
        self._observer.adopted()
        client = Stream(channel)
        self._guests[client] = session
        self._fibers.start(self._go_on(client, session))

    def _gone(self) -> None:
        self._clients -= 1
        self._observer.closed()
        if not self._clients:
            self._empty.set()
        if not self._listening and self._clients < self._max_clients:
            self.start()

    def connections(self, most: int) -> list[tuple[Session, int, int]]:
        """Open sessions with their bytes up and down so far: the newest relays and the newest others, so many each."""
        found = [
            (session, session.bytes_up, session.bytes_down) for session in islice(reversed(self._guests.values()), most)
        ]
        found += [(session, session.bytes_up, session.bytes_down) for session in self._associates.sessions()[-most:]]
        for relay, session in islice(reversed(self._relays.items()), most):
            up, down = relay.moved
            found.append((session, session.bytes_up + up, session.bytes_down + down))
        return found

    def bytes_moved(self) -> tuple[int, int]:
        """Bytes up and down so far of all sessions that are open now."""
        sessions = (*self._guests.values(), *self._associates.sessions(), *self._relays.values())
        up = sum(session.bytes_up for session in sessions)
        down = sum(session.bytes_down for session in sessions)
        moved = [relay.moved for relay in self._relays]
        return up + sum(up for up, _ in moved), down + sum(down for _, down in moved)

    def _leave(self, client: Stream) -> None:
        """A client's coroutine has ended; unless a relay or an association has it now, it goes."""
        self._guests.pop(client, None)
        if not client.relayed:
            client.close()
            self._gone()

    async def _go_on(self, client: Stream, session: Session) -> None:
        try:
            await associate(self, client, session)
            if not client.relayed:
                self.ended(session)
        finally:
            self._leave(client)

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
            session.outcome, session.detail = "silent", f"The client {what}."
            self.ended(session)
        except MalformedMessage as error:
            session.outcome, session.detail = "malformed", str(error)
            self.ended(session)
        except (Gone, OSError):
            if session.outcome == "open":
                session.outcome = "gone"
                session.detail = session.detail or "The client left during its handshake."
                self.ended(session)
            elif session.outcome == CROWDED:
                self.ended(session)
        except asyncio.CancelledError:  # the agent stops
            if not client.relayed:
                client.channel.reset()  # what is cut short must not look finished
            if session.outcome == SHUTDOWN and session.front in ("none", "socks5", "socks4", "tunnel"):
                self.ended(session)  # HTTP's was told where its requests are
            raise
        finally:
            self._leave(client)

    async def _speak(self, client: Stream, session: Session) -> None:
        match sniff(client.buffer[0]):
            case Protocol.HTTP:
                client.channel.ack_at_once()
                await serve_http(self, client, session)
                return
            case Protocol.SOCKS5:
                await serve_socks5(self, client, session)
            case Protocol.SOCKS4:
                await serve_socks4(self, client, session)
            case Protocol.UNKNOWN:
                tls = client.buffer[0] == _TLS_HANDSHAKE
                hint = "TLS: write the proxy's URL with http://, not https://." if tls else "neither SOCKS nor HTTP."
                raise MalformedMessage(f"The client speaks {hint}")
        if not client.relayed:
            self.ended(session)

    def session(self, client: Stream) -> Session:
        session = Session(client.peer, started=time.monotonic())
        self._guests.renew(client, session)
        if self._draining:  # once it waits for its next request it is idle, and may go
            self._poller.loop.call_soon(self._guests.dismiss_if_idle, client)
        return session

    def ended(self, session: Session) -> None:
        self._observer.ended(session)

    def take_relay(self, client: socket.socket, upstream: socket.socket, session: Session) -> None:
        """Relay between two connected sockets that came from another process."""
        stream = Stream(Channel(self._poller, client))
        try:
            channel = Channel(self._poller, upstream)
        except OSError:
            stream.channel.reset()
            raise
        stream.channel.dry = False  # the first bytes came along; the other side's have their edge to come
        self._clients += 1
        if session.bytes_up or session.bytes_down:  # told of where it began, on a trunk
            self._observer.adopted()
        else:
            self._observer.opened()
        self.relay(stream, channel, session)

    def relay(self, client: Stream, upstream: Channel, session: Session) -> None:
        client.relayed = True
        session.outcome = "relaying"
        # What a browser fetches is over soon; whoever has a tunnel sends everything through it.
        carry = self._carrier.take if session.front == "tunnel" else None
        relay = Relay(self._poller, self._pipes, client.channel, upstream, self._on_relay_end, carry=carry)
        self._relays[relay] = session
        relay.start()

    def link(self, links: Links, client: Stream, session: Session, key: bytes = b"") -> None:
        client.channel.deadline(None)
        links.take(client.channel, session, bytes(client.buffer), key)
        client.relayed = True
        self._gone()

    def associate(self, client: Stream, session: Session) -> None:
        client.channel.deadline(None)
        record = UdpSession(session.peer, session.front, outcome="relaying", started=session.started)
        here = self._associates.take(client.channel, record, self._connection_ended)
        client.relayed = True
        if not here:
            self._gone()

    def _relay_ended(self, relay: Relay, error: OSError | None) -> None:
        session = self._relays.pop(relay)
        up, down = relay.moved
        session.bytes_up += up
        session.bytes_down += down
        self._connection_ended(session, error)

    def _connection_ended(self, session: Session, error: OSError | None) -> None:
        session.relayed(error)
        self._observer.ended(session)
        self._gone()
