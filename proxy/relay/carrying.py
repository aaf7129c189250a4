"""The process that carries relays which move much (``carrier`` is its owner's side, and has the wire)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable

import uvloop

from dconnect.core.limits import (
    CARRIED_SOCKET_BYTES,
    CARRIER_PIPE_BYTES,
    CARRIER_TELLS_SECONDS,
    CARRIER_TURN_BYTES,
)
from dconnect.core.priority import stand_back
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay.carrier import NUMBER, OPEN, RECORD, RECORDS
from dconnect.proxy.relay.pipes import PipePool
from dconnect.proxy.relay.splice import Relay

REST_SECONDS = 0.0003
"""With it four downloads have the rate that they have without, and a new connection beside them takes 5 ms (p99)
instead of 8; with twice as much it takes 6 again."""
_MOST_INHERITED = 1024
"""Descriptors below it may be inherited: the supervisor's were opened first."""


class _Lent(Channel):
    """A socket that was given away (``cut_when_closed``)."""

    __slots__ = ()

    def close(self) -> None:
        self.cut_when_closed(cut=False)
        super().close()

    def reset(self) -> None:
        self.cut_when_closed(cut=True)
        super().close()


class Unhurried(Poller):
    """Rests after each turn while several relays are busy.

    They get behind by a few hundred kilobytes each, which their sockets hold, and are moved in fewer and longer turns;
    and whoever shares the processors with them finds these free now and then.
    """

    busy = 0
    """How many relays have moved something lately."""

    def _turn(self) -> None:
        super()._turn()
        if self.busy > 1:
            time.sleep(REST_SECONDS)


class Carrying:
    """The process itself."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._poller, self._pipes = Unhurried(), PipePool(CARRIER_PIPE_BYTES)
        self._relays: dict[Relay, int] = {}
        self._told: dict[int, tuple[int, int]] = {}
        self._news: list[bytes] = []
        """Records that the owner has no room for yet."""
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Carry until the owner is gone; then everything is cut."""
        loop = self._poller.loop
        loop.add_reader(self._link, self._receive)
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), CARRIER_TELLS_SECONDS)
            self._tell_open()
        loop.remove_reader(self._link)
        for relay in tuple(self._relays):
            relay.abort()

    def _receive(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._link, NUMBER.size, 2, flags=socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._over.set()
            return
        (number,) = NUMBER.unpack(message)
        if len(descriptors) != 2:  # there was no room for them
            for each in descriptors:
                os.close(each)
            self._tell([(number, 0, 0, errno.EMFILE)])
            return
        client, upstream = (_Lent(self._poller, _socket(each)) for each in descriptors)
        client.dry = upstream.dry = False
        relay = Relay(self._poller, self._pipes, client, upstream, self._ended, turn=CARRIER_TURN_BYTES)
        self._relays[relay] = number
        relay.start()

    def _ended(self, relay: Relay, error: OSError | None) -> None:
        number = self._relays.pop(relay)
        self._told.pop(number, None)
        self._tell([(number, *relay.moved, error.errno or errno.EIO if error is not None else 0)])

    def _tell_open(self) -> None:
        """What has moved, where it has."""
        news = [
            (number, relay.moved) for relay, number in self._relays.items() if self._told.get(number) != relay.moved
        ]
        self._poller.busy = len(news)
        self._tell(())
        if self._news:
            return
        self._told.update(news)
        self._tell((number, up, down, OPEN) for number, (up, down) in news)

    def _tell(self, records: Iterable[tuple[int, int, int, int]]) -> None:
        self._news += [RECORD.pack(*record) for record in records]
        try:
            while self._news:
                self._link.send(b"".join(self._news[:RECORDS]))
                del self._news[:RECORDS]
        except BlockingIOError:  # the owner is busy; ``run`` tells it later
            return
        except OSError:  # it is gone
            self._over.set()


def _socket(descriptor: int) -> socket.socket:
    sock = socket.socket(-1, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CARRIED_SOCKET_BYTES)
    return sock


def main() -> None:
    """Carry; the one argument is the link's descriptor."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, int(sys.argv[1]))
    link.setblocking(False)
    os.closerange(3, link.fileno())  # what the owner lends to its kind is not ours
    os.closerange(link.fileno() + 1, _MOST_INHERITED)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the owner's may be one processor
    stand_back()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its owner

    async def carry() -> None:
        await Carrying(link).run()

    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(carry())


if __name__ == "__main__":
    main()
