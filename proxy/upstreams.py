"""Server connections that one HTTP proxy client keeps between its requests."""

from __future__ import annotations

from dconnect.core.address import Target
from dconnect.core.events import Session
from dconnect.core.limits import MAX_IDLE_UPSTREAMS
from dconnect.proxy.dial import Dial
from dconnect.proxy.stream import Stream


class Upstreams:
    """Idle connections by destination, at most MAX_IDLE_UPSTREAMS; the oldest goes first."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._idle: dict[Target | None, Stream] = {}

    async def reuse(self, target: Target | None) -> Stream | None:
        """An idle connection that still leads to where the destination's name points."""
        stream = self._idle.pop(target, None)
        if stream is None:
            return None
        right = False
        try:
            right = stream.channel.idle() and (target is None or await self._dial.still_right(target, stream.channel))
        finally:
            if not right:
                stream.close()
        return stream if right else None

    async def open(self, target: Target | None, session: Session) -> Stream:
        """A fresh connection; ``target`` None is the agent's own API. Raises DialError."""
        channel = await (self._dial.own(session) if target is None else self._dial(target, session))
        return Stream(channel)

    def keep(self, target: Target | None, stream: Stream) -> None:
        """Keep a connection whose response was read to its end."""
        if stream.buffer:  # bytes beyond the response: the server is confused, so is the stream
            stream.close()
            return
        replaced = self._idle.pop(target, None)
        if replaced is not None:
            replaced.close()
        self._idle[target] = stream
        if len(self._idle) > MAX_IDLE_UPSTREAMS:
            self._idle.pop(next(iter(self._idle))).close()

    def close(self) -> None:
        """Close them all."""
        for stream in self._idle.values():
            stream.close()
        self._idle.clear()
