"""The host's end of the trunks and the agent's, together: every byte arrives, in order, and nothing is left over."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from dconnect.core.address import IPAddress
from dconnect.core.events import Session
from dconnect.core.limits import TRUNK_BULK_BYTES, TRUNK_DATA_BYTES, TRUNK_STREAM_BYTES
from dconnect.core.tasks import Tasks
from dconnect.proxy.poller import Channel
from dconnect.proxy.relay import PipePool, Relay
from dconnect.proxy.wire import socks5
from kit.door import LOOPS
from kit.pairs import tcp_pair
from kit.trunks import PEER, PROLOGUE, WEB, AgentScene, HostScene, TcpWays, Wire, play, until

Both: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEAD = 9
"""A kind, a size and a seed."""
SIZES = sorted(
    {at + by for at in (TRUNK_DATA_BYTES, TRUNK_BULK_BYTES, TRUNK_STREAM_BYTES) for by in (-1, 0, 1)} | {100, 1 << 20}
)


def stuff(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Way(TcpWays):
    """Leads to the test's server, and relays in this process as a worker does."""

    def __init__(self, scene: Together) -> None:
        super().__init__()
        self._scene = scene
        self._pipes = PipePool()
        self.relays: set[Relay] = set()

    async def connect(self, address: IPAddress, port: int, session: Session) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return sock

    def relay(self, client: socket.socket, upstream: socket.socket, session: Session) -> bool:
        poller = self._scene.agent.poller
        channels = Channel(poller, client), Channel(poller, upstream)
        for each in channels:
            each.dry = False
        relay = Relay(poller, self._pipes, *channels, lambda ended, _: self.relays.discard(ended))
        self.relays.add(relay)
        relay.start()
        return True

    def close(self) -> None:
        for relay in tuple(self.relays):
            relay.abort()
        self._pipes.close()
        super().close()


class Together:
    """Both ends, a front door between them, and a server."""

    def __init__(self) -> None:
        self.host, self.agent = HostScene(), AgentScene()
        self.ways = Way(self)
        self.agent.ways = self.agent.trunks._ways = self.ways
        self._tasks = Tasks()
        self._accepted: list[socket.socket] = []
        self.tails: dict[int, bytes] = {}
        """Seed → what a download's client said at last."""
        self.moves = 0
        self.held: asyncio.Event | None = None
        """If it is there, the trunk's bytes wait for it, which a move of a stream that is over sets."""

    async def open(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = server
        self.port = server.sockets[0].getsockname()[1]
        asyncio.get_running_loop().add_reader(self.host.listener, self._admit)

    def _admit(self) -> None:
        sock, _ = self.host.listener.accept()
        self._accepted.append(sock)
        _ = self._tasks.start(self._take(sock), "a request")

    async def _take(self, sock: socket.socket) -> None:
        """As a worker reads it, and hands it over."""
        data = await Wire(sock).get(len(PROLOGUE) + 22)
        methods, at = socks5.parse_greeting(data) or (b"", 0)
        assert methods == bytes((socks5.TUNNEL,))
        _, used = socks5.parse_password(data[at:]) or ((b"", b""), 0)
        command, key = data[at + used + 1], data[at + used + 4 : at + used + 20]
        assert at + used + 22 == len(data)
        if command == socks5.TRUNK and self.held is not None:
            near, far = tcp_pair()
            self.agent.trunks.adopt(near, Session(PEER, "trunk"), b"", key[:12])
            _ = self._tasks.start(_pump(Wire(sock), Wire(far)), "up")
            _ = self._tasks.start(_pump(Wire(far), Wire(sock), 18 * 1024, self.held), "down")
        elif command == socks5.TRUNK:
            self.agent.trunks.adopt(sock, Session(PEER, "trunk"), b"", key[:12])
        else:
            assert command == socks5.MOVE
            self.moves += 1
            if self.held is not None:
                await until(lambda: not any(trunk.streams for trunk in self.agent.trunks._trunks.values()))
                self.held.set()
            self.agent.trunks.move(sock, b"", key[:12], int.from_bytes(key[12:]))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(HEAD)
        kind, size, seed = head[:1], int.from_bytes(head[1:5]), int.from_bytes(head[5:])
        if kind == b"u":
            writer.write(hashlib.sha256(await reader.read(-1)).digest())
        elif kind == b"e":
            while part := await reader.read(1 << 16):
                writer.write(part)
                await writer.drain()
        else:
            if kind == b"a":
                assert not await reader.read(1), "the program has half-closed before it is answered"
            writer.write(stuff(size, seed))
            writer.write_eof()
            self.tails[seed] = await reader.read(-1)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def program(self, kind: bytes, size: int, seed: int) -> Both:
        """A program that is connected, and has said what it wants."""
        stream = await self.host.trunks.connect(WEB, self.port)
        near, far = tcp_pair()
        self.host.trunks.carry(near, stream)
        far.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=far)
        writer.write(kind + size.to_bytes(4) + seed.to_bytes(4))
        return reader, writer

    async def nothing_is_left(self) -> None:
        """Of any connection, at either end."""
        streams = [trunk.streams for trunk in self.agent.trunks._trunks.values()]
        await until(lambda: not (len(self.host.trunks) or self.ways.relays or any(streams)))
        assert self.agent.sessions.counters.open == 0
        assert len(list(self.agent.trunks.sessions())) == len(streams) == 1
        assert all(not trunk._waiting for trunk in self.agent.trunks._trunks.values())

    async def close(self) -> None:
        self._server.close()
        asyncio.get_running_loop().remove_reader(self.host.listener)
        await self._tasks.cancel()
        await self.host.close()
        await self.agent.close()
        await self._server.wait_closed()
        for sock in self._accepted:
            sock.close()


