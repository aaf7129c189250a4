"""Streams and channels over socket pairs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Iterator

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import BODY_BUFFER_BYTES
from dconnect.proxy.fiber import Gone
from dconnect.proxy.poller import Channel, Poller, connect
from dconnect.proxy.stream import Stream
from dconnect.proxy.wire.socks5 import parse_greeting

Scene = Callable[[Poller, Channel, socket.socket], Awaitable[None]]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def _play(pair: tuple[socket.socket, socket.socket], scene: Scene) -> None:
    async def main() -> None:
        poller = Poller()
        try:
            await scene(poller, Channel(poller, pair[0]), pair[1])
        finally:
            poller.close()

    asyncio.run(main())


def _waiting(sock: socket.socket) -> int:
    """Bytes that lie unread in a socket."""
    count: int = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
    return count


def test_receive_waits_for_bytes_and_then_for_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    async def scene(_: Poller, channel: Channel, peer: socket.socket) -> None:
        reading = asyncio.ensure_future(channel.receive(10))
        await asyncio.sleep(0)
        peer.sendall(b"hello")
        assert await reading == b"hello"
        peer.close()
        assert await channel.receive(10) == b""

    _play(pair, scene)


def test_a_cancelled_read_loses_no_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    async def scene(_: Poller, channel: Channel, peer: socket.socket) -> None:
        reading = asyncio.ensure_future(channel.receive(10))
        await asyncio.sleep(0)
        peer.sendall(b"hello")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await channel.receive(10) == b"hello"

    _play(pair, scene)


def test_closing_wakes_a_waiting_reader_with_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    async def scene(_: Poller, channel: Channel, _peer: socket.socket) -> None:
        reading = asyncio.ensure_future(channel.receive(10))
        await asyncio.sleep(0)
        channel.close()
        channel.close()
        with pytest.raises(OSError, match="closed"):
            await reading

    _play(pair, scene)


def test_idle_means_neither_bytes_nor_end(pair: tuple[socket.socket, socket.socket]) -> None:
    async def scene(_: Poller, channel: Channel, peer: socket.socket) -> None:
        assert channel.idle()
        peer.sendall(b"x")
        assert not channel.idle()
        assert await channel.receive(9) == b"x"
        assert channel.idle()
        peer.close()
        assert not channel.idle()

    _play(pair, scene)


def test_a_message_is_parsed_and_the_rest_stays(pair: tuple[socket.socket, socket.socket]) -> None:
    async def scene(_: Poller, channel: Channel, peer: socket.socket) -> None:
        stream = Stream(channel)
        peer.sendall(b"\x05\x01\x00tail")
        assert await stream.parse(parse_greeting) == b"\x00"
        assert stream.buffer == b"tail"
        assert await stream.body_bytes(2, 10) == b"ta"
        stream.push_back(b"en")
        assert await stream.body_bytes(10, 10) == b"enil"
        peer.sendall(b"\x05")
        peer.close()
        with pytest.raises(Gone) as gone:
            await stream.parse(parse_greeting)
        assert not gone.value.clean

    _play(pair, scene)


def test_an_end_between_messages_is_clean_and_what_is_malformed_is_told(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def scene(_: Poller, channel: Channel, peer: socket.socket) -> None:
        stream = Stream(channel)
        stream.buffer += b"\x09\x09"
        with pytest.raises(MalformedMessage):
            await stream.parse(parse_greeting)
        stream.buffer.clear()
        peer.close()
        with pytest.raises(Gone) as gone:
            await stream.parse(parse_greeting)
        assert gone.value.clean

    _play(pair, scene)


def test_reading_a_fast_body_leaves_others_their_turn(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * BODY_BUFFER_BYTES)

    async def scene(_: Poller, channel: Channel, peer: socket.socket) -> None:
        peer.setblocking(False)
        sent = peer.send(b"x" * BODY_BUFFER_BYTES)
        stream, turns, read = Stream(channel), 0, 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        others = asyncio.ensure_future(other())
        reads = 0
        while read < sent:
            read += len(await stream.body_bytes(1024, 10))
            reads += 1
        others.cancel()
        assert reads > 10
        assert turns >= reads

    _play(pair, scene)


def test_a_farewell_to_a_flood_leaves_others_their_turn(pair: tuple[socket.socket, socket.socket]) -> None:
    async def scene(_: Poller, channel: Channel, peer: socket.socket) -> None:
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.send(b"x" * 65536)
        flood = _waiting(pair[0])
        leaving = asyncio.ensure_future(Stream(channel).farewell(b"bye"))
        while _waiting(pair[0]) == flood:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0)
        assert _waiting(pair[0]) > 0
        peer.close()
        await leaving
        assert _waiting(pair[0]) == 0

    _play(pair, scene)


def test_a_handler_that_fails_does_not_cost_others_their_event() -> None:
    reports: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(type(context["exception"]).__name__))
        poller = Poller()
        pairs = [socket.socketpair() for _ in range(3)]
        seen: list[int] = []
        done = loop.create_future()

        def handler(number: int) -> Callable[[int], None]:
            def on_event(mask: int) -> None:
                if mask & 1:
                    seen.append(number)
                    if len(seen) == len(pairs):
                        done.set_result(None)
                    raise LookupError

            return on_event

        for number, (ours, _) in enumerate(pairs):
            poller.add(ours.fileno(), handler(number))
        for _, theirs in pairs:
            theirs.send(b"x")  # edge-triggered: each event is told once, all three in one batch
        async with asyncio.timeout(10):
            await done
        await asyncio.sleep(0)
        poller.close()
        for ours, theirs in pairs:
            ours.close()
            theirs.close()

    asyncio.run(main())
    assert reports == ["LookupError"] * 3


def test_connect_tells_the_errno_and_closes_the_socket() -> None:
    async def main() -> None:
        poller = Poller()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            channel = await connect(poller, sock, address)
            assert channel.sock.getpeername() == address
            channel.close()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with pytest.raises(OSError, match="connect") as refusal:
            await connect(poller, sock, address)
        assert refusal.value.errno == errno.ECONNREFUSED
        assert sock.fileno() == -1
        poller.close()

    asyncio.run(main())
