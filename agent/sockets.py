"""Where a worker's outgoing sockets come from: the dialer's pool, or this process when embedded."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from pathlib import Path

from dconnect.agent import dialer
from dconnect.core.address import IPAddress
from dconnect.core.backoff import backoff
from dconnect.core.congestion import unpace
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure, from_errno
from dconnect.core.limits import DIALER_BATCH, DIALER_SECONDS, PROBE_BATCH
from dconnect.core.tasks import Tasks
from dconnect.proxy.fiber import UnlessCut

_TCP = {4: b"4", 6: b"6"}
_UDP = {4: b"u", 6: b"v"}
_PING = {4: b"i", 6: b"j"}
_BATCH = {b"4": DIALER_BATCH, b"6": DIALER_BATCH, b"u": PROBE_BATCH, b"v": PROBE_BATCH, b"i": 1, b"j": 1}
"""A raw socket hears everybody's pings from its first moment, so none is kept."""
_DISCARD_PORT = 9
"""Any port serves: connecting a datagram socket sends nothing, it only asks for the route."""


def stays_on_machine(probe: socket.socket, address: IPAddress) -> bool:
    """Whether connecting to the address would stay on the machine; uses up a fresh datagram socket.

    For a destination that is local to the network namespace of the socket, the kernel chooses the
    destination itself as the source (but for 127.0.0.0/8, which policy knows). So the answer is
    never out of date, whatever bridges come and go. A socket serves once only: Linux keeps the
    source address that the first connect chose.
    """
    with probe:
        try:
            probe.connect((str(address), _DISCARD_PORT))
            return bool(probe.getsockname()[0].partition("%")[0] == str(address))
        except OSError:
            return False  # no route: the dial itself will tell the true reason


def _paced(sock: socket.socket, address: IPAddress) -> socket.socket:
    """The Internet's lines have a pace, and what the system has chosen for them; containers have neither."""
    if not address.is_global:
        unpace(sock)
    return sock


class LocalSockets:
    """Sockets of this process: the agent runs on a machine that reaches containers itself."""

    async def stream(self, address: IPAddress) -> socket.socket:
        return _paced(self._create(_TCP[address.version]), address)

    async def datagram(self, address: IPAddress) -> socket.socket:
        return self._create(_UDP[address.version])

    async def ping(self, address: IPAddress) -> socket.socket:
        """A new raw ICMP socket that hears echo replies. Raises: DialError NOT_READY."""
        return self._create(_PING[address.version])

    async def is_local(self, address: IPAddress) -> bool:
        return stays_on_machine(self._create(_UDP[address.version]), address)

    async def close(self) -> None:
        """Nothing is kept."""

    @staticmethod
    def _create(kind: bytes) -> socket.socket:
        try:
            return dialer.create(kind)
        except OSError as error:
            raise _refused(error.errno or errno.EIO) from error


