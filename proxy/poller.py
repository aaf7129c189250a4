"""Readiness for many sockets: one edge-triggered epoll, nested in the event loop.

Facts about epoll that this file rests on:

- An epoll descriptor is itself pollable, so the whole set is one reader of the event loop:
  timers, tasks and signals stay asyncio's, and a socket costs one ``epoll_ctl`` in its life
  instead of two per wait.
- Edge-triggered means: an event is told once. Whoever gets it must go on until the kernel says
  EAGAIN, or must be certain that nothing is left. A report carries the *whole* state, so IN
  comes along with an OUT edge; handlers therefore treat a mask as a hint, never as a promise.
- A handler may close a descriptor whose event is later in the same batch, and the number may
  already belong to a new socket. The new handler then sees a false hint, which is harmless.
- The kernel forgets a descriptor when it is closed, since nobody else holds what it stands for; before it goes to
  another process it must be unregistered.
- Listening sockets hang in the event loop itself, level-triggered: each of its iterations takes one
  client. In a nested epoll EPOLLEXCLUSIVE would do nothing, since nobody waits on the inner one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import struct
from collections.abc import Callable
from typing import Protocol, TypeAlias

from dconnect.core.limits import DEADLINE_TICK_SECONDS, EVENTS_PER_TURN
from dconnect.proxy.fiber import UnlessCut, Wait

READ = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
HANGUP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
CUT = select.EPOLLHUP | select.EPOLLERR
"""RST, or FIN in both directions: nothing that is sent arrives any more."""
ERROR = select.EPOLLERR
URGENT = select.EPOLLPRI
NOT_DRY = HANGUP | URGENT
"""After such an event a short read tells nothing: a FIN may be next, and reading stops before urgent data."""

_EDGES = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET
_ALL_EDGES = _EDGES | select.EPOLLOUT
_RESET, _ORDERLY = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)

Handler: TypeAlias = Callable[[int], None]


class Expires(Protocol):
    """What can have a deadline: a Channel."""

    def expire(self) -> None:
        """The deadline has come."""


class Poller:
    """Tells handlers that their descriptors may be ready."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._deadlines: dict[Expires, float] = {}
        self._ticking: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._was_late = False
        self.loop.add_reader(self._epoll.fileno(), self._turn)

    def add(self, fd: int, handler: Handler) -> None:
        """Watch a connected (or connecting) descriptor, edge-triggered, for its whole life; reading only at first."""
        self._handlers[fd] = handler
        self._epoll.register(fd, _EDGES)

    def add_writing(self, fd: int) -> None:
        """Tell also that a watched descriptor may be written: at once if it may be already, from then on at each edge.

        Most sockets never block a writer, and would be told writable for nothing.
        """
        self._epoll.modify(fd, _ALL_EDGES)

    def replace(self, fd: int, handler: Handler) -> None:
        """Give a watched descriptor to another handler."""
        self._handlers[fd] = handler

    def release(self, channel: Channel) -> None:
        """A channel's descriptor goes to another process: the kernel will not forget it when it is closed here."""
        self.forget(channel)
        self._epoll.unregister(channel.fd)

    def forget(self, channel: Channel) -> None:
        """A channel's descriptor is about to be closed."""
        self._handlers.pop(channel.fd, None)
        self._deadlines.pop(channel, None)

    def set_deadline(self, channel: Expires, seconds: float | None) -> None:
        """Have its ``expire`` called that much later, at most a tick late; None: no more.

        One timer serves all channels: a timer for each wait would be a tenth of a connection's cost.
        """
        if seconds is None:
            self._deadlines.pop(channel, None)
            return
        self._deadlines[channel] = self.loop.time() + seconds
        if self._ticking is None:
            self._tick_later()

    def _tick(self) -> None:
        now = self.loop.time()
        if now - self._tick_due > DEADLINE_TICK_SECONDS and not self._was_late:
            # We were stopped, or very busy: what came meanwhile is read before anybody is told that nothing did.
            self._was_late = True
            self._tick_later()
            return
        self._was_late = False
        for channel in [channel for channel, moment in self._deadlines.items() if moment <= now]:
            del self._deadlines[channel]
            channel.expire()
        self._ticking = None
        if self._deadlines:
            self._tick_later()

    def _tick_later(self) -> None:
        self._tick_due = self.loop.time() + DEADLINE_TICK_SECONDS
        self._ticking = self.loop.call_later(DEADLINE_TICK_SECONDS, self._tick)

    def close(self) -> None:
        """Forget everything."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._deadlines.clear()
        self.loop.remove_reader(self._epoll.fileno())
        self._handlers.clear()
        self._epoll.close()

    def _turn(self) -> None:
        handlers = self._handlers
        for fd, mask in self._epoll.poll(0, EVENTS_PER_TURN):
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(mask)
                except Exception as error:  # noqa: BLE001 - the events behind it are told only this once
                    self.loop.call_exception_handler({"message": "an event handler failed", "exception": error})


class Channel:
    """A connected, non-blocking socket whose reads and writes can be awaited.

    Used for handshakes and HTTP; a relay takes the two sockets over with ``Poller.replace``.
    One fiber or task reads and one writes at a time.
    """

    __slots__ = (
        "_expired",
        "_not_dry",
        "_poller",
        "_reader",
        "_tells_writable",
        "_writer",
        "dry",
        "fd",
        "on_hangup",
        "sock",
    )

    def __init__(self, poller: Poller, sock: socket.socket) -> None:
        self._poller = poller
        self._reader: Wait | None = None
        self._writer: Wait | None = None
        self._expired = False
        self._not_dry = 0
        self._tells_writable = False
        self.on_hangup: Callable[[], None] | None = None
        """Called when the peer ends or cuts its stream while nobody reads it; ``hung_up`` says which."""
        self.dry = True
        """True while the next bytes or FIN, if any, have their edge still to come (``add`` gives the first)."""
        self.sock = sock
        self.fd = sock.fileno()
        poller.add(self.fd, self._ready)

    def _ready(self, mask: int) -> None:
        reader, writer = self._reader, self._writer
        if mask & READ:
            self.dry = False
            self._not_dry |= mask & NOT_DRY
            if self.on_hangup is not None and mask & HANGUP:
                self.on_hangup()
            if reader is not None:
                self._reader = None
                reader.wake()
        if writer is not None and mask & WRITE:
            self._writer = None
            writer.wake()

    def deadline(self, seconds: float | None) -> None:
        """From so many seconds on, whoever waits for the peer gets TimeoutError; None: wait for ever."""
        self._expired = False
        self._poller.set_deadline(self, seconds)

    def expire(self) -> None:
        self._expired = True
        waits = self._reader, self._writer
        self._reader = self._writer = None
        for wait in waits:
            if wait is not None:
                wait.wake(TimeoutError())

    @property
    def hung_up(self) -> int:
        """Which of HANGUP was told so far: RDHUP when the peer ended its stream, one of CUT when it is gone."""
        return self._not_dry & HANGUP

    @property
    def is_cut(self) -> bool:
        """Whether the peer is known to be gone: RST, or FIN both ways."""
        return bool(self._not_dry & CUT)

    def send_if_free(self, data: bytes) -> None:
        """Send a few bytes, unless the peer is behind, in which case others may be half sent."""
        if self._writer is None:
            with contextlib.suppress(OSError):
                self.sock.send(data)

    def tell_writable(self) -> None:
        """Writing failed with EAGAIN: have the handler told when it may go on."""
        if not self._tells_writable:
            self._tells_writable = True
            self._poller.add_writing(self.fd)

    async def writable(self) -> None:
        """Wait for the next sign that the socket may be written (or has failed). Raises TimeoutError."""
        if self._expired:
            raise TimeoutError
        writer = Wait(self._poller.loop)
        self.wake_when_writable(writer)
        await writer

    def wake_when_writable(self, wait: Wait) -> None:
        """Have a wait, which several channels may share, woken by the next such sign."""
        self._writer = wait
        self.tell_writable()

    async def receive(self, limit: int) -> bytes:
        """Up to ``limit`` bytes; empty at the peer's FIN. Raises OSError as ``recv(2)`` does, TimeoutError."""
        while True:
            if self._expired:  # a peer that never makes us wait has a deadline too
                raise TimeoutError
            if self.dry:
                self._reader = reader = Wait(self._poller.loop)
                await reader
            try:
                data = self.sock.recv(limit)
            except BlockingIOError:
                self.dry = True
            else:
                self.dry = 0 < len(data) < limit and not self._not_dry
                return data

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Raises OSError as ``send(2)`` does, TimeoutError."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                await self.writable()

    def idle(self) -> bool:
        """Whether the peer has neither sent anything nor closed: fit for another request."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def finish(self) -> None:
        """Send FIN; reading goes on."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; a pending wait of another task ends with an error."""
        if self.sock.fileno() < 0:
            return
        self._poller.forget(self)
        self.sock.close()
        for wait in (self._reader, self._writer):
            if wait is not None:
                wait.wake_soon(OSError(errno.EBADF, "closed"))
        self._reader = self._writer = None

    def leave(self) -> None:
        """Close our descriptor of a socket that another process goes on with."""
        self._poller.release(self)
        self.sock.close()

    def ack_at_once(self) -> None:
        """Have what comes acknowledged soon, as it is unless a listener or we have put it off (TCP_QUICKACK, tcp(7)).

        A peer with Nagle's algorithm (RFC 9293 §3.7.4) sends the second half of what it says when the first is
        acknowledged, which might take 40 ms.
        """
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def bound_window(self, size: int) -> None:
        """Never tell the peer of more room than about so many bytes; for a connection that has hardly begun.

        Later the kernel would have told of more, and drop what is under way for it, which RFC 9293 §3.8.6 calls
        shrinking the window: the peer waits for its timer, and sends it again.
        """
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            # Older kernels leave a fixed buffer's window at what the first one allowed, 64 KiB.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, size)

    def cut_when_closed(self, *, cut: bool) -> None:
        """Whether the peer is told of a cut, not of an end, by whoever closes the socket: so a killed process does."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if cut else _ORDERLY)

    def reset(self) -> None:
        """Close with RST, which tells the peer that its stream was cut, not finished."""
        try:  # noqa: SIM105 - contextlib.suppress takes longer, and every relay ends here
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass
        self.close()


async def connect(
    poller: Poller, sock: socket.socket, address: tuple[str, int] | str, seconds: float | None = None
) -> Channel:
    """Connect a non-blocking socket and watch it.

    Raises: OSError with the errno of ``connect(2)``, TimeoutError, Cut; the socket is then closed.
    """
    under_way = _begin(sock, address)
    channel = Channel(poller, sock)
    if under_way:
        await _connected(channel, address, seconds)
    return channel


async def connect_unwatched(
    poller: Poller, sock: socket.socket, address: tuple[str, int], seconds: float | None = None
) -> None:
    """The same for a socket that another process goes on with: it is watched only while it must be waited for."""
    if _begin(sock, address):
        channel = Channel(poller, sock)
        await _connected(channel, address, seconds)
        poller.release(channel)


def _begin(sock: socket.socket, address: tuple[str, int] | str) -> bool:
    """Connect as far as that goes at once; whether it is still under way. Raises: OSError; the socket is closed."""
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        code = sock.connect_ex(address)  # a container answers within the first call; the second one tells
    if code not in (0, errno.EALREADY):
        sock.close()
        raise OSError(code, "connect")
    return code == errno.EALREADY


async def _connected(channel: Channel, address: tuple[str, int] | str, seconds: float | None) -> None:
    """Wait until it is. Raises: as ``connect``."""
    code = errno.EALREADY
    channel.deadline(seconds)
    try:
        with UnlessCut():
            while code == errno.EALREADY:  # also after a false hint (see above)
                await channel.writable()
                code = channel.sock.connect_ex(address)
    except BaseException:
        channel.close()
        raise
    channel.deadline(None)
    if code:
        channel.close()
        raise OSError(code, "connect")
