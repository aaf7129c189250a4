"""The destination that tests talk to: one process, standard library only.

    80 HTTP/1.1   GET /           "hello from <hostname>", X-Host: the request's Host, X-Peer: who asks
                  GET /bytes/<n>  n repeatable bytes, X-SHA256: their hash
                  GET /ws         WebSocket echo (RFC 6455)
                  GET /page       page.html, for browsers; its text says what it does
                  GET /script.js  tells the page "hello from <hostname>"
                  POST /sha256    the hash of the body, Content-Length or chunked
     7 echo       all bytes, then FIN after FIN (RFC 862)
     9 discard    on FIN the hash of all bytes, then FIN (after RFC 863)
    19 source     first line: a number n; then the same n bytes as /bytes/<n>, then FIN (after RFC 864)

    UDP  7        the same datagram (RFC 862)
        17        the same datagram, but from another port
        53        DNS: 192.0.2.53 for every name

Listens on IPv4 and IPv6, ends at once on SIGTERM.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import os
import random
import signal
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

BLOCK = random.Random(28).randbytes(1 << 20)
CHUNK = 1 << 18
FAMILY = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _PING, _PONG = 8, 9, 10


@functools.lru_cache(maxsize=16)
def digest_of(count: int) -> str:
    """The SHA-256 of the first ``count`` bytes of the repeated block."""
    state = hashlib.sha256()
    for _ in range(count // len(BLOCK)):
        state.update(BLOCK)
    state.update(BLOCK[: count % len(BLOCK)])
    return state.hexdigest()


async def send_bytes(writer: StreamWriter, count: int) -> None:
    """Write ``count`` bytes of the repeated block."""
    view = memoryview(BLOCK)
    while count:
        size = min(count, len(BLOCK))
        writer.write(view[:size])
        await writer.drain()
        count -= size


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


async def discard(reader: StreamReader, writer: StreamWriter) -> None:
    state = hashlib.sha256()
    while data := await reader.read(CHUNK):
        state.update(data)
    writer.write(state.hexdigest().encode())


async def source(reader: StreamReader, writer: StreamWriter) -> None:
    await send_bytes(writer, int(await reader.readline()))


async def http(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer requests until the client is done."""
    while line := await reader.readline():
        method, path, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (field := (await reader.readline()).decode("latin-1").strip()) != "":
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        if path == "/ws" and headers.get("upgrade", "").lower() == "websocket":
            await websocket(reader, writer, headers)
            return
        await respond(method, path, headers, reader, writer)
        if headers.get("connection", "").lower() == "close":
            return


async def respond(method: str, path: str, headers: dict[str, str], reader: StreamReader, writer: StreamWriter) -> None:
    """One response; the request's body is read to its end in any case."""
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    state = hashlib.sha256()
    async for data in body_of(headers, reader):
        state.update(data)
    peer = writer.get_extra_info("peername")
    fields = {"X-Host": headers.get("host", ""), "X-Peer": f"{peer[0].removeprefix('::ffff:')} {peer[1]}"}
    status, body, size = "200 OK", b"", 0
    path = path.partition("?")[0]
    if path == "/":
        body = f"hello from {socket.gethostname()}\n".encode()
    elif path == "/page":
        body = Path(__file__).with_name("page.html").read_bytes()
        fields["Content-Type"] = "text/html; charset=utf-8"
    elif path == "/script.js":
        body = f"loaded.push('hello from {socket.gethostname()}');\n".encode()
        fields["Content-Type"] = "text/javascript"
    elif path == "/sha256" and method == "POST":
        body = state.hexdigest().encode() + b"\n"
    elif path.startswith("/bytes/"):
        size = int(path.removeprefix("/bytes/"))
        # Hashing a gigabyte takes a second, in which others want to be served.
        fields["X-SHA256"] = await asyncio.to_thread(digest_of, size)
    else:
        status, body = "404 Not Found", b"there is no such page\n"
    fields["Content-Length"] = str(size or len(body))
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    if method != "HEAD":
        writer.write(body)
        await send_bytes(writer, size)
    await writer.drain()


