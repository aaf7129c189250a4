"""A channel with a buffer in front: what the codecs read from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from dconnect.core.limits import BODY_BUFFER_BYTES, LINGER_SECONDS
from dconnect.proxy.fiber import Gone
from dconnect.proxy.poller import Channel

T = TypeVar("T")

_READ_BYTES = 16 * 1024


class Stream:
    """One peer's bytes, parsed as far as needed; the rest stays in ``buffer`` for whoever is next."""

    __slots__ = ("buffer", "channel", "peer", "relayed")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.buffer = bytearray()
        self.peer = ""
        """The client's address and port, for the log."""
        self.relayed = False
        """True once a relay owns the channel; then it is not ours to close."""

    async def parse(self, parser: Callable[[bytearray], tuple[T, int] | None]) -> T:
        """Read until the parser has its message.

        Raises:
            Gone: the stream ended first.
            MalformedMessage: as the parser says; parsers bound the buffer.
            OSError: as ``recv(2)`` does, TimeoutError.
        """
        while (parsed := parser(self.buffer) if self.buffer else None) is None:
            if self.buffer:
                self.channel.ack_at_once()
            data = await self.channel.receive(_READ_BYTES)
            if not data:
                raise Gone(clean=not self.buffer)
            self.buffer += data
        message, consumed = parsed
        del self.buffer[:consumed]
        return message

    async def body_bytes(self, limit: int, seconds: float) -> bytes:
        """The next body bytes, at most ``limit``; what is buffered comes first.

        Raises: Gone, TimeoutError, OSError.
        """
        if self.buffer:
            data = bytes(self.buffer[:limit])
            del self.buffer[:limit]
            return data
        self.channel.deadline(seconds)
        data = await self.channel.receive(min(limit, BODY_BUFFER_BYTES))
        self.channel.deadline(None)
        if not data:
            raise Gone(clean=False)
        await asyncio.sleep(0)  # a fast peer never makes us wait: others must have their turn
        return data

    def push_back(self, data: bytes) -> None:
        """Return bytes that belong to the next message."""
        self.buffer[:0] = data

    async def farewell(self, data: bytes) -> None:
        """Send last words and FIN, then read on for a moment, lest a RST eats them (RFC 9112 §9.6)."""
        self.channel.deadline(LINGER_SECONDS)
        with contextlib.suppress(OSError):  # a TimeoutError is one
            await self.channel.send(data)
            self.channel.finish()
            while await self.channel.receive(_READ_BYTES):  # noqa: ASYNC110 - it waits for the peer
                await asyncio.sleep(0)  # a fast peer never makes us wait: the deadline must have its turn

    def close(self) -> None:
        """Close the channel unless a relay has it."""
        if not self.relayed:
            self.channel.close()