async def upload(scene: Together, size: int, seed: int) -> None:
    """The program ends first; ``size`` bytes in all go up."""
    data = stuff(size - HEAD, seed)
    reader, writer = await scene.program(b"u", size, seed)
    writer.write(data)
    writer.write_eof()
    assert await reader.read(-1) == hashlib.sha256(data).digest()
    await closed(writer)


async def download(scene: Together, size: int, seed: int) -> None:
    """The server ends first, and still hears the program's last words."""
    reader, writer = await scene.program(b"d", size, seed)
    assert await reader.read(-1) == stuff(size, seed)
    writer.write(b"thanks")
    writer.write_eof()
    await until(lambda: seed in scene.tails)
    assert scene.tails[seed] == b"thanks"
    await closed(writer)


async def answer(scene: Together, size: int, seed: int) -> None:
    """The program half-closes with its request, as ``nc -N`` does."""
    reader, writer = await scene.program(b"a", size, seed)
    writer.write_eof()
    assert await reader.read(-1) == stuff(size, seed)
    await closed(writer)


async def echo(scene: Together, size: int, seed: int) -> None:
    """Both ways at once."""
    data = stuff(size, seed)
    reader, writer = await scene.program(b"e", size, seed)
    writer.write(data)
    writer.write_eof()
    assert await reader.read(-1) == data
    await closed(writer)


async def _pump(source: Wire, sink: Wire, count: int = 0, then: asyncio.Event | None = None) -> None:
    """Pass bytes on; after so many, not before something has happened."""
    with source.sock, sink.sock:
        while part := await asyncio.get_running_loop().sock_recv(source.sock, count or 1 << 16):
            await sink.say(part)
            if then is not None:
                count -= len(part)
                if not count:
                    await then.wait()
                    then = None


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def run(scenario: Callable[[Together], Awaitable[None]], loop: str = "uvloop") -> None:
    async def main() -> None:
        scene = Together()
        await scene.open()
        try:
            await scenario(scene)
        finally:
            await scene.close()

    play(main, LOOPS[loop])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("exchange", [upload, download, answer, echo])
def test_every_byte_arrives(exchange: Callable[[Together, int, int], Awaitable[None]], size: int, loop: str) -> None:
    async def scenario(scene: Together) -> None:
        await exchange(scene, size, size)
        await scene.nothing_is_left()
        if size < min(TRUNK_BULK_BYTES, TRUNK_DATA_BYTES):
            assert exchange is echo or not scene.moves
        elif size > TRUNK_STREAM_BYTES:
            assert scene.moves == 1

    run(scenario, loop)


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_at_once_do_not_disturb_each_other(seed: int) -> None:
    async def scenario(scene: Together) -> None:
        chance = random.Random(seed)
        kinds = [upload, download, answer, echo]
        sizes = [
            round(chance.choice((1_000, TRUNK_STREAM_BYTES, 300_000)) * chance.random()) + HEAD for _ in range(200)
        ]
        made = [chance.choice(kinds)(scene, size, number) for number, size in enumerate(sizes)]
        await asyncio.gather(*made)
        await scene.nothing_is_left()
        assert scene.agent.sessions.counters.sessions["tunnel"].keys() == {"ok"}

    run(scenario)


@pytest.mark.parametrize("most", [1, 40_000])
def test_a_trunk_that_holds_little_makes_its_streams_wait_and_loses_nothing(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dconnect.proxy.relay.trunk.TRUNK_WAITING_BYTES", most)

    async def scenario(scene: Together) -> None:
        kinds = [upload, download, answer, echo]
        await asyncio.gather(*(kinds[at % 4](scene, 500 * (at + 1), at) for at in range(100)))
        await scene.nothing_is_left()

    run(scenario)


def test_answers_that_are_larger_than_a_trunk_likes_are_whole_also_when_many_come_at_once() -> None:
    """Their streams end at the agent while the host opens connections of their own for them."""

    async def scenario(scene: Together) -> None:
        sizes = range(TRUNK_BULK_BYTES, TRUNK_STREAM_BYTES, TRUNK_BULK_BYTES // 150)
        await asyncio.gather(*(answer(scene, size, size) for size in sizes))
        await scene.nothing_is_left()

    run(scenario)


def test_one_after_the_other_they_have_the_same_trunk() -> None:
    async def scenario(scene: Together) -> None:
        for seed in range(50):
            await answer(scene, 5000, seed)
        await scene.nothing_is_left()
        assert scene.moves == 0
        assert scene.host.trunks.bytes_moved == (50 * HEAD, 50 * 5000)

    run(scenario)


def test_bytes_are_counted_once_at_both_ends() -> None:
    async def scenario(scene: Together) -> None:
        await upload(scene, 10_000, 1)
        await download(scene, 12_000, 2)
        await scene.nothing_is_left()
        assert scene.host.trunks.bytes_moved == (10_000 + HEAD + 6, 32 + 12_000)
        told = await scene.agent.told(2)
        assert [(each["bytes_up"], each["bytes_down"]) for each in told] == [(10_000, 32), (HEAD + 6, 12_000)]
        await download(scene, 1 << 20, 3)
        await scene.nothing_is_left()
        assert scene.host.trunks.bytes_moved == (10_000 + 2 * (HEAD + 6), 32 + 12_000 + (1 << 20))

    run(scenario)


def test_an_answer_is_whole_though_its_own_connection_is_cut_before_its_last_bytes_come_by_the_trunk() -> None:
    """The agent has said all of it, and its end, before it cuts that; but two connections may overtake each other."""

    async def scenario(scene: Together) -> None:
        scene.held = asyncio.Event()
        await answer(scene, 20 * 1024, 1)

    run(scenario)
