"""Clients that leave while their destination is being dialed, over a real front door."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from dconnect.agent.names import Names
from dconnect.core.inventory import Inventory
from dconnect.core.limits import CONNECT_SECONDS
from dconnect.dns import build
from dconnect.proxy import frontdoor
from kit.door import WEB, DoorThread, exactly, head, open_descriptors, reset, was_reset

SOON = CONNECT_SECONDS / 2
SECOND = "127.0.0.3"
"""The other address of ``both``."""


def _socks(name: bytes, port: int) -> bytes:
    return b"\x05\x01\x00\x05\x01\x00\x03" + bytes((len(name),)) + name + struct.pack("!H", port)


def _connect(name: bytes, port: int) -> bytes:
    return b"CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n" % (name, port)


def _get(name: bytes, port: int) -> bytes:
    return b"GET http://%s:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % (name, port)


REQUESTS = (_socks, _connect, _get)


@contextlib.contextmanager
def _full(*hosts: str) -> Iterator[tuple[int, list[socket.socket]]]:
    """A port at which a connect waits: the backlog has one place, which is taken, so SYNs are dropped."""
    with contextlib.ExitStack() as stack:
        listeners: list[socket.socket] = []
        for host in hosts:
            listener = stack.enter_context(socket.socket())
            listener.bind((host, listeners[0].getsockname()[1] if listeners else 0))
            listener.listen(0)
            listeners.append(listener)
            stack.enter_context(socket.create_connection(listener.getsockname()))
        yield listeners[0].getsockname()[1], listeners


async def _turn() -> None:
    """Runs in the door's loop after whatever was begun before it."""


def _until(door: DoorThread, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline
        door.call(_turn)


def _dialing(door: DoorThread) -> bool:
    """Whether somebody's destination is known, and nobody is connected."""
    return any(session.target for session in tuple(door.door._guests.values()))


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("name", [b"web", b"both"])
def test_a_reset_ends_the_dial_at_once(tmp_path: Path, request_of: Callable[[bytes, int], bytes], name: bytes) -> None:
    with _full(WEB, SECOND) as (port, _), DoorThread(tmp_path) as door:
        before = open_descriptors()
        client = door.client()
        client.sendall(request_of(name, port))
        _until(door, lambda: _dialing(door))
        assert open_descriptors() > before + 1, "no socket is connecting"
        reset(client)
        _until(door, lambda: not door.recorder.open)
        assert open_descriptors() == before
        assert [(each.outcome, each.target, each.detail) for each in door.recorder.sessions] == [
            ("gone", f"{name.decode()}:{port}", f"The client left while {name.decode()}:{port} was being dialed.")
        ]


@pytest.mark.parametrize("request_of", REQUESTS)
def test_a_reset_ends_the_wait_for_a_lookup_too(tmp_path: Path, request_of: Callable[[bytes, int], bytes]) -> None:
    gate = threading.Event()

    def hang(_host: str) -> Iterable[str]:
        gate.wait(2 * SOON)
        return ()

    zone = build(Inventory(), ("docker",), [])
    with DoorThread(tmp_path, resolve=Names(lambda: zone, "allow", hang, seconds=2 * SOON)) as door:
        client = door.client()
        client.sendall(request_of(b"far.example", 80))
        _until(door, lambda: _dialing(door))
        reset(client)
        _until(door, lambda: not door.recorder.open)
        gate.set()
    assert [each.detail for each in door.recorder.sessions] == [
        "The client left while far.example:80 was being dialed."
    ]


@pytest.mark.parametrize("request_of", REQUESTS)
def test_a_reset_right_behind_the_request_ends_it_as_well(
    tmp_path: Path, request_of: Callable[[bytes, int], bytes]
) -> None:
    with _full(WEB) as (port, _), DoorThread(tmp_path) as door:
        for _ in range(20):
            client = door.client()
            client.sendall(request_of(b"web", port))
            reset(client)
        _until(door, lambda: len(door.recorder.sessions) == 20 and not door.recorder.open)
    assert {each.outcome for each in door.recorder.sessions} <= {"gone", "malformed"}


@pytest.mark.parametrize("request_of", [_socks, _connect])
def test_a_client_that_only_ended_its_stream_is_dialed_for(
    tmp_path: Path, request_of: Callable[[bytes, int], bytes]
) -> None:
    with _full(WEB) as (port, listeners), DoorThread(tmp_path) as door:
        client = door.client()
        client.sendall(request_of(b"web", port))
        _until(door, lambda: _dialing(door))
        client.shutdown(socket.SHUT_WR)
        door.call(_turn)
        door.adopt(listeners[0].accept()[0])  # there is room now, for the SYN that is repeated after a second
        _ = exactly(client, 12) if request_of is _socks else head(client)
        upstream = door.adopt(listeners[0].accept()[0])
        upstream.sendall(b"answer")
        assert exactly(client, 6) == b"answer"
        assert upstream.recv(1) == b"", "its end is passed on"


def test_the_end_of_the_agent_during_a_dial_is_no_clients_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontdoor, "DRAIN_SECONDS", 0.1)
    with _full(WEB) as (port, _), DoorThread(tmp_path) as door:
        client = door.client()
        client.sendall(_socks(b"web", port))
        _until(door, lambda: _dialing(door))
        door.call(door.door.drain)
        exactly(client, 2)
        assert was_reset(client)
    assert [each.outcome for each in door.recorder.sessions] == ["shutdown"]


class Elsewhere:
    """A name server outside Docker that answers so often, and then is silent until it is let go."""

    def __init__(self, answers: int) -> None:
        self.left = answers
        self.let_go = threading.Event()

    def __call__(self, _host: str) -> Iterable[str]:
        self.left -= 1
        if self.left < 0:
            self.let_go.wait(2 * SOON)
        return (WEB,)

    def names(self) -> Names:
        zone = build(Inventory(), ("docker",), [])
        return Names(lambda: zone, "allow", self, seconds=2 * SOON)


def test_a_reset_during_the_lookup_for_a_kept_connection_closes_that_too(tmp_path: Path) -> None:
    elsewhere = Elsewhere(answers=1)
    with DoorThread(tmp_path, resolve=elsewhere.names()) as door:
        server, client = door.server(), door.client()
        client.sendall(_get(b"far.example", server.port))
        upstream = server.accept()
        assert head(upstream)
        upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert head(client).startswith(b"HTTP/1.1 204")
        client.sendall(_get(b"far.example", server.port))
        _until(door, lambda: elsewhere.left < 0)
        reset(client)
        _until(door, lambda: not door.recorder.open)
        assert not upstream.recv(1), "the server's connection is left open"
        elsewhere.let_go.set()


def test_a_reset_during_a_lookup_that_was_asked_for_is_recorded(tmp_path: Path) -> None:
    elsewhere = Elsewhere(answers=0)
    with DoorThread(tmp_path, resolve=elsewhere.names()) as door:
        client = door.client()
        client.sendall(b"\x05\x01\x00\x05\xf0\x00\x03\x0bfar.example\x00\x00")
        _until(door, lambda: elsewhere.left < 0)
        reset(client)
        _until(door, lambda: not door.recorder.open)
        elsewhere.let_go.set()
    assert [(each.outcome, each.target) for each in door.recorder.sessions] == [("gone", "far.example")]
