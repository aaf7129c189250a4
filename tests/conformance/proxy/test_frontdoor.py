"""Admission, bounds, stopping and leaving, over a real front door."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dconnect.core.address import IPAddress
from dconnect.core.limits import CONNECT_SECONDS, HANDSHAKE_SECONDS
from kit.door import NAMES, DoorThread, Server, exactly, open_descriptors, reset, rest, was_reset


def _socks(server: Server) -> bytes:
    return b"\x05\x01\x00\x05\x01\x00\x03\x03web" + struct.pack("!H", server.port)


def _relay(door: DoorThread, server: Server) -> socket.socket:
    """A client whose connection stands."""
    client = door.client()
    client.sendall(_socks(server))
    server.accept()
    exactly(client, 12)
    return client


def _connect(server: Server) -> bytes:
    return b"CONNECT web:%d HTTP/1.1\r\nHost: web\r\n\r\n" % server.port


def _get(server: Server) -> bytes:
    return b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % server.port


class _Gate:
    """A resolver that answers when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, host: str) -> Sequence[IPAddress]:
        self.asked.set()
        await self.open.wait()
        return NAMES[host]

    async def wait_asked(self) -> None:
        await self.asked.wait()

    async def let_go(self) -> None:
        self.open.set()


async def _one_turn() -> None:
    """Runs in the door's loop after whatever was begun before it."""


@pytest.mark.parametrize("request_of", [_socks, _connect, _get])
def test_a_client_that_is_cut_during_the_dial_is_recorded_once_and_nothing_leaks(
    tmp_path: Path, request_of: Callable[[Server], bytes]
) -> None:
    before = open_descriptors()
    gate = _Gate()
    with DoorThread(tmp_path, resolve=gate) as door:
        server, client = door.server(), door.client()
        client.sendall(request_of(server))
        door.call(gate.wait_asked)
        reset(client)
        door.call(gate.let_go)
        upstream = server.accept()
        assert was_reset(upstream) or not rest(upstream)
    assert [session.outcome for session in door.recorder.sessions] == ["gone"]
    assert door.recorder.open == 0
    del client, server, upstream
    assert open_descriptors() == before


def test_a_forbidden_source_is_closed_unread_and_recorded(tmp_path: Path) -> None:
    with DoorThread(tmp_path, admits=lambda peer: peer != "127.0.0.1") as door:
        client = door.client()
        assert rest(client) == b""
    assert door.recorder.refusals == ["127.0.0.1"]
    assert door.recorder.sessions == []


def test_beyond_the_bound_clients_wait_and_are_served_when_others_leave(tmp_path: Path) -> None:
    with DoorThread(tmp_path, max_clients=2) as door:
        server = door.server()
        first, _ = [_relay(door, server) for _ in range(2)]
        third = door.client()
        third.sendall(b"\x05\x01\x00")
        door.call(_one_turn)
        third.setblocking(False)
        with pytest.raises(BlockingIOError):
            third.recv(1)
        third.settimeout(10)
        reset(first)
        assert exactly(third, 2) == b"\x05\x00"


def test_a_door_that_drains_at_its_bound_takes_nobody_new(tmp_path: Path) -> None:
    with DoorThread(tmp_path, max_clients=1) as door:
        client = _relay(door, door.server())
        waiting = door.client()
        waiting.sendall(b"\x05\x01\x00")
        drained = door.begin(door.door.drain)
        door.call(_one_turn)
        client.close()
        drained.result(10)
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(1)


def test_draining_lets_open_connections_finish(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server, client = door.server(), door.client()
        client.sendall(_socks(server))
        upstream = server.accept()
        exactly(client, 12)
        drained = door.begin(door.door.drain)
        door.call(_one_turn)
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert rest(upstream) == b"last words"
        upstream.close()
        assert rest(client) == b""
        drained.result(10)
    assert [session.outcome for session in door.recorder.sessions] == ["ok"]


def test_two_hundred_clients_come_and_go_without_leaving_a_descriptor(tmp_path: Path) -> None:
    before = open_descriptors()
    with DoorThread(tmp_path, max_clients=1000) as door:
        server = door.server()
        for number in range(200):
            client = door.client()
            client.sendall((_socks, _connect, _get)[number % 3](server))
            upstream = server.accept()
            (reset if number % 2 else socket.socket.close)(client if number % 5 else upstream)
            client.close()
            upstream.close()
    assert door.recorder.open == 0
    assert open_descriptors() == before


def test_an_address_that_never_answers_leaves_time_for_the_next(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door, contextlib.ExitStack() as stack:
        server = door.server()
        silent = stack.enter_context(socket.create_server(("127.0.0.3", server.port), backlog=0))
        for _ in range(4):  # until its queue is full and SYNs are dropped
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        client = door.client()
        client.settimeout(2 * CONNECT_SECONDS)
        client.sendall(b"\x05\x01\x00\x05\x01\x00\x03\x04both" + struct.pack("!H", server.port))
        assert exactly(client, 12)[3] == 0
        server.accept()


def test_ten_seconds_of_silence_end_every_kind_of_handshake(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        said = (b"", b"\x05\x01", b"\x05\x01\x00\x05\x01", b"GET http://web/ HTTP/1.1\r\nHost: ")
        clients = [door.client() for _ in said]
        for client, words in zip(clients, said, strict=True):
            client.settimeout(2 * HANDSHAKE_SECONDS)
            client.sendall(words)
        answers = [rest(client) for client in clients]
    assert answers[:3] == [b"", b"", b"\x05\x00"]
    assert answers[3].startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    outcomes = [session.outcome for session in door.recorder.sessions]
    assert sorted(outcomes) == ["malformed", "silent", "silent", "silent"]


def test_random_bytes_come_to_a_clear_end_and_leave_nothing(tmp_path: Path) -> None:
    before, dice = open_descriptors(), random.Random(1928)
    starts = (b"", b"\x05\x01\x00", b"\x05\x01\x00\x05\x01\x00", b"GET ", b"POST http://web/ HTTP/1.1\r\n")
    with DoorThread(tmp_path) as door:
        for start in starts * 20:
            client = door.client()
            client.sendall(start + dice.randbytes(dice.randrange(1, 200)))
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):  # it left bytes unread
                rest(client)
            client.close()
    assert door.recorder.open == 0
    assert not {session.outcome for session in door.recorder.sessions} & {"ok", "open"}
    assert open_descriptors() == before


def test_sessions_see_their_own_client(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        clients = [door.client() for _ in range(3)]
        peers = {f"127.0.0.1:{client.getsockname()[1]}" for client in clients}
        for client in clients:
            client.sendall(b"\x05\x01\xff")
            assert rest(client)
    assert {session.peer for session in door.recorder.sessions} == peers