async def body_of(headers: dict[str, str], reader: StreamReader) -> AsyncIterator[bytes]:
    """The request's body in pieces (RFC 9112 §6, §7.1)."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        left = int(headers.get("content-length", 0))
        while left:
            data = await reader.read(min(left, CHUNK))
            if not data:
                raise EOFError
            left -= len(data)
            yield data
        return
    while size := int((await reader.readline()).partition(b";")[0], 16):
        left = size
        while left:
            data = await reader.readexactly(min(left, CHUNK))
            left -= len(data)
            yield data
        await reader.readline()
    while (await reader.readline()).strip():  # trailer fields
        pass


async def websocket(reader: StreamReader, writer: StreamWriter, headers: dict[str, str]) -> None:
    """Echo frames as they come until a close frame (RFC 6455 §4.2.2, §5.2)."""
    key = headers["sec-websocket-key"].encode() + _WEBSOCKET_GUID
    accept = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest()).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length)
        pad = mask * (length // 4 + 1)
        data = (int.from_bytes(masked, "big") ^ int.from_bytes(pad[:length], "big")).to_bytes(length, "big")
        opcode = first & 0x0F
        if opcode == _PING:
            first = (first & 0xF0) | _PONG
        extended = (
            bytes([length])
            if length < 126
            else b"\x7e" + length.to_bytes(2, "big")
            if length < 1 << 16
            else b"\x7f" + length.to_bytes(8, "big")
        )
        writer.write(bytes([first]) + extended + data)
        await writer.drain()
        if opcode == _CLOSE:
            return


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with what ``answer`` makes of it."""

    def __init__(self, answer: Callable[[bytes], bytes], *, crooked: bool = False) -> None:
        self._answer = answer
        self._crooked = crooked
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # which 3.11 does not let one ask

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._crooked:
            with socket.socket(FAMILY, socket.SOCK_DGRAM) as other:
                other.sendto(self._answer(data), addr)
        else:
            self._transport.sendto(self._answer(data), addr)


def name_answer(query: bytes) -> bytes:
    """A question's answer (RFC 1035 §4.1): the header with QR, AA and RD, the question, one A record."""
    end = 12
    while query[end]:
        end += 1 + query[end]
    record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton("192.0.2.53")
    return query[:2] + b"\x85\x80\0\1\0\1\0\0\0\0" + query[12 : end + 5] + record


Service = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def closing(serve: Service) -> Service:
    """Serve one connection, then close it; a client that breaks off is no event."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await serve(reader, writer)
            if writer.can_write_eof():
                writer.write_eof()
            await writer.drain()
        except (OSError, EOFError, ValueError, KeyError):
            writer.transport.abort()
        finally:
            writer.close()

    return handle


async def main() -> None:
    """Listen on all ports for ever."""
    services: dict[int, Service] = {80: http, 7: echo, 9: discard, 19: source}
    for port, serve in services.items():
        both = FAMILY == socket.AF_INET6
        listener = socket.create_server(("", port), family=FAMILY, backlog=4096, dualstack_ipv6=both)
        server = await asyncio.start_server(closing(serve), sock=listener, limit=CHUNK)
        servers.append(server)
    for port, protocol in ((7, Datagrams(bytes)), (17, Datagrams(bytes, crooked=True)), (53, Datagrams(name_answer))):
        sock = socket.socket(FAMILY, socket.SOCK_DGRAM)
        if FAMILY == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("", port))
        await asyncio.get_running_loop().create_datagram_endpoint(
            functools.partial(lambda made: made, protocol), sock=sock
        )
    await asyncio.Event().wait()


servers: list[asyncio.Server] = []  # keeps them from the collector

if __name__ == "__main__":
    # PID 1 has no default handlers, and without this every ``docker stop`` would take 10 s.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(main())
