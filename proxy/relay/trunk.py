"""A host's small connections, on one that they share: a segment carries several, and none needs its own.

    socket ◀──▶ Stream ◀──▶ Trunk ═════ one TCP connection ═════ Trunk ◀──▶ Stream ◀──▶ socket

A stream keeps the relay's contract but for one thing: it carries TRUNK_STREAM_BYTES each way, and no more. So nobody
has to be told of room: what waits for a slow socket is bounded by that. Whatever turns out to be larger leaves the
trunk before, for a connection of its own, and is relayed as any other from there on:

    host   opens that connection, naming the stream                                        (``Owner.bulky``)
    agent  LEAVE: all that it says on the trunk has been said                              (``Stream.leave``)
    host   LEAVE, and goes on with its own connection; when the agent hears that, so does it (``Owner.moved``)
"""

from __future__ import annotations

import errno
import socket
from typing import Protocol

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import (
    TRUNK_BULK_BYTES,
    TRUNK_DATA_BYTES,
    TRUNK_READ_BYTES,
    TRUNK_READS_PER_TURN,
    TRUNK_STREAM_BYTES,
    TRUNK_UNSENT_BYTES,
    TRUNK_WAITING_BYTES,
)
from dconnect.proxy.poller import ERROR, HANGUP, NOT_DRY, READ, WRITE, Channel, Poller
from dconnect.proxy.wire import trunk as wire
from dconnect.proxy.wire.trunk import ANSWER, DATA, END, LEAVE, OPEN, RESET


class Owner(Protocol):
    """Who has trunks, at either end."""

    def asked(self, trunk: Trunk, number: int, payload: bytes) -> None:
        """The host wants a stream. Raises: MalformedMessage."""

    def bulky(self, stream: Stream) -> None:
        """It has carried TRUNK_BULK_BYTES one way, and more than that with each further call."""

    def moved(self, stream: Stream) -> None:
        """It has left the trunk, both ways; the owner has its channel now, and nothing is in our hands."""

    def over(self, stream: Stream, error: OSError | None) -> None:
        """It has ended, and its socket is closed; ``error`` is what cut it."""

    def lost(self, trunk: Trunk) -> None:
        """It is closed, and its streams are over; ``error`` tells why."""


