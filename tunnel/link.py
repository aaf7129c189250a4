"""One open link: frames both ways, and whether the other end still lives. Never blocks, never waits."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import TypeAlias

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import (
    LINK_BEAT_SECONDS,
    LINK_BUFFER_BYTES,
    LINK_CONFIG_SECONDS,
    LINK_MISSES,
    LINK_TURN_BYTES,
    LINK_WOKEN_SECONDS,
)
from dconnect.tunnel.dial import Connection
from dconnect.tunnel.outbox import Outbox
from dconnect.tunnel.wire import frames
from dconnect.tunnel.wire.messages import Config, Hello

Deliver: TypeAlias = Callable[[memoryview], object]

_STAMP = struct.Struct("!d")


class LinkLost(Exception):
    """The link has ended; the text says why."""


class Link:
    """What a connection became after the upgrade."""

    def __init__(
        self, connection: Connection, outbox: Outbox, hello: Hello, on_config: Callable[[Config], None], now: float
    ) -> None:
        self.sock, received, self.door = connection
        self.sock.setblocking(False)
        self.opened = now
        self._outbox = outbox
        self._on_config = on_config
        self._buffer = memoryview(bytearray(LINK_BUFFER_BYTES))
        self._buffer[: len(received)] = received
        self._filled = len(received)
        self.config: Config | None = None
        self.rtt: float | None = None
        """Seconds that the last ping took."""
        self._next_ping = now + LINK_BEAT_SECONDS
        self._deadline = now + LINK_CONFIG_SECONDS
        """When it is given up, unless something is heard before."""
        outbox.clear()
        outbox.say(frames.frame(frames.HELLO, hello.encode()))

    def receive(self, deliver: Deliver, now: float) -> int:
        """Take what has come, packets to ``deliver``, straight from the buffer; bytes received.

        Raises: LinkLost.
        """
        try:
            size = self.sock.recv_into(self._buffer[self._filled : self._filled + LINK_TURN_BYTES])
        except BlockingIOError:
            size = 0
        except OSError as error:
            raise LinkLost(error.strerror or str(error)) from error
        else:
            if not size:
                raise LinkLost("the agent closed the connection")
        self._filled += size
        self._take(deliver, now)
        return size

    def _take(self, deliver: Deliver, now: float) -> None:
        view = self._buffer[: self._filled]
        try:
            found, used = frames.walk(view)
            for kind, start, end in found:
                if kind == frames.PACKET:
                    deliver(view[start:end])
                else:
                    self._hear(kind, view[start:end], now)
        except MalformedMessage as error:
            self._outbox.say(frames.bye(str(error)))
            raise LinkLost(str(error)) from error
        if found and self.config is not None:
            self._deadline = now + LINK_BEAT_SECONDS * LINK_MISSES
        rest = self._filled - used
        if rest and used:
            self._buffer[:rest] = self._buffer[used : self._filled]
        self._filled = rest

    def _hear(self, kind: int, payload: memoryview, now: float) -> None:
        if kind == frames.CONFIG:
            self.config = Config.parse(payload)
            self._on_config(self.config)
        elif kind == frames.PING:
            self._outbox.say(frames.frame(frames.PONG, bytes(payload)))
        elif kind == frames.PONG:
            (sent,) = _STAMP.unpack(payload)
            if 0 <= now - sent <= LINK_BEAT_SECONDS * LINK_MISSES:  # not a number fails it too
                self.rtt = now - sent
        elif kind == frames.BYE:
            raise LinkLost(f"the agent ended it: {frames.parse_bye(payload) or 'no reason given'}")
        else:
            raise MalformedMessage("The agent said hello, which is the host's to say.")

    def tick(self, now: float) -> float:
        """Ping when it is time; when to be called again.

        Raises: LinkLost when nothing was heard for too long.
        """
        if now >= self._deadline:
            raise LinkLost("nothing was heard from the agent for too long")
        if now >= self._next_ping:
            self.ping(now)
        return min(self._next_ping, self._deadline)

    def ping(self, now: float) -> None:
        """Ask whether the other end lives."""
        self._outbox.say(frames.frame(frames.PING, _STAMP.pack(now)))
        self._next_ping = now + LINK_BEAT_SECONDS

    def woken(self, now: float) -> None:
        """The machine slept, or this process: the link may be long dead, so an answer must come soon."""
        self.ping(now)
        self._deadline = now + LINK_WOKEN_SECONDS

    def close(self, reason: str = "") -> None:
        """End it, with a word where that can still be said."""
        if reason:
            self._outbox.say(frames.bye(reason))
        with contextlib.suppress(OSError):
            self._outbox.flush(self.sock)
        self.sock.close()
