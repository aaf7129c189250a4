"""A process that stands on port 53 of a loopback address and passes DNS on to a port that libc cannot name.

It is started by ``dconnect dns install`` where the host's resolver takes no port, binds as root, and
then is nobody. What the agent does not answer it refuses, so that the resolver goes on to its next server.

    python -m dconnect.cli.host.forwarder LISTEN-ADDRESS AGENT-ADDRESS AGENT-PORT

It prints ``ready`` once it has the port, and serves when a line comes on stdin; without one it ends, so that
nobody is left over whose number was never written down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import cast

from dconnect.core.address import Target
from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import DNS_QUERY_BYTES, DNS_TCP_IDLE_SECONDS, HOST_FORWARD_SECONDS, HOST_FORWARDS
from dconnect.core.tasks import Tasks
from dconnect.dns.forward import ask_stream
from dconnect.dns.wire.message import HEADER_BYTES, REFUSED, encode, is_response, parse_query
from dconnect.dns.wire.stream import frame

_NOBODY = 65534
"""User and group that own nothing; Linux has this number for them."""


class Forwarder(asyncio.DatagramProtocol):
    """Passes messages on as they are; owns a task for each query under way."""

    def __init__(self, agent: Target) -> None:
        self._agent = agent
        self._tasks = Tasks()
        self._transport: asyncio.DatagramTransport | None = None
        self._clients = 0

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # Python 3.11's is none by inheritance

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        if HEADER_BYTES <= len(data) <= DNS_QUERY_BYTES and not is_response(data):
            if len(self._tasks) < HOST_FORWARDS:
                _ = self._tasks.start(self._datagram(data, peer), "dns query")
            else:
                self._send(refusal(data), peer)

    def _send(self, answer: bytes, peer: tuple[str, int]) -> None:
        if answer and self._transport is not None:
            self._transport.sendto(answer, peer)

    async def _datagram(self, query: bytes, peer: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._agent.host else socket.AF_INET
        try:
            # Connected, so that only the agent is heard, and a port that nobody has any more is noticed at once.
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.connect((self._agent.host, self._agent.port))
                sock.send(query)
                async with asyncio.timeout(HOST_FORWARD_SECONDS):
                    answer = await loop.sock_recv(sock, 65_535)
        except OSError:  # a TimeoutError is one
            answer = refusal(query)
        self._send(answer, peer)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one TCP connection, a query after the other."""
        self._clients += 1
        try:
            while self._clients <= HOST_FORWARDS:
                async with asyncio.timeout(DNS_TCP_IDLE_SECONDS):
                    query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                if not HEADER_BYTES <= len(query) <= DNS_QUERY_BYTES or is_response(query):
                    return
                try:
                    answer = await ask_stream(self._agent.host, self._agent.port, query, HOST_FORWARD_SECONDS)
                except OSError:
                    answer = refusal(query)
                if not answer:
                    return
                writer.write(frame(answer))
                async with asyncio.timeout(DNS_TCP_IDLE_SECONDS):
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._clients -= 1
            writer.close()


def refusal(query: bytes) -> bytes:
    """The answer on which libc asks its next server; nothing to what is no query."""
    try:
        return encode(parse_query(query), REFUSED)
    except MalformedMessage:
        return b""


def command(address: str, agent: Target) -> tuple[str, ...]:
    """The command that starts one."""
    return (sys.executable, "-P", "-m", "dconnect.cli.host.forwarder", address, agent.host, str(agent.port))


async def serve(udp: socket.socket, tcp: socket.socket, agent: Target) -> None:
    """Serve bound sockets until SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    forwarder = Forwarder(agent)
    transport, _ = await loop.create_datagram_endpoint(lambda: forwarder, sock=udp)
    server = await asyncio.start_server(forwarder.stream, sock=tcp)
    try:
        await ended.wait()
    finally:
        server.close()
        transport.close()
        await forwarder.close()


def bound(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP sockets at an address.

    Raises: OSError.
    """
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, port))
    return udp, socket.create_server((address, port))


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)


def main() -> int:
    """Run the process; 1 when the port cannot be had."""
    address, host, port = sys.argv[1:]
    try:
        udp, tcp = bound(address, 53)
    except OSError as error:
        print(f"{address} port 53: {error.strerror}.", flush=True)  # noqa: T201 - whoever started us reads it
        return 1
    if os.geteuid() == 0:
        _become_nobody()
    print("ready", flush=True)  # noqa: T201 - as above
    if not sys.stdin.readline():
        return 1
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    asyncio.run(serve(udp, tcp, Target(host, int(port))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
