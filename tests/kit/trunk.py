"""A trunk on loopback whose other end is the test: raw frames there, programs' sockets here, and a recording owner."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeAlias

import pytest

from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay.trunk import Stream, Trunk
from dconnect.proxy.wire.trunk import END
from kit.door import PATIENCE
from kit.loops import LOOPS, runner
from kit.pairs import tcp_pair

TIGHT_BYTES = 4096
"""Asked for as buffers that 32 KiB do not fit into; the kernel gives about twice as much, at each end."""
_DATA_SEGMENTS_IN = 152
"""Where ``tcpi_data_segs_in`` stands in struct tcp_info (linux/tcp.h)."""


class Record:
    """An ``Owner`` that writes down what it is told."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, bytes]] = []
        self.bulk: list[tuple[int, int, int]] = []
        """Number, bytes sent and got, at each call."""
        self.left: list[Stream] = []
        self.ended: list[tuple[int, int | None]] = []
        """Number, and errno of what cut it."""
        self.lost_trunks: list[Trunk] = []
        self.when_bulky: Callable[[Stream], None] = lambda _: None
        self._news = asyncio.Event()

    def asked(self, trunk: Trunk, number: int, payload: bytes) -> None:
        self.opened.append((number, payload))
        Stream(trunk, number)
        self._news.set()

    def bulky(self, stream: Stream) -> None:
        self.bulk.append((stream.number, stream.sent, stream.got))
        self.when_bulky(stream)
        self._news.set()

    def moved(self, stream: Stream) -> None:
        assert stream.over
        assert stream.number not in stream.trunk.streams
        self.left.append(stream)
        self._news.set()

    def over(self, stream: Stream, error: OSError | None) -> None:
        assert stream.over
        assert stream.number not in stream.trunk.streams
        assert stream.channel is None or stream.channel.sock.fileno() < 0
        self.ended.append((stream.number, None if error is None else error.errno))
        self._news.set()

    def lost(self, trunk: Trunk) -> None:
        assert trunk.closed
        assert not trunk.streams
        self.lost_trunks.append(trunk)
        self._news.set()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds that only what we are told changes."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._news.clear()
                await self._news.wait()


class Rig:
    """A trunk, its owner, and ``peer``: the other end of its connection."""

    def __init__(self, *, tight: bool = False) -> None:
        """``tight``: its connection has small buffers."""
        self.poller = Poller()
        self.owner = Record()
        self._open = contextlib.ExitStack()
        self._errors: list[dict[str, Any]] = []
        near, self.peer = self._pair(tight=tight)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel = Channel(self.poller, near)
        self.trunk = Trunk(self.poller, self.owner, self.channel)

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._errors.append(context))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.poller.close()
        self._open.close()
        assert not self._errors

    def _pair(self, *, tight: bool) -> tuple[socket.socket, socket.socket]:
        near, far = tight_pair() if tight else tcp_pair()
        far.setblocking(False)
        return self._open.enter_context(near), self._open.enter_context(far)

    def ends(self, *, tight: bool = False) -> tuple[Channel, socket.socket]:
        """What a stream may be attached to, and the program's end of it."""
        near, far = self._pair(tight=tight)
        return Channel(self.poller, near), far

    def stream(self, number: int, *, tight: bool = False) -> tuple[Stream, socket.socket]:
        """A stream that carries a program's socket, and that socket."""
        stream = Stream(self.trunk, number)
        channel, far = self.ends(tight=tight)
        stream.attach(channel)
        return stream, far

    async def say(self, frames: bytes) -> None:
        """Send the trunk what its other end says."""
        await give(self.peer, frames)

    async def hears(self, frames: bytes) -> bool:
        """Whether these, and nothing else, are the next bytes that the trunk says."""
        return await take(self.peer, len(frames)) == frames

    async def is_silent(self) -> bool:
        """Whether nothing has been said that was not heard yet."""
        await turns()
        self.trunk.say(END, 99)
        return await self.hears(b"\x04\0\0\0\0\0\0\x63")

    async def data(self, number: int, count: int) -> bytes:
        """So many bytes of a stream, said in whatever frames, and no others between them."""
        taken = b""
        while len(taken) < count:
            header = await take(self.peer, 8)
            assert header[:1] + header[4:] == b"\x03" + number.to_bytes(4, "big"), header
            taken += await take(self.peer, int.from_bytes(header[1:4], "big"))
        assert len(taken) == count
        return taken

    async def is_cut(self, *sockets: socket.socket) -> bool:
        """Whether the trunk is closed, which its owner was told once, and so are these streams' sockets."""
        for each in sockets:
            assert await was_reset(each)
        await self.owner.until(lambda: self.owner.lost_trunks)
        await turns()
        return self.trunk.closed and self.owner.lost_trunks == [self.trunk] and await is_gone(self.peer)

    def segments(self) -> int:
        """How many segments with bytes have come to the other end."""
        info = self.peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("=I", info, _DATA_SEGMENTS_IN)[0])


def tight_pair() -> tuple[socket.socket, socket.socket]:
    """A near end that cannot say much to a far end that does not read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TIGHT_BYTES)
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TIGHT_BYTES)
    near.setblocking(False)
    return near, far


async def turns() -> None:
    """Have the event loop look at its sockets, and do what follows from that."""
    for _ in range(4):
        await asyncio.sleep(0)


async def give(sock: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def take(sock: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    taken = b""
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            part = await asyncio.get_running_loop().sock_recv(sock, count - len(taken))
            assert part, f"it ends after {taken[-40:]!r}"
            taken += part
    return taken


async def rest(sock: socket.socket) -> bytes:
    """Everything until its FIN."""
    taken = b""
    async with asyncio.timeout(PATIENCE):
        while part := await asyncio.get_running_loop().sock_recv(sock, 65536):
            taken += part
    return taken


async def was_reset(sock: socket.socket) -> bool:
    """Whether it is cut, and not ended."""
    try:
        await rest(sock)
    except ConnectionResetError as error:
        return error.errno == errno.ECONNRESET
    return False


async def is_gone(sock: socket.socket) -> bool:
    """Whether it is cut or ended, after whatever it says."""
    with contextlib.suppress(ConnectionResetError):
        await rest(sock)
    return True


def reset(sock: socket.socket) -> None:
    """Close it with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


Scenario: TypeAlias = Callable[[Rig], Coroutine[Any, Any, None]]


def on_a_trunk(*, tight: bool = False, started: bool = True) -> Callable[[Scenario], Callable[[str], None]]:
    """Make a test of a scenario: it has a trunk of its own, under each event loop."""

    async def play(scenario: Scenario) -> None:
        async with Rig(tight=tight) as rig:
            if started:
                rig.trunk.start()
            await scenario(rig)

    def make(scenario: Scenario) -> Callable[[str], None]:
        def test(loop: str) -> None:
            runner(loop)(play(scenario))

        test.__name__, test.__qualname__, test.__module__ = scenario.__name__, scenario.__name__, scenario.__module__
        return pytest.mark.parametrize("loop", LOOPS)(test)

    return make
