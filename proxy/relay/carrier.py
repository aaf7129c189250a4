"""Relays that move much go on in a process of their own, so that whoever is new does not wait for them.

An event loop that moves bulk has a processor nearly for itself, and a handshake in it waits for turns of milliseconds,
and for the scheduler, which owes such a process nothing. So a relay is given away once it has moved a few megabytes:
its sockets go (SCM_RIGHTS, unix(7)), its record stays. The process is started by the first one.

Wire (SOCK_SEQPACKET), big-endian:
    there   number u64, with two descriptors: the client's and the upstream's
    back    number u64 | up u64 | down u64 | state i32, repeated: bytes since it was given away; the state is -1 while
            it goes on, 0 when both sides have ended, else the errno that cut it
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dconnect.core.congestion import unpace
from dconnect.core.limits import (
    CARRIED_RELAYS,
    CARRIED_SOCKET_BYTES,
    CARRIER_AGAIN_SECONDS,
    CARRIER_NICENESS,
    CARRIER_PIPE_BYTES,
    CARRIER_TELLS_SECONDS,
    CARRIER_TURN_BYTES,
)
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay.pipes import PipePool
from dconnect.proxy.relay.splice import Relay

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBER = struct.Struct("!Q")
_RECORD = struct.Struct("!QQQi")
_OPEN = -1
_RECORDS = 512
"""In one message: 14 KiB."""
_MOST_INHERITED = 1024
"""Descriptors below it may be inherited: the supervisor's were opened first."""


class Carrier:
    """The process, as its owner sees it."""

    def __init__(self, poller: Poller) -> None:
        """Prepare, within the event loop."""
        self._loop = poller.loop
        self._link: socket.socket | None = None
        self._pid = 0
        self._relays: dict[int, Relay] = {}
        self._number = 0
        self._due = 0.0
        """Before it no process is started again."""
        self._closed = False

    def take(self, relay: Relay, client: int, upstream: int) -> bool:
        """Have a relay go on there; False when it must stay. Our descriptors stay open."""
        if self._closed or len(self._relays) >= CARRIED_RELAYS or not self._is_there():
            return False
        assert self._link is not None
        self._number += 1
        try:
            socket.send_fds(self._link, [_NUMBER.pack(self._number)], (client, upstream))
        except OSError:  # busy, or gone, which will be told
            return False
        self._relays[self._number] = relay
        return True

    def close(self) -> None:
        """End it; what it carries is cut."""
        self._closed = True
        self._end(errno.ESHUTDOWN)

    def _is_there(self) -> bool:
        """Start it if need be."""
        if self._link is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + CARRIER_AGAIN_SECONDS
            with contextlib.suppress(OSError):
                self._start()
        return self._link is not None

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            theirs.set_inheritable(True)
            argv = [sys.executable, "-P", "-m", "dconnect.proxy.relay.carrier", str(theirs.fileno())]
            self._pid = os.posix_spawn(sys.executable, argv, os.environ, setsid=True)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._link = ours
        self._loop.add_reader(ours, self._told)

    def _told(self) -> None:
        assert self._link is not None
        try:
            records = self._link.recv(_RECORD.size * _RECORDS)
        except BlockingIOError:
            return
        except OSError:
            records = b""
        if not records:
            self._end(errno.ECONNRESET)
            return
        for number, up, down, state in _RECORD.iter_unpack(records):
            relay = self._relays.get(number)
            if relay is None:
                continue
            relay.carried(up, down)
            if state != _OPEN:
                del self._relays[number]
                relay.ended_there(OSError(state, os.strerror(state)) if state else None)

    def _end(self, code: int) -> None:
        """It is gone, or must go."""
        if self._link is None:
            return
        self._loop.remove_reader(self._link)
        self._link.close()
        self._link = None
        relays, self._relays = self._relays, {}
        for relay in relays.values():
            relay.ended_there(OSError(code, os.strerror(code)))
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


class _Lent(Channel):
    """A socket that was given away (``cut_when_closed``)."""

    __slots__ = ()

    def close(self) -> None:
        self.cut_when_closed(cut=False)
        super().close()

    def reset(self) -> None:
        self.cut_when_closed(cut=True)
        super().close()


class Carrying:
    """The process itself."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._poller, self._pipes = Poller(), PipePool(CARRIER_PIPE_BYTES)
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
            message, descriptors, _, _ = socket.recv_fds(self._link, _NUMBER.size, 2, flags=socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._over.set()
            return
        (number,) = _NUMBER.unpack(message)
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
        self._tell(())
        if self._news:
            return
        news = [
            (number, relay.moved) for relay, number in self._relays.items() if self._told.get(number) != relay.moved
        ]
        self._told.update(news)
        self._tell((number, up, down, _OPEN) for number, (up, down) in news)

    def _tell(self, records: Iterable[tuple[int, int, int, int]]) -> None:
        self._news += [_RECORD.pack(*record) for record in records]
        try:
            while self._news:
                self._link.send(b"".join(self._news[:_RECORDS]))
                del self._news[:_RECORDS]
        except BlockingIOError:  # the owner is busy; ``run`` tells it later
            return
        except OSError:  # it is gone
            self._over.set()


def _socket(descriptor: int) -> socket.socket:
    sock = socket.socket(-1, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, CARRIED_SOCKET_BYTES)
    unpace(sock)
    return sock


def _stand_back() -> None:
    """Let everybody else go first: who moves bulk always has something to do, and others wait for what they do.

    The kernel's autogroup (sched(7)) has a niceness of its own, for each session, where there is one.
    """
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the owner's may be one processor
    os.nice(CARRIER_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(CARRIER_NICENESS))


def main() -> None:
    """Carry; the one argument is the link's descriptor."""
    import uvloop  # noqa: PLC0415 - the owner has another one

    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, int(sys.argv[1]))
    link.setblocking(False)
    os.closerange(3, link.fileno())  # what the owner lends to its kind is not ours
    os.closerange(link.fileno() + 1, _MOST_INHERITED)
    _stand_back()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its owner

    async def carry() -> None:
        await Carrying(link).run()

    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(carry())


if __name__ == "__main__":
    main()
