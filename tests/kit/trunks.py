"""The two ends of a trunk, each in the test's own event loop and against golden bytes: nothing of ours reads those."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from ipaddress import ip_address
from typing import Any, TypeAlias, TypeVar

import pytest

from dconnect.agent.log import LogBuffer
from dconnect.agent.sessions import Sessions
from dconnect.agent.trunks import Trunks as AgentTrunks
from dconnect.cli.transparent.trunks import HostStream
from dconnect.cli.transparent.trunks import Trunks as HostTrunks
from dconnect.core.errors import DialError
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.proxy.poller import Poller
from dconnect.tunnel.dial import Door
from dconnect.tunnel.gateway.fake import FakeWays
from kit.pairs import tcp_pair

T = TypeVar("T")
Frame: TypeAlias = tuple[int, int, bytes]
"""Type, stream, payload."""

DEADLINE = 20.0
OPEN, ANSWER, DATA, END, RESET, LEAVE = 1, 2, 3, 4, 5, 6
KEY = bytes(range(12))
TOKEN = "0123456789abcdef0123456789abcdef"
PEER = "10.99.0.2:4711"
WEB, WEB6 = ip_address("172.18.0.3"), ip_address("fd00:dc::3")
TO_WEB = b"\x00\x50" + WEB.packed
"""An open frame's payload: port 80 of that address."""
GRANTED = b"\x05\x80" + b"\x05\x00\x00\x01" + bytes(6)
PROLOGUE = b"\x05\x01\x80" + b"\x01\x08dconnect" + bytes((len(TOKEN),)) + TOKEN.encode()
"""All that a host says before its request."""