class Trunk:
    """One end of the shared connection."""

    def __init__(self, poller: Poller, owner: Owner, channel: Channel) -> None:
        """Own the channel; ``start`` begins."""
        self.poller = poller
        self.owner = owner
        self.streams: dict[int, Stream] = {}
        self.closed = self.finishes = False
        """The second: FIN is said, or about to be."""
        self.error: OSError | None = None
        """What ended it, if not its other end."""
        self._channel = channel
        self._received = b""
        """The beginning of a frame."""
        self._waiting = bytearray()
        """Frames to be sent."""
        self._blocked = False
        """Whether that waits for the kernel, which has taken a part or nothing."""
        self._thirsty: set[Stream] = set()
        """Streams that wait for room."""
        self._flushes = self._reads = False
        """Whether that is to be done soon."""
        self._told = False

    def start(self, early: bytes = b"") -> None:
        """Go on with what came right behind the request."""
        self._channel.deadline(None)
        self.poller.replace(self._channel.fd, self._ready)
        if early:
            self._take(early)
        self._read(HANGUP)

    def say(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send a frame, with all others of this turn."""
        self._waiting += wire.frame(kind, number, payload)
        if not self._flushes and not self._blocked:
            self._flushes = True
            self.poller.loop.call_soon(self._flush)

    def has_room(self, stream: Stream) -> bool:
        """Whether a stream may say something; if not, it is told to read again once it may."""
        if len(self._waiting) < TRUNK_WAITING_BYTES:
            return True
        self._thirsty.add(stream)
        return False

    def finish(self) -> None:
        """Say FIN behind all that has been said; the other end, which has no stream any more, closes it then."""
        self.finishes = True
        self._flush()

    def close(self, error: OSError | None = None) -> None:
        """End it, and cut what needs it; a stream of which all is said gives its socket the rest."""
        if self.closed:
            return
        self.closed, self.error = True, error
        self._channel.close()
        reason = error or ConnectionResetError(errno.ECONNRESET, "the trunk has ended")
        for stream in tuple(self.streams.values()):
            stream.lost(reason)
        self.let_go()

    def abort(self, error: OSError) -> None:
        """End it, and cut all that it carries."""
        self.close(error)
        for stream in tuple(self.streams.values()):
            stream.cut(error)

    def let_go(self) -> None:
        """Tell the owner, once it is closed and nothing is left of it."""
        if self.closed and not self.streams and not self._told:
            self._told = True
            self.owner.lost(self)

    def _flush(self) -> None:
        self._flushes = False
        if self.closed:
            return
        waiting = self._waiting
        if waiting:
            try:
                del waiting[: self._channel.sock.send(waiting)]
            except BlockingIOError:
                pass
            except OSError as error:
                self.close(error)
                return
        self._blocked = bool(waiting)
        if waiting:
            self._channel.tell_writable()
        elif self.finishes:
            self._channel.finish()
        elif self._thirsty:
            thirsty, self._thirsty = self._thirsty, set()
            for stream in thirsty:
                stream.read()

    def _ready(self, mask: int) -> None:
        if mask & READ:
            self._read(mask & NOT_DRY)
        if mask & WRITE and self._blocked:
            self._flush()

    def _read(self, not_dry: int) -> None:
        for _ in range(TRUNK_READS_PER_TURN):
            if self.closed:
                return
            if len(self._waiting) > TRUNK_UNSENT_BYTES:
                self.close(OSError(errno.ENOBUFS, "the trunk's other end asks, and does not read"))
                return
            try:
                data = self._channel.sock.recv(TRUNK_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self.close(error)
                return
            if not data:
                self.close()
                return
            self._take(data)
            if len(data) < TRUNK_READ_BYTES and not not_dry:
                return
        if not self._reads:
            self._reads = True
            self.poller.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._reads = False
        self._read(HANGUP)

    def _take(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        try:
            found, used = wire.walk(received)
            self._received = received[used:]
            for kind, number, start, end in found:
                if self.closed:
                    return
                if kind == OPEN:
                    self._open(number, received[start:end])
                elif (stream := self.streams.get(number)) is not None:  # else it was over before the other end knew
                    stream.hear(kind, received[start:end])
        except MalformedMessage as error:
            self.abort(OSError(errno.EPROTO, str(error)))

    def _open(self, number: int, payload: bytes) -> None:
        if number in self.streams:
            raise MalformedMessage(f"The trunk's host opens stream {number} twice.")
        self.owner.asked(self, number, payload)


class Stream:
    """One connection on a trunk, as one end has it."""

    def __init__(self, trunk: Trunk, number: int) -> None:
        self.trunk = trunk
        self.number = number
        self.channel: Channel | None = None
        self.sent = self.got = 0
        """Bytes of it that went into the trunk here, and that came out."""
        self.over = False
        """Ended, or moved."""
        self._held = bytearray()
        """Came out, and the socket has not taken it."""
        self._ended = self._has_ended = self._finished = False
        """END was said; was heard; was passed on."""
        self._left = self._has_left = False
        """Likewise LEAVE."""
        trunk.streams[number] = self

    @property
    def is_said(self) -> bool:
        """Whether nothing more of it is on the trunk: what is left is to give the socket what is held."""
        return (self._ended and self._has_ended) or (self._left and self._has_left)

    def attach(self, channel: Channel) -> None:
        """Go on with this socket, which is owned from now on."""
        self.channel = channel
        if self.over:
            channel.reset()
            return
        channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # urgent data (telnet's, FTP's) is data
        self.trunk.poller.replace(channel.fd, self._ready)
        self._settle()
        if not channel.dry:
            self.read()

    def read(self) -> None:
        """Go on reading the socket."""
        if not self.over:
            self._read(HANGUP)

    def leave(self) -> None:
        """Say nothing more here."""
        if not self._left and not self.over:
            self._left = True
            self.trunk.say(LEAVE, self.number)
            self._settle()

    def cut(self, error: OSError) -> None:
        """Cut it at both ends."""
        if not self.over:
            self.trunk.say(RESET, self.number)
            self._end(error)

    def lost(self, error: OSError) -> None:
        """The other end has cut it, or the trunk is gone."""
        if not self.over and not self.is_said:
            self._end(error)

    def answered(self, rep: int) -> None:
        """The agent has said how the dial ended. Raises: MalformedMessage: it was not asked."""
        raise MalformedMessage(f"An answer ({rep}) to nothing is on the trunk.")

    def hear(self, kind: int, payload: bytes) -> None:
        """Take a frame of it. Raises: MalformedMessage: none that can come now."""
        if kind == RESET:
            self.lost(ConnectionResetError(errno.ECONNRESET, "its other end cut it"))
        elif kind == ANSWER:
            self.answered(payload[0])
        elif self._has_left or (self._has_ended and kind != LEAVE):
            raise MalformedMessage(f"Stream {self.number} of the trunk goes on after its end.")
        elif kind == DATA:
            self._deliver(payload)
        elif kind == END:
            self._has_ended = True
            self._settle()
        else:
            self._has_left = True
            self.leave()
            self._settle()

    def _ready(self, mask: int) -> None:
        channel = self.channel
        assert channel is not None
        if mask & READ:
            self._read(mask & NOT_DRY)
        if mask & WRITE and self._held:
            self._settle()
        if mask & ERROR and not self.over:  # of a socket whose stream has ended already it is told by nothing else
            code = channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self.cut(OSError(code, "relay"))

    def _read(self, not_dry: int) -> None:
        """Say what the socket has, as far as that goes on the trunk."""
        assert self.channel is not None
        sock = self.channel.sock
        while not (self.over or self._ended or self._left):
            room = min(TRUNK_DATA_BYTES, TRUNK_STREAM_BYTES - self.sent)
            if not room:
                return  # it goes on where it moves to
            if not self.trunk.has_room(self):
                return
            try:
                data = sock.recv(room)
            except BlockingIOError:
                return
            except OSError as error:
                self.cut(error)
                return
            if not data:
                self._ended = True
                self.trunk.say(END, self.number)
                self._settle()
                return
            self.sent += len(data)
            self.trunk.say(DATA, self.number, data)
            if self.sent >= TRUNK_BULK_BYTES:
                self.trunk.owner.bulky(self)
            if len(data) < room and not not_dry:
                return

    def _deliver(self, data: bytes) -> None:
        """Give the socket what came out, or keep it. Raises: MalformedMessage: it is more than a stream may carry."""
        self.got += len(data)
        if self.got > TRUNK_STREAM_BYTES:
            raise MalformedMessage(f"Stream {self.number} of the trunk carries more than it may.")
        self._held += data
        self._settle()
        if self.got >= TRUNK_BULK_BYTES and not self.over:
            self.trunk.owner.bulky(self)

    def _settle(self) -> None:
        """Give the socket what is held; then its end, if that has come, or everything, if both ends have left."""
        channel, held = self.channel, self._held
        if channel is None or self.over:
            return
        if held:
            try:
                del held[: channel.sock.send(held)]
            except BlockingIOError:
                pass
            except OSError as error:
                self.cut(error)
                return
            if held:
                channel.tell_writable()
                return
        if self._has_ended and not self._finished:
            self._finished = True
            channel.finish()
        if self._ended and self._finished:
            self._end(None)
            return
        if self._left and self._has_left:
            self._move(channel)

    def forget(self) -> None:
        """It is no more on the trunk."""
        del self.trunk.streams[self.number]
        self.over = True

    def _move(self, channel: Channel) -> None:
        self.forget()
        channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)  # else the relay would not see such data
        self.trunk.owner.moved(self)
        self.trunk.let_go()

    def _end(self, error: OSError | None) -> None:
        """Close the socket, with RST after an error."""
        self.forget()
        if self.channel is not None:
            if error is None:
                self.channel.close()
            else:
                self.channel.reset()
        self.trunk.owner.over(self, error)
        self.trunk.let_go()
