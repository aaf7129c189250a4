"""A gateway between devices in memory and hosts that are sockets of the test, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import IPv4Network, IPv6Network, ip_address

from dconnect.core.address import IPAddress
from dconnect.core.events import Session
from dconnect.tunnel.fake import MemoryDevice
from dconnect.tunnel.gateway import Gateway, Plan
from dconnect.tunnel.gateway.fake import FakeWays
from dconnect.tunnel.wire import frames
from dconnect.tunnel.wire.checksum import checksum, pseudo_header
from dconnect.tunnel.wire.messages import Config, Hello
from dconnect.tunnel.wire.packets import TCP, build

DEADLINE = 10.0
PLAN = Plan(IPv4Network("10.213.0.0/24"), IPv6Network("fd3b::/64"))
HOST, HOST6 = b"\x0a\xd5\x00\x02", ip_address("fd3b::2").packed
OWN = PLAN.own4.packed
WEB, WEB6 = b"\xac\x12\x00\x03", ip_address("fd00:dc::3").packed
MTU = 65_535


class Far(socket.socket):
    """A connection that the kernel accepted, as a listener on the device would give it."""

    peer = local = ("", 0)

    def getsockname(self) -> tuple[str, int]:
        return self.local


class Listener(socket.socket):
    """A listener whose connections a test makes."""

    def __init__(self) -> None:
        near, self.bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        super().__init__(fileno=near.detach())
        self.setblocking(False)
        self.waiting: list[Far] = []

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        self.recv(1)
        client = self.waiting.pop(0)
        return client, client.peer

    def connect_from(self, peer: tuple[str, int], local: tuple[str, int]) -> None:
        client = Far(socket.AF_INET6 if ":" in peer[0] else socket.AF_INET)
        client.peer, client.local = peer, local
        self.waiting.append(client)
        self.bell.send(b"!")

    def close(self) -> None:
        self.bell.close()
        super().close()


class Host:
    """The far end of a link."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._received = b""
        self.head = b""
        """The answer to the upgrade."""

    async def frame(self) -> tuple[int, bytes]:
        """The next frame. Raises: EOFError at the end."""
        while True:
            if not self.head and b"\r\n\r\n" in self._received:
                self.head, _, self._received = self._received.partition(b"\r\n\r\n")
            if self.head:
                found, _ = frames.walk(self._received)
                if found:
                    kind, start, end = found[0]
                    payload = self._received[start:end]
                    self._received = self._received[end:]
                    return kind, payload
            part = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20)
            if not part:
                raise EOFError
            self._received += part

    async def packet(self) -> bytes:
        """The next packet; other frames are passed over."""
        while True:
            kind, payload = await self.frame()
            if kind == frames.PACKET:
                return payload

    async def config(self) -> Config:
        kind, payload = await self.frame()
        assert kind == frames.CONFIG
        return Config.parse(payload)

    async def rest(self) -> list[tuple[int, bytes]]:
        """All frames up to the end."""
        found = []
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                found.append(await self.frame())
        return found

    async def send(self, *packets: bytes) -> None:
        await self.say(b"".join(frames.frame(frames.PACKET, packet) for packet in packets))

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)


class Stage:
    """What a test has."""

    def __init__(self, queue_bytes: int = 1 << 20) -> None:
        near, self.device = MemoryDevice.pair(queue_bytes=queue_bytes)
        """The kernel's end of the device."""
        self.ways = FakeWays()
        self.listeners: dict[tuple[int, int], Listener] = {}
        self.gateway = Gateway(device=near, plan=PLAN, ways=self.ways, listen=self._listen)
        self.gateway.publish(())
        self.gateway.start()
        self._sockets: list[socket.socket] = []

    def _listen(self, version: int, port: int) -> socket.socket:
        made = self.listeners[version, port] = Listener()
        return made

    def link(self, early: bytes = b"", peer: str = "10.99.0.2:4711") -> Host:
        """A connection whose upgrade was right."""
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
        self._sockets.append(far)
        self.gateway.adopt(near, Session(peer, "link"), early)
        return Host(far)

    async def host(self, mtu: int = MTU, address: IPAddress | None = None) -> Host:
        """A link that is open."""
        host = self.link()
        await host.say(frames.frame(frames.HELLO, Hello(mtu, address=address).encode()))
        await host.config()
        return host

    async def admitted(self) -> bytes:
        """The next packet that the kernel is given."""
        buffer = bytearray(MTU)
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.device.fileno(), ready.set)
        try:
            await ready.wait()
            return bytes(buffer[: self.device.read_into(buffer)])
        finally:
            loop.remove_reader(self.device.fileno())

    @property
    def dropped(self) -> dict[str, int]:
        return self.gateway.counters.dropped

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.gateway.close()
        self.device.close()
        self.ways.close()
        for sock in self._sockets:
            sock.close()


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()
    try:
        yield stage
    finally:
        await stage.close()


def run(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a scenario in a loop of its own, in which nothing may fail unseen."""
    failures: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        async with asyncio.timeout(DEADLINE), staged() as stage:
            await scenario(stage)

    asyncio.run(main())
    assert not failures


def segment(source: bytes, destination: bytes, ports: tuple[int, int], flags: int, data: bytes = b"") -> bytes:
    """A TCP packet with sequence number 1000 (RFC 9293 §3.1)."""
    fields = (*ports, 1000, 0, 5 << 4, flags, 65_535)
    pack = struct.Struct("!HHIIBBHHH").pack
    found = checksum(pseudo_header(source, destination, TCP, 20 + len(data)), pack(*fields, 0, 0) + data)
    return build(source, destination, TCP, pack(*fields, found, 0) + data)
