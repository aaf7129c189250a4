"""A worker as the supervisor starts it: with what it is lent, without control, and to its end."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dconnect.agent import bus
from dconnect.agent.labels import ENV_LENT
from dconnect.agent.lent import Lent
from dconnect.agent.log import LogBuffer, Record
from dconnect.agent.sessions import Sessions
from dconnect.agent.worker import _max_clients, keep_apart, published
from dconnect.core.config import AgentConfig
from dconnect.core.events import Session
from dconnect.core.inventory import Inventory

DEADLINE = 10.0
UNFIT = '{"containers": [{"id": 5, "name": 7, "state": "running", "endpoints": [], "labels": []}], "networks": []}'

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stage:
    """What a supervisor lends, and the end of the lifeline that it keeps."""

    lent: Lent
    door: tuple[str, int]
    hold: socket.socket


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:

        def listen(kind: socket.SocketKind) -> socket.socket:
            sock = stack.enter_context(socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK))
            sock.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            return sock

        front, tcp, front_udp, udp = map(listen, (*2 * (socket.SOCK_STREAM,), *2 * (socket.SOCK_DGRAM,)))
        lifeline, hold = map(stack.enter_context, socket.socketpair())
        lent = Lent(
            AgentConfig(embedded=True),
            "unix:///none",
            front=front.fileno(),
            front_udp=front_udp.fileno(),
            dns_udp=udp.fileno(),
            dns_tcp=tcp.fileno(),
            bus=tcp.fileno(),
            api=tcp.fileno(),
            lifeline=lifeline.fileno(),
            directory=str(tmp_path),
        )
        yield Stage(lent, front.getsockname(), hold)


@asynccontextmanager
async def worker(stage: Stage, control: Serve | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, with control's part of the bus played by ``control``."""
    lent = stage.lent
    server = await asyncio.start_unix_server(control, lent.bus_path) if control is not None else None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "dconnect.agent.worker"),
        env={**os.environ, ENV_LENT: lent.to_json()},
        pass_fds=lent.descriptors(),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE):
            yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        if server is not None:
            server.close()


async def end(process: asyncio.subprocess.Process) -> tuple[int | None, list[dict[str, Any]]]:
    """Exit code and log."""
    _, log = await process.communicate()
    return process.returncode, [json.loads(line) for line in log.splitlines()]


async def ask(door: tuple[str, int], request: bytes) -> bytes:
    """All that the front door says."""
    reader, writer = await asyncio.open_connection(*door)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Our own service."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
    writer.close()


def test_udp_is_refused_while_the_worker_that_holds_its_port_is_away(stage: Stage) -> None:
    async def scenario() -> None:
        second = Stage(replace(stage.lent, index=1, workers=2), stage.door, stage.hold)
        async with worker(second) as process:
            request = b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6)
            assert await ask(stage.door, request) == b"\x05\x00\x05\x01\x00\x01" + bytes(6)
            process.send_signal(signal.SIGTERM)
            code, log = await end(process)
        assert code == 0
        (session,) = (line for line in log if line["event"] == "session")
        assert (session["front"], session["outcome"]) == ("associate", "not_ready")
        assert session["detail"].startswith("The worker that holds the UDP port is away")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bind", "address"),
    [("127.0.0.1", "127.0.0.1"), ("10.0.0.7", "10.0.0.7"), ("::1", "::1"), ("0.0.0.0", "0.0.0.0"), ("::", "0.0.0.0")],
)
def test_rfc1928_s6_bnd_is_the_published_address_or_zeros_where_it_may_be_any(bind: str, address: str) -> None:
    assert published(AgentConfig(bind=bind, port=2080)) == (ip_address(address), 2080)


def test_until_it_is_informed_it_leads_to_our_own_service_alone(stage: Stage) -> None:
    async def scenario() -> None:
        async with worker(stage):
            api = await asyncio.start_unix_server(hello, stage.lent.api_path)
            for host in ("192.0.2.7", "[2001:db8::7]", "web"):
                head = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                reply = await ask(stage.door, head.encode())
                assert reply.startswith(b"HTTP/1.1 503 ")
                assert b"has not heard from the engine yet" in reply
            own = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert (await ask(stage.door, own)).endswith(b"hello")
            api.close()

    asyncio.run(scenario())


def test_it_reports_an_inventory_when_it_serves_it_and_not_before(stage: Stage) -> None:
    reports: asyncio.Queue[int] = asyncio.Queue()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reports.put_nowait((await bus.receive(reader))["serial"])
        writer.write(bus.encode({"serial": 5, "inventory": Inventory().to_json()}))
        reports.put_nowait((await bus.receive(reader))["serial"])
        writer.close()

    async def scenario() -> None:
        async with worker(stage, control):
            # A second control counts anew: the first one's number means nothing to it.
            assert [await reports.get() for _ in range(4)] == [-1, 5, -1, 5]

    asyncio.run(scenario())