class DialerSockets:
    """A pool of sockets made by the dialer, refilled in batches before it runs dry."""

    def __init__(self, directory: Path) -> None:
        self._path = str(directory / dialer.SOCKET_NAME)
        self._ready: dict[bytes, deque[socket.socket]] = {kind: deque() for kind in dialer.KINDS}
        self._asked: set[bytes] = set()
        self._waiters: dict[bytes, deque[asyncio.Future[None]]] = {kind: deque() for kind in dialer.KINDS}
        self._link: socket.socket | None = None
        self._lost = asyncio.Event()
        self._found = asyncio.Event()
        self._tasks = Tasks()

    @property
    def connected(self) -> bool:
        """Whether the dialer is there now."""
        return self._link is not None

    def start(self) -> None:
        """Connect, and again whenever the dialer was restarted."""
        _ = self._tasks.start(self._keep_connected(), "dialer link")

    async def wait_connected(self, seconds: float) -> None:
        """Wait until the dialer is there, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._found.wait(), seconds)

    async def wait_lost(self) -> None:
        """Wait until the dialer is gone."""
        await self._lost.wait()

    async def close(self) -> None:
        """Give up the link and the unused sockets."""
        await self._tasks.cancel()
        self._drop()
        for ready in self._ready.values():
            while ready:
                ready.popleft().close()

    async def stream(self, address: IPAddress) -> socket.socket:
        return _paced(await self._take(_TCP[address.version]), address)

    async def datagram(self, address: IPAddress) -> socket.socket:
        return await self._take(_UDP[address.version])

    async def ping(self, address: IPAddress) -> socket.socket:
        """A new raw ICMP socket that hears echo replies. Raises: DialError NOT_READY."""
        return await self._take(_PING[address.version])

    async def is_local(self, address: IPAddress) -> bool:
        return stays_on_machine(await self._take(_UDP[address.version]), address)

    async def _take(self, kind: bytes) -> socket.socket:
        ready = self._ready[kind]
        if len(ready) <= _BATCH[kind] // 2 and _BATCH[kind] > 1:
            self._ask(kind)
        if not ready:
            try:
                with UnlessCut():
                    async with asyncio.timeout(DIALER_SECONDS):
                        while not ready:
                            self._ask(kind)  # again, when others have taken what one was woken for
                            await self._supply(self._waiters[kind])
            except TimeoutError:
                raise _not_ready() from None
        return ready.popleft()

    @staticmethod
    async def _supply(waiters: deque[asyncio.Future[None]]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        finally:
            with contextlib.suppress(ValueError):
                waiters.remove(waiter)

    def _ask(self, kind: bytes) -> None:
        if self._link is None or kind in self._asked:
            return
        try:
            self._link.send(kind + bytes((_BATCH[kind],)))
            self._asked.add(kind)
        except OSError:
            self._drop()

    def _receive(self) -> None:
        assert self._link is not None
        try:
            message, descriptors, flags, _ = socket.recv_fds(
                self._link, 16, dialer.MAX_DESCRIPTORS, flags=socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            message, descriptors, flags = b"", [], 0
        kind = message[:1]
        if kind not in dialer.KINDS or len(message) != 2:
            for descriptor in descriptors:
                os.close(descriptor)
            self._drop()
            return
        self._asked.discard(kind)
        family, style = dialer.KINDS[kind]
        for descriptor in descriptors:
            # Family, type and protocol are given, which spares three system calls per socket.
            self._ready[kind].append(socket.socket(family, style, 0, fileno=descriptor))
        if not descriptors and (message[1] or flags & socket.MSG_CTRUNC):  # cut off: we have no room for descriptors
            self._fail(kind, message[1] or errno.EMFILE)
        self._wake(kind)

    def _fail(self, kind: bytes, code: int) -> None:
        """Tell all who wait; asking again is for the next dial."""
        for waiter in self._waiters[kind]:
            if not waiter.done():
                waiter.set_exception(_refused(code))
        self._waiters[kind].clear()

    def _wake(self, kind: bytes) -> None:
        waiters = self._waiters[kind]
        for _ in range(min(len(self._ready[kind]), len(waiters))):
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        if waiters:
            self._ask(kind)

    async def _keep_connected(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            try:
                link.connect(self._path)
            except OSError:
                link.close()
                await asyncio.sleep(backoff(attempt, most=0.25))
                attempt += 1
                continue
            attempt = 0
            self._link = link
            self._lost.clear()
            self._found.set()
            loop.add_reader(link.fileno(), self._receive)
            self._ask(b"4")
            for kind, waiters in self._waiters.items():
                if waiters:
                    self._ask(kind)
            await self._lost.wait()

    def _drop(self) -> None:
        """The dialer is gone; the sockets it made stay good, so dials go on while it restarts."""
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._link.close()
            self._link = None
        self._asked.clear()
        self._found.clear()
        self._lost.set()


def _refused(code: int) -> DialError:
    """Why ``socket(2)`` failed in the engine's network namespace."""
    if code == errno.EAFNOSUPPORT:
        sentence = "The engine's kernel has no such addresses: IPv6 is off there, or IPv4."
    else:
        sentence = f"The engine gives no sockets at the moment ({os.strerror(code)}); try again shortly."
    return DialError(from_errno(code), sentence)


def _not_ready() -> DialError:
    return DialError(Failure.NOT_READY, "The agent's dialer gives no sockets at the moment; it is being restarted.")
