"""Another name server, on real sockets on loopback, that answers as a test says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeAlias

from dnslib import QTYPE, RCODE, RR, DNSRecord

from dconnect.dns import Server

Replies: TypeAlias = Callable[[DNSRecord], Sequence[bytes]]
"""The messages with which a query is answered, none for silence."""


@dataclass
class NameServer:
    """One that is being asked."""

    where: Server
    udp: list[tuple[DNSRecord, int]] = field(default_factory=list)
    """Queries that came by UDP, with the port they came from."""
    tcp: list[DNSRecord] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first query."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is clear, all answers wait."""


def zone(text: str) -> Replies:
    """Answers from lines of a zone file; other names do not exist."""
    records = RR.fromZone(text)

    def replies(query: DNSRecord) -> Sequence[bytes]:
        found = [each for each in records if each.rname == query.q.qname and query.q.qtype in (each.rtype, QTYPE.ANY)]
        answer = query.reply(aa=1, ra=1)
        answer.add_answer(*found)
        answer.header.rcode = RCODE.NOERROR if found else RCODE.NXDOMAIN
        return [bytes(answer.pack())]

    return replies


@asynccontextmanager
async def name_server(replies: Replies, stream: Replies | None = None) -> AsyncIterator[NameServer]:
    """One with these answers over UDP, and these, or the same, over TCP."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        served = NameServer(Server(ip_address("127.0.0.1"), port))
        served.release.set()

        class Datagrams(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
                self.transport = transport
                self.tasks: set[asyncio.Task[None]] = set()

            def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
                query = DNSRecord.parse(data)
                served.udp.append((query, peer[1]))
                served.came.set()
                task = loop.create_task(self.answer(query, peer))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

            async def answer(self, query: DNSRecord, peer: tuple[str, int]) -> None:
                await served.release.wait()
                for message in replies(query):
                    self.transport.sendto(message, peer)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            length = int.from_bytes(await reader.readexactly(2), "big")
            query = DNSRecord.parse(await reader.readexactly(length))
            served.tcp.append(query)
            for message in (stream or replies)(query):
                writer.write(len(message).to_bytes(2, "big") + message)
            writer.close()

        transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", port))
        server = await asyncio.start_server(connected, sock=listener)
        try:
            yield served
        finally:
            transport.close()
            server.close()