def said(kind: int, number: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return bytes((kind,)) + len(payload).to_bytes(3, "big") + number.to_bytes(4, "big") + payload


class Wire:
    """A test's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def get(self, count: int) -> bytes:
        """So many bytes, no more."""
        data = bytearray()
        while len(data) < count:
            part = await asyncio.get_running_loop().sock_recv(self.sock, count - len(data))
            assert part, f"it ended after {bytes(data)!r}"
            data += part
        return bytes(data)

    async def frame(self) -> Frame:
        """The next frame."""
        header = await self.get(8)
        return header[0], int.from_bytes(header[4:], "big"), await self.get(int.from_bytes(header[1:4], "big"))

    async def data(self, number: int, count: int) -> bytes:
        """So many bytes of a stream, in whatever frames; no other frames come in between."""
        data = b""
        while len(data) < count:
            kind, stream, payload = await self.frame()
            assert (kind, stream) == (DATA, number)
            data += payload
        assert len(data) == count
        return data

    async def rest(self) -> tuple[bytes, str]:
        """Everything up to the end, and how that came: ``fin`` or ``rst``."""
        data = bytearray()
        try:
            while part := await asyncio.get_running_loop().sock_recv(self.sock, 1 << 18):
                data += part
        except ConnectionResetError:
            return bytes(data), "rst"
        return bytes(data), "fin"

    async def end(self) -> str:
        """How it ends, which it does without another byte."""
        data, how = await self.rest()
        assert not data
        return how

    def finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class TcpWays(FakeWays):
    """Its connections are TCP, so that a cut is felt as one."""

    slow = False
    """They are no TCP, and take only a few bytes that nobody reads."""

    def _pair(self, kind: socket.SocketKind) -> socket.socket:
        assert kind == socket.SOCK_STREAM
        if self.slow:
            near = super()._pair(kind)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            return near
        near, far = tcp_pair()
        far.setblocking(False)
        self.far.append(far)
        return near


class AgentScene:
    """The agent's end; the test is the host, and the destinations."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.ways = TcpWays()
        self._null = os.open(os.devnull, os.O_WRONLY)
        self._records: list[dict[str, Any]] = []
        self._log = LogBuffer(self._null, self._render)
        self.sessions = Sessions(self._log)
        self.trunks = AgentTrunks(self.poller, self.ways, self.sessions)
        self._sockets: list[socket.socket] = []

    def _render(self, record: dict[str, Any]) -> bytes:
        self._records.append(record)
        return b""

    def pair(self) -> tuple[socket.socket, Wire]:
        near, far = tcp_pair()
        self._sockets += (near, far)
        return near, Wire(far)

    def knock(self, key: bytes = KEY, early: bytes = b"") -> Wire:
        """A connection that asks to be a trunk."""
        near, host = self.pair()
        self.trunks.adopt(near, Session(PEER, "trunk"), early, key)
        return host

    async def trunk(self, key: bytes = KEY, early: bytes = b"") -> Wire:
        """A trunk."""
        host = self.knock(key, early)
        assert await host.get(len(GRANTED)) == GRANTED
        return host

    async def stream(self, host: Wire, number: int = 1) -> Wire:
        """A stream that is there; its destination's end."""
        await host.say(said(OPEN, number, TO_WEB))
        assert await host.frame() == (ANSWER, number, b"\x00")
        return Wire(self.ways.far[-1])

    def move(self, number: int = 1, key: bytes = KEY, early: bytes = b"") -> Wire:
        """A connection for which a stream is to leave its trunk."""
        near, host = self.pair()
        self.trunks.move(near, early, key, number)
        return host

    async def answers_next(self, host: Wire) -> None:
        """Nothing else is said on a trunk before this is answered."""
        self.ways.refusals[9] = Failure.REFUSED
        await host.say(said(OPEN, 999, b"\x00\x09" + WEB.packed))
        assert await host.frame() == (ANSWER, 999, b"\x05")

    async def told(self, count: int, front: str = "tunnel") -> list[dict[str, Any]]:
        """The log's lines of a front, as soon as there are so many."""

        def found() -> list[dict[str, Any]]:
            self._log.flush()
            return [record for record in self._records if record["front"] == front]

        await until(lambda: len(found()) >= count)
        assert len(found()) == count
        return found()

    async def close(self) -> None:
        self.trunks.close()
        await self.ways.dials.cancel()
        self.ways.close()
        for sock in self._sockets:
            sock.close()
        self.poller.close()
        os.close(self._null)


class HostScene:
    """The host's end; the test is the agent, and the programs."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.trunks = HostTrunks(self.poller)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the supervisor's listener has it
        self.door = Door("127.0.0.1", self.listener.getsockname()[1], TOKEN)
        self.trunks.lead_to(self.door)
        self._sockets = [self.listener]
        self._asked: list[asyncio.Task[HostStream]] = []

    async def knocked(self) -> tuple[Wire, bytes]:
        """The next connection to the front door, and the request that it comes with."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        self._sockets.append(sock)
        wire = Wire(sock)
        assert await wire.get(len(PROLOGUE)) == PROLOGUE
        return wire, await wire.get(22)

    async def trunk(self) -> tuple[Wire, bytes]:
        """The next trunk, and its key."""
        wire, request = await self.knocked()
        assert request[:4] == b"\x05\x80\x00\x04"
        await wire.say(GRANTED)
        return wire, request[4:16]

    async def own(self, key: bytes, number: int = 1) -> Wire:
        """The connection to which that stream moves."""
        wire, request = await self.knocked()
        assert request == b"\x05\x81\x00\x04" + key + number.to_bytes(4, "big") + b"\x00\x00"
        return wire

    def connect(self, port: int = 80) -> asyncio.Task[HostStream]:
        """A program's wish."""
        task = asyncio.get_running_loop().create_task(self.trunks.connect(WEB, port))
        self._asked.append(task)
        return task

    async def answered(self) -> tuple[HostStream, Wire, bytes]:
        """A stream that the agent has answered, and that has no program yet; its trunk, and that one's key."""
        task = self.connect()
        trunk, key = await self.trunk()
        assert await trunk.frame() == (OPEN, 1, TO_WEB)
        await trunk.say(said(ANSWER, 1, b"\x00"))
        return await task, trunk, key

    async def stream(self, trunk: Wire | None = None) -> tuple[HostStream, Wire, Wire, bytes]:
        """A stream that the agent has answered: it, the trunk that it is on, its program and the trunk's key."""
        task = self.connect()
        if trunk is None:
            trunk, _ = await self.trunk()
        kind, number, payload = await trunk.frame()
        assert (kind, payload) == (OPEN, TO_WEB)
        await trunk.say(said(ANSWER, number, b"\x00"))
        stream = await task
        return stream, trunk, self.carry(stream), stream.key[:12]

    def carry(self, stream: HostStream) -> Wire:
        """A program whose connection goes on by that stream."""
        near, program = tcp_pair()
        self._sockets += (near, program)
        self.trunks.carry(near, stream)
        return Wire(program)

    async def close(self) -> None:
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self.trunks.close()
        for sock in self._sockets:
            sock.close()
        self.poller.close()


async def why(task: asyncio.Task[object]) -> Failure:
    """Why a connection is refused."""
    with pytest.raises(DialError) as error:
        await task
    return error.value.failure


async def number_of(trunk: Wire) -> int:
    """The stream that is asked for next."""
    kind, number, _ = await trunk.frame()
    assert kind == OPEN
    return number


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what no event tells; the scenario has a deadline."""
    while not holds():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def _staged(make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> AsyncIterator[T]:
    made = make()
    try:
        yield made
    finally:
        await close(made)


def play(main: Callable[[], Coroutine[Any, Any, None]], loop: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """Run it in a loop of its own, in which nothing may fail unseen."""
    failures: list[object] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        async with asyncio.timeout(DEADLINE):
            await main()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())
    assert not failures


def run_agent(scenario: Callable[[AgentScene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with _staged(AgentScene, AgentScene.close) as scene:
            await scenario(scene)

    play(main, None)


def run_host(scenario: Callable[[HostScene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with _staged(HostScene, HostScene.close) as scene:
            await scenario(scene)

    play(main, None)