def test_it_tells_who_is_connected_when_it_is_asked(stage: Stage) -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    ready, ask = asyncio.Event(), asyncio.Event()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bus.encode({"serial": 1, "inventory": Inventory().to_json()}))
        while (await bus.receive(reader))["serial"] != 1:
            pass
        ready.set()
        await ask.wait()
        for question in ("connections", "report"):
            writer.write(bus.encode({"ask": question}))
            while "answers" not in (message := await bus.receive(reader)):
                pass
            answers.put_nowait(message)
        writer.close()

    async def scenario() -> None:
        async with worker(stage, control):
            await ready.wait()
            api = await asyncio.start_unix_server(echo, stage.lent.api_path)
            reader, writer = await asyncio.open_connection(*stage.door)
            silent = await asyncio.open_connection(*stage.door)
            silent[1].write(b"\x05")
            writer.write(b"\x05\x01\x00\x05\x01\x00\x03\x0fdconnect.docker\x00\x50four")
            assert (await reader.readexactly(16))[12:] == b"four"
            ask.set()
            told, report = await answers.get(), await answers.get()
            assert (told["answers"], told["index"], told["total"]) == ("connections", 0, 2)
            newest, oldest = told["connections"]
            assert {each["state"] for each in (newest, oldest)} == {"handshake", "relaying"}
            relay = newest if newest["state"] == "relaying" else oldest
            host, port = writer.get_extra_info("sockname")
            assert relay.pop("age_s") < DEADLINE
            assert relay == {
                "peer": f"{host}:{port}",
                "front": "socks5",
                "target": "dconnect.docker:80",
                "address": "the agent",
                "state": "relaying",
                "bytes_up": 4,
                "bytes_down": 4,
                "worker": 0,
            }
            assert (report["open"], report["open_bytes_up"], report["open_bytes_down"]) == (2, 4, 4)
            assert report["bytes_up"] == 0, "what is open has not ended"
            for each in (writer, silent[1]):
                each.close()
            api.close()

    asyncio.run(scenario())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Our own service, as far as this test needs one."""
    writer.write(await reader.read(100))
    await reader.read()
    writer.close()


def test_an_inventory_that_it_cannot_serve_is_told_in_the_log_and_ends_it(stage: Stage) -> None:
    serials: list[int] = []

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bus.encode({"serial": 5, "inventory": UNFIT}))
        with suppress(EOFError):
            while True:
                serials.append((await bus.receive(reader))["serial"])
        writer.close()

    async def scenario() -> None:
        async with worker(stage, control) as process:
            code, log = await end(process)
            assert code == 1
            assert [line["level"] for line in log if line["event"].startswith("unexpected error")] == ["critical"]
            assert 5 not in serials

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "lifeline"])
def test_it_ends_when_told_to_and_with_its_supervisor(stage: Stage, how: str) -> None:
    served = asyncio.Event()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bus.encode({"serial": 1, "inventory": Inventory().to_json()}))
        with suppress(OSError, EOFError):
            while (await bus.receive(reader))["serial"] != 1:
                pass
            served.set()
            await reader.read()
        writer.close()

    async def scenario() -> None:
        async with worker(stage, control) as process:
            await served.wait()
            if how == "lifeline":
                stage.hold.close()
            else:
                os.kill(process.pid, signal.Signals[how])
            code, log = await end(process)
            assert code == 0
            assert [line["event"] for line in log] == ["worker ready"]

    asyncio.run(scenario())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has it")
def test_workers_share_no_cpu_as_long_as_there_are_enough() -> None:
    before = os.sched_getaffinity(0)

    def dealt(index: int, workers: int) -> set[int]:
        try:
            keep_apart(index, workers)
            return os.sched_getaffinity(0)
        finally:
            os.sched_setaffinity(0, before)

    count = len(before)
    hands = [dealt(index, count) for index in range(count)]
    assert set().union(*hands) == before
    assert all(len(hand) == 1 for hand in hands)
    assert dealt(0, 1) == before
    assert dealt(count, count + 1) == before


@pytest.mark.parametrize(
    ("outcome", "level", "failed"), [("ok", "info", 0), ("reset", "warning", 1), ("refused", "warning", 1)]
)
def test_a_session_is_one_line_and_one_count(outcome: str, level: str, failed: int) -> None:
    told: list[Record] = []

    def render(record: Record) -> bytes:
        told.append(record)
        return b""

    read, write = os.pipe()
    sessions = Sessions(LogBuffer(write, render))
    sessions.opened()
    session = Session("10.0.0.1:5", front="socks5", target="web:80", outcome=outcome, started=time.monotonic() - 2)
    session.connect = 0.004
    sessions.ended(session)
    sessions.closed()
    os.close(read)
    os.close(write)
    (line,) = told
    assert (line["event"], line["level"], line["target"], line["outcome"]) == ("session", level, "web:80", outcome)
    assert 2 <= line["seconds"] < 60
    counters = sessions.counters
    assert sum(counters.connects) == 1
    assert "connect_seconds" in line
    assert (counters.open, counters.accepted, counters.failed, counters.sessions) == (
        0,
        1,
        failed,
        {"socks5": {outcome: 1}},
    )


@pytest.mark.parametrize(
    ("descriptors", "places"), [(40, 16), (1024, 227), (20_000, 8661), (37_376, 16_384), (1_048_576, 16_384)]
)
def test_places_come_from_descriptors(monkeypatch: pytest.MonkeyPatch, descriptors: int, places: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert _max_clients() == places
