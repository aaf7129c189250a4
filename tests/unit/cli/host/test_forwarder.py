"""The forwarder: bytes as they are, and a refusal, at once, for whatever the agent does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from dnslib import RCODE, DNSRecord

from dconnect.cli.host.forwarder import bound, refusal, serve
from dconnect.core.address import Target
from dconnect.core.limits import HOST_FORWARDS
from dconnect.dns.forward import ask_stream
from kit.name_server import name_server, zone

WEB = zone("web.docker. 1 IN A 172.18.0.2")


@asynccontextmanager
async def forwarder(agent: Target) -> AsyncIterator[tuple[Target, Target]]:
    """Where it is asked by UDP, and by TCP."""
    udp, tcp = bound("127.0.0.1", 0)
    where = Target(*udp.getsockname()), Target(*tcp.getsockname())
    task = asyncio.ensure_future(serve(udp, tcp, agent))
    try:
        yield where
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ask(where: Target, *queries: bytes) -> list[bytes]:
    """As many answers as there are queries, in the order in which they come."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(where)
        for query in queries:
            sock.send(query)
        async with asyncio.timeout(5):
            return [await loop.sock_recv(sock, 65_535) for _ in queries]


def query(name: str = "web.docker", ident: int = 7) -> bytes:
    made = DNSRecord.question(name)
    made.header.id = ident
    return bytes(made.pack())


def test_messages_pass_as_they_are_by_udp_and_tcp() -> None:
    async def run() -> None:
        async with name_server(WEB) as agent, forwarder(Target("127.0.0.1", agent.where.port)) as (udp, tcp):
            expected = WEB(DNSRecord.parse(query()))[0]
            assert await ask(udp, query()) == [expected]
            assert await ask_stream(tcp.host, tcp.port, query(), 5) == expected
            assert bytes(agent.udp[0][0].pack()) == bytes(agent.tcp[0].pack()) == query()

    asyncio.run(run())


def test_several_queries_on_one_connection_are_answered_in_turn() -> None:
    async def run() -> None:
        async with name_server(WEB) as agent, forwarder(Target("127.0.0.1", agent.where.port)) as (_, tcp):
            reader, writer = await asyncio.open_connection(tcp.host, tcp.port)
            for ident in (1, 2):
                message = query(ident=ident)
                writer.write(len(message).to_bytes(2, "big") + message)
            for ident in (1, 2):
                answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                assert DNSRecord.parse(answer).header.id == ident
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


def test_without_an_agent_the_answer_is_refused_so_that_libc_goes_on() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with forwarder(Target("127.0.0.1", port)) as (udp, tcp):
            for answer in (*await ask(udp, query()), await ask_stream(tcp.host, tcp.port, query(), 5)):
                told = DNSRecord.parse(answer)
                assert (told.header.id, told.header.qr, told.header.rcode) == (7, 1, RCODE.REFUSED)
                assert told.q == DNSRecord.parse(query()).q  # libc takes no answer to another question

    asyncio.run(run())


def test_beyond_the_bound_queries_are_refused_at_once_and_the_others_are_answered() -> None:
    async def run() -> None:
        async with name_server(WEB) as agent, forwarder(Target("127.0.0.1", agent.where.port)) as (udp, _):
            agent.release.clear()
            queries = [query(ident=ident) for ident in range(HOST_FORWARDS + 1)]
            answers = asyncio.ensure_future(ask(udp, *queries[:-1]))
            while len(agent.udp) < HOST_FORWARDS:
                agent.came.clear()
                async with asyncio.timeout(5):
                    await agent.came.wait()
            [refused] = await ask(udp, queries[-1])
            assert DNSRecord.parse(refused).header.rcode == RCODE.REFUSED
            agent.release.set()
            assert {DNSRecord.parse(each).header.rcode for each in await answers} == {RCODE.NOERROR}

    asyncio.run(run())


@pytest.mark.parametrize("what", [b"", b"x" * 11, b"\0\7\x80\0" + bytes(8), b"\0\7\0\0" + bytes(4997)])
def test_what_is_no_query_is_not_passed_on(what: bytes) -> None:
    async def run() -> None:
        async with name_server(WEB) as agent, forwarder(Target("127.0.0.1", agent.where.port)) as (udp, tcp):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(what, udp)
            assert len(await ask(udp, query())) == 1
            with pytest.raises(OSError, match=r"^$|reset"):
                await ask_stream(tcp.host, tcp.port, what, 5)
            assert len(agent.udp) == 1
            assert agent.tcp == []

    asyncio.run(run())


def test_what_cannot_be_read_is_not_even_refused() -> None:
    assert refusal(b"\0\7\1\0\0\2" + bytes(6)) == b""
