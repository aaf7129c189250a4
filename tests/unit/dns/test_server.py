"""The server on real sockets on loopback, under both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from dnslib import DNSRecord

from dconnect.core.limits import DNS_QUERIES_PER_TURN
from dconnect.dns import DnsServer, Resolver, build
from dconnect.dns.resolver import Counters
from kit.inventories import container, endpoint, inventory
from kit.loops import LOOPS, Run, runner

WEB = bytes.fromhex("6a68012000010000000000000377656206646f636b65720000010001")  # dig web.docker A
FRAME = len(WEB).to_bytes(2, "big") + WEB
BIG_FRAME = FRAME.replace(b"web", b"big")
FAMILIES = [socket.AF_INET, socket.AF_INET6]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return runner(request.param)


@dataclass
class Served:
    """A running server and where it is."""

    server: DnsServer
    resolver: Resolver
    host: str
    port: int
    udp: socket.socket

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    def datagram_socket(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect((self.host, self.port))
        return sock


@contextlib.asynccontextmanager
async def serving(
    family: socket.AddressFamily = socket.AF_INET,
    *,
    bind: str = "",
    admits: Callable[[str], bool] = lambda _: True,
    max_clients: int = 16,
    idle_seconds: float = 20.0,
) -> AsyncIterator[Served]:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    tcp = socket.create_server((bind or host, 0), family=family)
    port = tcp.getsockname()[1]
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((bind or host, port))
    resolver = Resolver()
    big = container("big", *(endpoint(f"n{number}", f"10.1.{number}.2") for number in range(100)))
    web = container("web", endpoint("n", "10.0.0.2"))
    resolver.publish(build(inventory([big, web]), ("docker",), [ip_address("127.0.0.1")]))
    server = DnsServer(
        udp=[udp], tcp=[tcp], admits=admits, resolver=resolver, max_clients=max_clients, idle_seconds=idle_seconds
    )
    await server.start()
    try:
        yield Served(server, resolver, host, port, udp)
    finally:
        await server.close()


async def read_message(reader: asyncio.StreamReader) -> DNSRecord:
    (length,) = struct.unpack(">H", await reader.readexactly(2))
    return DNSRecord.parse(await reader.readexactly(length))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server has closed the connection; waits until it has."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("family", FAMILIES)
def test_udp_queries_are_answered(run: Run, family: socket.AddressFamily) -> None:
    async def main() -> None:
        async with serving(family) as served:
            with served.datagram_socket() as client:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(client, WEB)
                answer = DNSRecord.parse(await loop.sock_recv(client, 512))
                assert [str(record.rdata) for record in answer.rr] == ["10.0.0.2"]

    run(main())


def test_a_burst_of_datagrams_larger_than_a_turn_is_answered_whole(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            with served.datagram_socket() as client:
                loop = asyncio.get_running_loop()
                count = 3 * DNS_QUERIES_PER_TURN + 1
                for number in range(count):
                    client.send(number.to_bytes(2, "big") + WEB[2:])
                answers = {(await loop.sock_recv(client, 512))[:2] for _ in range(count)}
                assert answers == {number.to_bytes(2, "big") for number in range(count)}

    run(main())


@contextlib.asynccontextmanager
async def helping(served: Served, patience: float) -> AsyncIterator[Counters]:
    """A sibling on the same socket; what it has answered."""
    resolver = Resolver()
    helper = DnsServer(udp=[served.udp.dup()], tcp=[], admits=lambda _: True, resolver=resolver, patience=patience)
    await helper.start()
    try:
        yield resolver.counters
    finally:
        await helper.close()


def test_datagrams_are_left_to_a_sibling_that_is_quick(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, helping(served, patience=60) as helped:
            with served.datagram_socket() as client:
                loop = asyncio.get_running_loop()
                for _ in range(100):
                    await loop.sock_sendall(client, WEB)  # wakes both
                    await loop.sock_recv(client, 512)
            assert (served.resolver.counters.queries, helped.queries) == (100, 0)

    run(main())


def test_datagrams_that_a_sibling_lets_wait_are_answered(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, helping(served, patience=0.002) as helped:
            await served.server.close()
            with served.datagram_socket() as client:
                loop = asyncio.get_running_loop()
                for _ in range(2 * DNS_QUERIES_PER_TURN):
                    client.send(WEB)
                async with asyncio.timeout(5):
                    for _ in range(2 * DNS_QUERIES_PER_TURN):
                        await loop.sock_recv(client, 512)
            assert (served.resolver.counters.queries, helped.queries) == (0, 2 * DNS_QUERIES_PER_TURN)

    run(main())


def test_datagrams_that_deserve_no_answer_get_none_and_the_next_one_does(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            with served.datagram_socket() as client:
                for message in (b"", b"short", WEB[:2] + b"\x81" + WEB[3:], WEB):
                    client.send(message)
                answer = await asyncio.get_running_loop().sock_recv(client, 512)
                assert answer[:2] == WEB[:2]
                assert served.resolver.counters.dropped == 3

    run(main())


def test_refused_peers_get_silence_by_udp_and_a_closed_connection_by_tcp(run: Run) -> None:
    async def main() -> None:
        asked: list[str] = []

        def admits(peer: str) -> bool:
            asked.append(peer)
            return False

        async with serving(admits=admits) as served:
            with served.datagram_socket() as client:
                client.send(WEB)
                reader, writer = await served.connect()
                writer.write(FRAME)
                assert await ended(reader)
                while len(asked) < 2:  # noqa: ASYNC110 - the datagram may be read after the connection
                    await asyncio.sleep(0)
                with pytest.raises(BlockingIOError):
                    client.recv(512)
                writer.close()
        assert asked == ["127.0.0.1", "127.0.0.1"]
        assert served.resolver.counters.queries == 0

    run(main())


def test_ipv4_peers_of_a_dual_stack_socket_are_judged_by_their_ipv4_address(run: Run) -> None:
    async def main() -> None:
        asked: list[str] = []

        def admits(peer: str) -> bool:
            asked.append(peer)
            return True

        tcp = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.bind(("::", tcp.getsockname()[1]))
        server = DnsServer(udp=[udp], tcp=[tcp], admits=admits, resolver=Resolver())
        served = Served(server, server.resolver, "127.0.0.1", tcp.getsockname()[1], udp)
        await server.start()
        with served.datagram_socket() as client:
            client.send(WEB)
            await asyncio.get_running_loop().sock_recv(client, 512)
        reader, writer = await served.connect()
        writer.write(FRAME)
        await read_message(reader)
        writer.close()
        await server.close()
        assert asked == ["127.0.0.1", "127.0.0.1"]

    run(main())


def test_tcp_answers_pipelined_queries_in_order_however_they_are_cut(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            reader, writer = await served.connect()
            count = 2 * DNS_QUERIES_PER_TURN + 3
            stream = b"".join(FRAME[:2] + number.to_bytes(2, "big") + WEB[2:] for number in range(count))
            for start in range(0, len(stream), 17):
                writer.write(stream[start : start + 17])
                await writer.drain()
            for number in range(count):
                assert (await read_message(reader)).header.id == number
            writer.close()

    run(main())


def test_tcp_answers_what_came_before_the_clients_fin(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            reader, writer = await served.connect()
            count = 5 * DNS_QUERIES_PER_TURN
            writer.write(FRAME * count)
            writer.write_eof()
            for _ in range(count):
                await read_message(reader)
            assert await ended(reader)
            writer.close()

    run(main())


def test_a_client_that_does_not_read_is_not_answered_without_end(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            sock = socket.socket(socket.AF_INET6 if ":" in served.host else socket.AF_INET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sock.connect((served.host, served.port))
            reader, writer = await asyncio.open_connection(sock=sock)
            count = 4000  # 6 MB of answers, more than the kernel takes
            sending = asyncio.ensure_future(_send(writer, BIG_FRAME, count))
            while (client := next(iter(served.server.clients), None)) is None or client.writable:  # noqa: ASYNC110
                await asyncio.sleep(0)  # the server makes the progress
            for _ in range(1000):
                await asyncio.sleep(0)
            answered = served.resolver.counters.queries
            assert client._transport is not None
            assert client._transport.get_write_buffer_size() < 300_000  # high water and one turn's answers
            for _ in range(1000):
                await asyncio.sleep(0)
            assert served.resolver.counters.queries == answered < count
            assert await _count_messages(reader) == count
            await sending
            writer.close()

    run(main())


async def _send(writer: asyncio.StreamWriter, frame: bytes, count: int) -> None:
    for _ in range(count // 100):
        writer.write(frame * 100)
        await writer.drain()
    writer.write_eof()


async def _count_messages(reader: asyncio.StreamReader) -> int:
    count = 0
    while head := await reader.read(1):
        (length,) = struct.unpack(">H", head + await reader.readexactly(1))
        await reader.readexactly(length)
        count += 1
    return count


@pytest.mark.parametrize(
    "bad", [b"\xff\xff", b"\0\0", b"\0\x05short", len(WEB).to_bytes(2, "big") + WEB[:2] + b"\x81" + WEB[3:]]
)
def test_a_stream_that_cannot_be_followed_is_answered_so_far_and_closed(run: Run, bad: bytes) -> None:
    async def main() -> None:
        async with serving() as served:
            reader, writer = await served.connect()
            writer.write(FRAME + bad)
            assert (await read_message(reader)).header.id == 0x6A68
            assert await ended(reader)
            writer.close()

    run(main())


def test_a_connection_without_a_whole_query_in_time_is_closed(run: Run) -> None:
    async def main() -> None:
        async with serving(idle_seconds=0.05) as served:
            reader, writer = await served.connect()
            writer.write(FRAME[:-1])
            assert await ended(reader)
            assert not served.server.clients
            writer.close()

    run(main())


def test_beyond_the_bound_the_longest_idle_connection_makes_room(run: Run) -> None:
    async def main() -> None:
        async with serving(max_clients=2) as served:
            first, second = await served.connect(), await served.connect()
            for reader, writer in (first, second, first):
                writer.write(FRAME)
                await read_message(reader)
            third = await served.connect()
            assert await ended(second[0])
            for reader, writer in (first, third):
                writer.write(FRAME)
                await read_message(reader)
            assert len(served.server.clients) == 2
            for _, writer in (first, second, third):
                writer.close()

    run(main())


def test_close_ends_connections_and_frees_the_port(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            reader, writer = await served.connect()
            writer.write(FRAME)
            await read_message(reader)
        assert await ended(reader)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await served.connect()
        with served.datagram_socket() as client:
            client.send(WEB)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.get_running_loop().sock_recv(client, 512)

    run(main())
