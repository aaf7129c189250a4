"""The agent's end of the hosts' trunks: what they ask for is dialed, and what turns out large goes to the workers."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Iterator

from dconnect.agent.sessions import Sessions
from dconnect.core.address import Target
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.limits import HANDOVER_ATTEMPTS, HANDOVER_SECONDS, TRUNK_STREAMS, TRUNKS, TUNNEL_DIALS
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay.trunk import Stream, Trunk
from dconnect.proxy.wire import socks5
from dconnect.proxy.wire.trunk import ANSWER, RESET, parse_open
from dconnect.tunnel.gateway.router import address_of
from dconnect.tunnel.gateway.tcp import cut
from dconnect.tunnel.gateway.ways import Connects


class AgentStream(Stream):
    """A stream, as the agent has it."""

    def __init__(self, trunk: AgentTrunk, number: int, session: Session) -> None:
        super().__init__(trunk, number)
        self.session = session
        self.own: socket.socket | None = None
        """The connection that it is to leave the trunk for."""

    @property
    def upstream(self) -> socket.socket:
        """The connection to its destination."""
        assert self.channel is not None
        return self.channel.sock

    def hear(self, kind: int, payload: bytes) -> None:
        if self.channel is None and kind != RESET:
            raise MalformedMessage(f"Stream {self.number} of the trunk is used before it is there.")
        super().hear(kind, payload)

    def tell(self) -> None:
        """Have the record know what was carried."""
        self.session.bytes_up, self.session.bytes_down = self.got, self.sent


class AgentTrunk(Trunk):
    """A trunk, as the agent has it."""

    def __init__(self, trunks: Trunks, channel: Channel, key: bytes, session: Session) -> None:
        super().__init__(trunks.poller, trunks, channel)
        self.key = key
        self.session = session


class Trunks:
    """Implements ``relay.trunk.Owner``."""

    def __init__(
        self, poller: Poller, ways: Connects[socket.socket], sessions: Sessions, most: int = TRUNK_STREAMS
    ) -> None:
        """Begin with none.

        Args:
            poller: watches every socket.
            ways: the way out.
            sessions: are told of each stream.
            most: streams of all trunks together.
        """
        self.poller = poller
        self._ways = ways
        self._sessions = sessions
        self._most = most
        self._trunks: dict[bytes, AgentTrunk] = {}
        self._dials = 0
        self._leaving: set[AgentStream] = set()
        """Have left their trunks, and no worker has had room for them yet."""

    def adopt(self, sock: socket.socket, session: Session, early: bytes, key: bytes) -> None:
        """Take a connection that is to be a trunk with this key; it is answered here."""
        if key in self._trunks or len(self._trunks) >= TRUNKS:
            session.outcome, session.detail = "not_ready", f"The agent has {TRUNKS} trunks already, or this one."
            self._sessions.ended(session)
            _answer(sock, socks5.GENERAL_FAILURE)
            sock.close()
            return
        try:
            channel = self._watched(sock)
        except DialError as error:
            session.failed(error)
            self._sessions.ended(session)
            return
        _answer(sock, socks5.SUCCEEDED)
        self._trunks[key] = trunk = AgentTrunk(self, channel, key, session)
        trunk.start(early)

    def move(self, sock: socket.socket, early: bytes, key: bytes, number: int) -> None:
        """Take the connection for which a stream is to leave its trunk; nothing may come on it before that."""
        trunk = self._trunks.get(key)
        stream = trunk.streams.get(number) if trunk is not None else None
        if not isinstance(stream, AgentStream) or stream.channel is None or stream.own is not None or early:
            cut(sock)  # the host gave it up meanwhile, or never had it
            return
        stream.own = sock
        stream.leave()

    def sessions(self) -> Iterator[Session]:
        """The records of what is open: trunks, and their streams."""
        for trunk in self._trunks.values():
            yield trunk.session
            for stream in trunk.streams.values():
                assert isinstance(stream, AgentStream)
                stream.tell()
                yield stream.session

    def close(self) -> None:
        """Cut them all."""
        for trunk in tuple(self._trunks.values()):
            trunk.abort(OSError(errno.ESHUTDOWN, "the agent stopped"))
        for stream in tuple(self._leaving):
            self._hand_over(stream, 0)

    async def _dial(self, stream: AgentStream, packed: bytes, port: int) -> None:
        session = stream.session
        self._dials += 1
        try:
            upstream = await self._ways.connect(address_of(packed), port, session)
            if stream.over:
                cut(upstream)
                session.outcome, session.detail = "gone", "The host left while its connection was being dialed."
                self._sessions.ended(session)
                return
            channel = self._watched(upstream)
        except DialError as error:
            session.failed(error)
            self._sessions.ended(session)
            if not stream.over:
                stream.forget()
                stream.trunk.say(ANSWER, stream.number, bytes((error.failure.value.socks5_rep,)))
            return
        finally:
            self._dials -= 1
        session.outcome = "relaying"
        self._sessions.adopted()  # what the front door has accepted is the trunk
        stream.trunk.say(ANSWER, stream.number, bytes((socks5.SUCCEEDED,)))
        stream.attach(channel)

    def _watched(self, sock: socket.socket) -> Channel:
        """Raises: DialError; it is closed then."""
        try:
            return Channel(self.poller, sock)
        except OSError as error:
            sock.close()
            raise DialError(Failure.NOT_READY, f"The agent can watch no further sockets ({error.strerror}).") from None

    # What trunks ask of their owner.

    def asked(self, trunk: Trunk, number: int, payload: bytes) -> None:
        assert isinstance(trunk, AgentTrunk)
        packed, port = parse_open(payload)
        streams = sum(len(each.streams) for each in self._trunks.values())
        if streams >= self._most or self._dials >= TUNNEL_DIALS:
            trunk.say(ANSWER, number, bytes((socks5.GENERAL_FAILURE,)))  # silence, to the program: it comes again
            return
        target = str(Target(str(address_of(packed)), port))
        session = Session(trunk.session.peer, "tunnel", target=target, started=time.monotonic())
        self._ways.dials.start(self._dial(AgentStream(trunk, number, session), packed, port))

    def bulky(self, stream: Stream) -> None:
        """The host sees it as well, and acts."""

    def moved(self, stream: Stream) -> None:
        assert isinstance(stream, AgentStream)
        assert stream.channel is not None
        stream.tell()
        self.poller.release(stream.channel)
        self._leaving.add(stream)
        self._hand_over(stream, HANDOVER_ATTEMPTS)

    def _hand_over(self, stream: AgentStream, attempts: int) -> None:
        """Have a worker go on; none may have room for the moment, when many streams move at once."""
        if stream not in self._leaving:
            return
        session, own, upstream = stream.session, stream.own, stream.upstream
        if attempts and own is not None and not self._ways.relay(own, upstream, session):
            self.poller.loop.call_later(HANDOVER_SECONDS, self._hand_over, stream, attempts - 1)
            return
        self._leaving.discard(stream)
        self._sessions.closed()
        if attempts and own is not None:
            return
        cut(upstream)
        if own is not None:
            cut(own)
        session.outcome, session.detail = "not_ready", "No worker of the agent took the connection."
        self._sessions.ended(session)

    def over(self, stream: Stream, error: OSError | None) -> None:
        assert isinstance(stream, AgentStream)
        if stream.own is not None:
            cut(stream.own)
        if stream.channel is not None:  # else it is being dialed
            stream.tell()
            stream.session.relayed(error)
            self._sessions.ended(stream.session)
            self._sessions.closed()

    def lost(self, trunk: Trunk) -> None:
        assert isinstance(trunk, AgentTrunk)
        del self._trunks[trunk.key]
        session, error = trunk.session, trunk.error
        session.relayed(error)
        if error is not None and error.errno == errno.EPROTO:
            session.outcome, session.detail = "malformed", str(error.strerror)
        self._sessions.ended(session)


def _answer(sock: socket.socket, rep: int) -> None:
    """Reply to the request for a trunk; a new connection has room for it."""
    with contextlib.suppress(OSError):  # of one that is cut already the rest tells
        sock.send(socks5.greeting_reply(socks5.TUNNEL) + socks5.reply(rep))
