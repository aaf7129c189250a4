"""The agent's end of one link: frames both ways, the host's addresses, and whether it still lives.

WAITING ──hello──▶ OPEN (has an address; config goes out, packets go both ways)
   └── nothing in time ─┴── EOF, bye, a frame that cannot be, silence, the agent stops ──▶ closed
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Protocol

from dconnect.core.errors import MalformedMessage
from dconnect.core.events import Session
from dconnect.core.limits import (
    LINK_BEAT_SECONDS,
    LINK_BUFFER_BYTES,
    LINK_HELLO_SECONDS,
    LINK_MISSES,
    LINK_SEND_BYTES,
    LINK_TURN_BYTES,
    LINK_UNREAD_BYTES,
    LINK_UNSENT_BYTES,
    PACKET_BYTES,
)
from dconnect.tunnel.outbox import Outbox
from dconnect.tunnel.wire import frames
from dconnect.tunnel.wire.messages import Config, Hello

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: dconnect-link/1\r\n\r\n"

_STAMP = struct.Struct("!d")


class Owner(Protocol):
    """Who has the links."""

    def greeted(self, link: Link, hello: Hello) -> None:
        """The host said hello. Raises: MalformedMessage: it cannot have a link."""

    def deliver(self, link: Link, packet: memoryview) -> None:
        """Take a packet of an open link; it is overwritten afterwards."""

    def relieved(self, link: Link) -> None:
        """Some of what waited was sent."""

    def lost(self, link: Link) -> None:
        """It is closed."""


class Link:
    """One connection after the upgrade. Never blocks."""

    def __init__(self, owner: Owner, sock: socket.socket, session: Session) -> None:
        """Answer the upgrade and wait for hello.

        Args:
            owner: takes what comes.
            sock: the connection, non-blocking; it is owned from now on.
            session: its account, from the host's point of view: up is towards the containers.
        """
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._sock = sock
        self.session = session
        self.outbox = Outbox()
        self.number = 0
        """Its place in the plan; 0 before hello."""
        self.host = ""
        """What tells its host from others."""
        self.address4 = self.address6 = b""
        """The host's; no packet comes from another."""
        self.mtu = 0
        self.packets_up = self.packets_down = 0
        self._buffer = memoryview(bytearray(LINK_BUFFER_BYTES))
        self._filled = 0
        self._writing = self._closed = False
        self._flushing: asyncio.Handle | None = None
        self._heard = self._loop.time()
        for level, option, value in (
            # What waits is to wait in the outboxes, the host's and ours, where its order can still be changed.
            (socket.SOL_SOCKET, socket.SO_SNDBUF, LINK_SEND_BYTES),
            (socket.SOL_SOCKET, socket.SO_RCVBUF, LINK_UNREAD_BYTES),
            (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, LINK_UNSENT_BYTES),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ):
            with contextlib.suppress(OSError):
                sock.setsockopt(level, option, value)
        self._timer = self._loop.call_later(LINK_HELLO_SECONDS, self._tick)

    def start(self, early: bytes) -> None:
        """Answer, and go on with what came right behind the request."""
        self.outbox.say(ACCEPTED)
        self.flush()
        if self._closed:
            return
        self._loop.add_reader(self._sock, self._readable)
        self._buffer[: len(early)] = early
        self._filled = len(early)
        self._take()

    def configure(self, config: Config) -> None:
        """Tell the host what it is to set up."""
        self.outbox.say(frames.frame(frames.CONFIG, config.encode()))
        self.flush()

    def send(self, packet: bytes) -> bool:
        """Have a packet sent to the host, soon; False when too many wait."""
        slot = self.outbox.slot
        if slot is None or self._closed:
            return False
        end = frames.HEADER_BYTES + len(packet)
        slot[frames.HEADER_BYTES : end] = packet
        self.taken(len(packet))
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self.flush)
        return True

    def taken(self, size: int) -> None:
        """A packet of that size was put into the outbox' slot; ``flush`` sends it."""
        self.outbox.take(size)
        self.packets_down += 1
        self.session.bytes_down += size

    def flush(self) -> None:
        """Send as much as the kernel takes."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._closed:
            return
        try:
            sent = self.outbox.flush(self._sock)
        except OSError as error:
            self.close("reset", error.strerror or str(error))
            return
        if self.outbox.pending != self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._sock, self.flush)
            else:
                self._loop.remove_writer(self._sock)
        if sent:
            self._owner.relieved(self)

    def close(self, outcome: str, detail: str = "", say: str = "") -> None:
        """End it; ``say`` is told to the host."""
        if self._closed:
            return
        if say:
            self.outbox.say(frames.bye(say))
            with contextlib.suppress(OSError):
                self.outbox.flush(self._sock)
        self._closed = True
        self._timer.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
        self._loop.remove_reader(self._sock)
        if self._writing:
            self._loop.remove_writer(self._sock)
        self._sock.close()
        self.session.outcome, self.session.detail = outcome, detail
        self._owner.lost(self)

    def _readable(self) -> None:
        try:
            size = self._sock.recv_into(self._buffer[self._filled : self._filled + LINK_TURN_BYTES])
        except BlockingIOError:
            return
        except OSError as error:
            self.close("reset", f"The host cut the link ({error.strerror}).")
            return
        if not size:
            self.close("ok")
            return
        self._filled += size
        self._take()

    def _take(self) -> None:
        """Take the whole frames of what has come."""
        view = self._buffer[: self._filled]
        deliver = self._owner.deliver
        used = count = payload = 0
        try:
            found, used = frames.walk(view)
            for kind, start, end in found:
                if kind == frames.PACKET and self.number:
                    deliver(self, view[start:end])
                    count += 1
                    payload += end - start
                else:
                    self._hear(kind, view[start:end])
        except MalformedMessage as error:
            self.close("malformed", str(error), say=str(error))
            return
        self.packets_up += count
        self.session.bytes_up += payload
        if found:
            self._heard = self._loop.time()
        rest = self._filled - used
        if rest and used:
            self._buffer[:rest] = self._buffer[used : self._filled]
        self._filled = rest

    def _hear(self, kind: int, payload: memoryview) -> None:
        if self._closed:  # by what an earlier frame said
            return
        if kind == frames.HELLO and not self.number:
            hello = Hello.parse(payload)
            self.mtu = min(hello.mtu, PACKET_BYTES)
            self._owner.greeted(self, hello)
            self._timer.cancel()
            self._timer = self._loop.call_later(LINK_BEAT_SECONDS, self._tick)
        elif kind == frames.PING:
            self.outbox.say(frames.frame(frames.PONG, bytes(payload)))
            self.flush()
        elif kind == frames.BYE:
            self.close("ok", frames.parse_bye(payload))
        elif kind != frames.PONG:
            raise MalformedMessage("The host says hello twice, or something else before it.")

    def _tick(self) -> None:
        """Nothing was heard for a while?"""
        silent = self._loop.time() - self._heard
        if not self.number:
            self.close("silent", "The host opened a link and did not say hello.", say="no hello in time")
        elif silent >= LINK_BEAT_SECONDS * LINK_MISSES:
            self.close(
                "vanished", "Nothing was heard from the host for too long.", say="nothing was heard for too long"
            )
        else:
            if silent >= LINK_BEAT_SECONDS:
                self.outbox.say(frames.frame(frames.PING, _STAMP.pack(self._loop.time())))
                self.flush()
            self._timer = self._loop.call_later(LINK_BEAT_SECONDS, self._tick)
