"""Several addresses of one name, tried so that a dead one costs a quarter of a second (RFC 8305).

    attempt 1 ──────────────────────✗ refused
    attempt 2          ──────── … ──────▶ connected: wins, the others are closed
    attempt 3                       ──────✗
               250 ms     at once, since one failed

There are no tasks: the one coroutine that dials waits for all pending sockets with one ``Wait``.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import Iterable

from dconnect.core.address import IPAddress
from dconnect.core.limits import PARALLEL_ATTEMPTS
from dconnect.proxy.fiber import UnlessCut, Wait
from dconnect.proxy.poller import Channel, Poller

_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)


def interleaved(addresses: Iterable[IPAddress]) -> list[IPAddress]:
    """The families in turn, beginning with the first address's, else in the given order (RFC 8305 §4)."""
    unique = list(dict.fromkeys(addresses))
    first = [address for address in unique if address.version == unique[0].version]
    other = [address for address in unique if address.version != unique[0].version]
    pairs = itertools.zip_longest(first, other)
    return [address for pair in pairs for address in pair if address is not None]


class Race:
    """Connects under way to one port of several addresses; the first to succeed wins."""

    def __init__(self, poller: Poller, port: int) -> None:
        self._poller = poller
        self._port = port
        self._pending: dict[Channel, IPAddress] = {}
        self.failed: list[tuple[IPAddress, OSError]] = []
        """Attempts that are over; a TimeoutError for one that was given up."""

    @property
    def pending(self) -> int:
        """How many attempts are under way."""
        return len(self._pending)

    def enter(self, sock: socket.socket, address: IPAddress) -> None:
        """Begin to connect; with PARALLEL_ATTEMPTS under way already, the oldest is given up."""
        if len(self._pending) >= PARALLEL_ATTEMPTS:
            self._give_up(next(iter(self._pending)))
        code = sock.connect_ex((str(address), self._port))
        if code not in (0, *_UNDER_WAY):
            sock.close()
            self.failed.append((address, OSError(code, "connect")))
            return
        self._pending[Channel(self._poller, sock)] = address

    async def winner(self, seconds: float) -> tuple[Channel, IPAddress] | None:
        """The first connected channel, no longer ours; None as soon as an attempt has failed, or when time is up."""
        failures = len(self.failed)
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            for channel, address in tuple(self._pending.items()):
                code = channel.sock.connect_ex((str(address), self._port))
                if code in (0, errno.EISCONN):
                    del self._pending[channel]
                    return channel, address
                if code not in _UNDER_WAY:
                    del self._pending[channel]
                    channel.close()
                    self.failed.append((address, OSError(code, "connect")))
            left = until - loop.time()
            if left <= 0 or not self._pending or len(self.failed) > failures:
                return None
            await self._any_sign(left)

    async def _any_sign(self, seconds: float) -> None:
        """Wait until one of the sockets may have come to an end, at most so long."""
        sign = Wait(self._poller.loop)
        for channel in self._pending:
            channel.wake_when_writable(sign)
        timer = self._poller.loop.call_later(seconds, sign.wake)
        try:
            with UnlessCut():
                await sign
        finally:
            timer.cancel()

    def _give_up(self, channel: Channel) -> None:
        self.failed.append((self._pending.pop(channel), TimeoutError()))
        channel.close()

    def close(self) -> None:
        """Give up all that is still under way."""
        for channel in tuple(self._pending):
            self._give_up(channel)
