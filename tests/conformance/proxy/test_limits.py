"""What the front door does when it is full, when descriptors run out, and when it stops, over a real one."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dconnect.core import limits
from dconnect.core.limits import DRAIN_SECONDS, HANDSHAKE_SECONDS
from dconnect.proxy import frontdoor, guests
from kit.descriptors import no_descriptors
from kit.door import DoorThread, Server, exactly, head, open_descriptors, rest, was_reset

GREETING = b"\x05\x01\x00"
SILENT = (b"\x05", GREETING, b"GET http://web/ HTTP/1.1\r\nHost: ", b"CONNECT web:80 HT")
"""How far a client gets that then says no more."""
LEAST = 4
"""Places of a door that is soon full."""


def _request(server: Server) -> bytes:
    return GREETING + b"\x05\x01\x00\x03\x03web" + struct.pack("!H", server.port)


def _relay(door: DoorThread, server: Server) -> tuple[socket.socket, socket.socket]:
    client = door.client()
    client.sendall(_request(server))
    upstream = server.accept()
    exactly(client, 12)
    return client, upstream


def _kept_alive(door: DoorThread, server: Server) -> tuple[socket.socket, socket.socket]:
    """An HTTP client between two requests, and the server that answered the first."""
    client = door.client()
    client.sendall(b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    head(client)
    return client, upstream


async def _one_turn() -> None:
    """Runs in the door's loop after whatever was begun before it."""


def _until(door: DoorThread, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANDSHAKE_SECONDS / 2
    while not holds():
        assert time.monotonic() < deadline
        door.call(_one_turn)


# -- full ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", SILENT)
def test_silent_clients_in_every_place_keep_nobody_out(tmp_path: Path, said: bytes) -> None:
    with DoorThread(tmp_path, max_clients=LEAST) as door:
        server = door.server()
        silent = [door.client() for _ in range(LEAST)]
        for client in silent:
            client.sendall(said)
        _until(door, lambda: door.recorder.open == LEAST)
        begun = time.monotonic()
        client, upstream = _relay(door, server)
        client.sendall(b"served")
        assert exactly(upstream, 6) == b"served"
        assert time.monotonic() - begun < HANDSHAKE_SECONDS / 2, "somebody's handshake was waited for"
        assert was_reset(silent[0]), "not the one that was silent longest"
        _until(door, lambda: door.recorder.open == LEAST)
        assert [session.outcome for session in door.recorder.sessions] == ["crowded"]
        assert not door.recorder.pauses


def test_five_hundred_silent_clients_go_one_by_one_and_all_are_told(tmp_path: Path) -> None:
    before = open_descriptors()
    with DoorThread(tmp_path, max_clients=LEAST) as door:
        server = door.server()
        for number in range(500):
            door.client().sendall(SILENT[number % len(SILENT)])
        _relay(door, server)
        _until(door, lambda: door.recorder.open == LEAST)
        crowded = [session.outcome for session in door.recorder.sessions].count("crowded")
        assert crowded == 500 + 1 - LEAST
    assert door.recorder.open == 0
    assert open_descriptors() == before


def test_an_idle_http_client_makes_room_politely_and_is_no_failure(tmp_path: Path) -> None:
    with DoorThread(tmp_path, max_clients=LEAST) as door:
        server = door.server()
        idle, _ = _kept_alive(door, server)
        for _ in range(LEAST):
            _relay(door, server)
        assert rest(idle) == b""
        _until(door, lambda: len(door.recorder.sessions) == 2)
        assert [session.outcome for session in door.recorder.sessions] == ["ok", "idle"]


def test_who_has_said_what_it_wants_is_not_given_up(tmp_path: Path) -> None:
    with DoorThread(tmp_path, max_clients=LEAST) as door:
        server = door.server()
        busy = door.client()
        busy.sendall(b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
        answerer = server.accept()
        relays = [_relay(door, server) for _ in range(LEAST - 1)]
        late = door.client()
        late.sendall(GREETING)
        _until(door, lambda: bool(door.recorder.pauses))
        answerer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert head(busy).startswith(b"HTTP/1.1 200 ")
        assert exactly(busy, 2) == b"ok"
        # Now that it is idle, it makes room, although nobody has left.
        assert exactly(late, 2) == b"\x05\x00"
        for client, upstream in relays:
            client.sendall(b"still here")
            assert exactly(upstream, 10) == b"still here"


def test_a_full_door_that_nobody_knocks_at_gives_nobody_up(tmp_path: Path) -> None:
    with DoorThread(tmp_path, max_clients=LEAST) as door:
        clients = [door.client() for _ in range(LEAST)]
        for client in clients:
            client.sendall(GREETING)
            assert exactly(client, 2) == b"\x05\x00"
        door.call(partial(_wake_in_vain, door))
        door.call(_one_turn)
        assert not door.recorder.sessions


def test_who_has_only_just_come_is_left_alone_and_a_sibling_takes_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _be_patient(monkeypatch, HANDSHAKE_SECONDS)
    with DoorThread(tmp_path, max_clients=LEAST) as full:
        server = full.server()
        for _ in range(LEAST - 1):
            _relay(full, server)
        fresh = full.client()
        fresh.sendall(GREETING)
        assert exactly(fresh, 2) == b"\x05\x00"
        with DoorThread(tmp_path, max_clients=5 * LEAST, listener=full.listener) as sibling:
            for _ in range(5 * LEAST):
                _relay(sibling, server)
            fresh.sendall(_request(server)[len(GREETING) :])
            exactly(fresh, 10)
            assert (full.recorder.open, sibling.recorder.open) == (LEAST, 5 * LEAST)
            assert not full.recorder.sessions


def test_silent_clients_that_came_all_at_once_delay_others_by_no_more_than_they_are_called_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 5 * limits.PAUSE_SECONDS
    _be_patient(monkeypatch, seconds)
    with DoorThread(tmp_path, max_clients=LEAST) as door:
        server = door.server()
        begun = time.monotonic()
        silent = [door.client() for _ in range(LEAST)]
        _relay(door, server)
        assert seconds <= time.monotonic() - begun < seconds + HANDSHAKE_SECONDS / 2
        assert was_reset(silent[0])
        begun = time.monotonic()
        for _ in range(LEAST - 1):
            _relay(door, server)
        assert time.monotonic() - begun < HANDSHAKE_SECONDS / 2, "the others have been silent as long"


def _be_patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """As with places for everybody in the backlog."""
    monkeypatch.setattr(guests, "FRESH_SECONDS", seconds)
    monkeypatch.setattr(guests, "LISTEN_BACKLOG", 0.01)


def test_who_was_answered_last_has_been_silent_shortest(tmp_path: Path) -> None:
    with DoorThread(tmp_path, max_clients=LEAST) as door:
        server = door.server()
        idle, upstream = _kept_alive(door, server)
        silent = door.client()
        silent.sendall(GREETING)
        assert exactly(silent, 2) == b"\x05\x00"
        idle.sendall(b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
        head(upstream)
        upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        head(idle)
        for _ in range(LEAST - 1):
            _relay(door, server)
        assert was_reset(silent), "it came after the other, and has been silent longer"
        idle.sendall(b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
        head(upstream)


async def _wake_in_vain(door: DoorThread) -> None:
    """As when somebody knocked and a sibling was quicker."""
    door.door._accept()


def test_what_a_full_worker_leaves_its_sibling_takes(tmp_path: Path) -> None:
    with DoorThread(tmp_path, max_clients=LEAST) as full:
        server = full.server()
        held = [_relay(full, server) for _ in range(LEAST)]
        with DoorThread(tmp_path, max_clients=3 * LEAST, listener=full.listener) as sibling:
            # Whichever is asked first, in the end each has what it can hold, and nobody waits.
            held += [_relay(sibling, server) for _ in range(3 * LEAST)]
            for number, (client, upstream) in enumerate(held):
                client.sendall(b"%04d" % number)
                assert exactly(upstream, 4) == b"%04d" % number
            assert (full.recorder.open, sibling.recorder.open) == (LEAST, 3 * LEAST)


# -- descriptors --------------------------------------------------------------------------------


def test_without_descriptors_relays_go_on_and_clients_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontdoor, "RELIEVED_SECONDS", 2 * limits.PAUSE_SECONDS)
    with DoorThread(tmp_path) as door:
        server = door.server()
        client, upstream = _relay(door, server)
        late = [door.adopt(socket.socket()) for _ in range(3)]
        with no_descriptors():
            for sock in late:
                sock.connect(door.address)
                sock.sendall(GREETING)
            _until(door, lambda: bool(door.recorder.pauses))
            for number in range(20):
                client.sendall(b"%04d" % number)
                assert exactly(upstream, 4) == b"%04d" % number
            retried = time.monotonic() + 5 * limits.PAUSE_SECONDS
            _until(door, lambda: time.monotonic() > retried)
            assert door.recorder.pauses == ["the process has no descriptors left"], "told for each retry"
        for sock in late:
            assert exactly(sock, 2) == b"\x05\x00"
        _until(door, lambda: door.recorder.pauses[1:] == [""])


def test_without_descriptors_a_silent_client_makes_room(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        silent, late = door.client(), door.adopt(socket.socket())
        silent.sendall(GREETING)
        assert exactly(silent, 2) == b"\x05\x00"
        with no_descriptors(_first_free()):
            late.connect(door.address)
            late.sendall(GREETING)
            assert exactly(late, 2) == b"\x05\x00"
        assert was_reset(silent)
        assert not door.recorder.pauses


def _first_free() -> int:
    with socket.socket() as probe:
        return probe.fileno()


# -- the end ------------------------------------------------------------------------------------


def test_a_drain_lets_idle_http_clients_go_at_once(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        idle, _ = _kept_alive(door, door.server())
        begun = time.monotonic()
        drained = door.begin(door.door.drain)
        assert rest(idle) == b""
        drained.result(DRAIN_SECONDS)
        assert time.monotonic() - begun < DRAIN_SECONDS / 2
    assert [session.outcome for session in door.recorder.sessions] == ["ok", "idle"]


def test_a_drain_lets_an_http_client_finish_and_then_go(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server, client = door.server(), door.client()
        client.sendall(b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
        upstream = server.accept()
        head(upstream)
        begun = time.monotonic()
        drained = door.begin(door.door.drain)
        door.call(_one_turn)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
        assert rest(client).endswith(b"whole")
        drained.result(DRAIN_SECONDS)
        assert time.monotonic() - begun < DRAIN_SECONDS / 2
    assert [session.outcome for session in door.recorder.sessions] == ["ok", "idle"]


def test_whatever_a_drain_cuts_is_reset_not_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontdoor, "DRAIN_SECONDS", 0.2)
    with DoorThread(tmp_path) as door:
        server, handshake, response = door.server(), door.client(), door.client()
        relayed, upstream = _relay(door, server)
        handshake.sendall(GREETING)
        exactly(handshake, 2)
        response.sendall(b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
        answerer = server.accept()
        head(answerer)
        answerer.sendall(b"HTTP/1.0 200 OK\r\n\r\nas far as it goes")  # its end is the end of the connection
        head(response)
        exactly(response, 17)
        door.call(door.door.drain)
        for sock in (relayed, upstream, handshake, response):
            assert was_reset(sock)
    assert sorted(session.outcome for session in door.recorder.sessions) == ["shutdown", "shutdown", "shutdown"]


def test_a_drain_leaves_newcomers_to_the_next(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as old:
        server = old.server()
        client, upstream = _relay(old, server)
        drained = old.begin(old.door.drain)
        old.call(_one_turn)
        late = old.client()
        late.sendall(_request(server))
        with DoorThread(tmp_path, listener=old.listener):
            server.accept()
            exactly(late, 12)
            client.sendall(b"old ones finish")
            assert exactly(upstream, 15) == b"old ones finish"
            client.close()
            upstream.close()
            drained.result(DRAIN_SECONDS)


# -- relays without a limit of time -------------------------------------------------------------


def test_no_deadline_is_left_on_a_relay_and_the_kernel_watches_both_peers(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        _relay(door, door.server())

        async def deadlines() -> int:
            return len(door.door._poller._deadlines)

        assert door.call(deadlines) == 0


def test_connections_are_listed_newest_first_with_their_bytes(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server = door.server()
        client, upstream = _relay(door, server)
        client.sendall(b"12345")
        exactly(upstream, 5)
        upstream.sendall(b"678")
        exactly(client, 3)
        newest, _ = _relay(door, server)
        guest = door.client()
        guest.sendall(GREETING)
        exactly(guest, 2)

        async def listed() -> list[tuple[str, str, int, int]]:
            return [(each.peer, each.outcome, up, down) for each, up, down in door.door.connections(10)]

        def name(sock: socket.socket) -> str:
            return f"127.0.0.1:{sock.getsockname()[1]}"

        assert door.call(listed) == [
            (name(guest), "open", 0, 0),
            (name(newest), "relaying", 0, 0),
            (name(client), "relaying", 5, 3),
        ]

        async def counted() -> tuple[tuple[int, int], int]:
            return door.door.bytes_moved(), len(door.door.connections(1))

        assert door.call(counted) == ((5, 3), 2)
    moved = [(session.bytes_up, session.bytes_down) for session in door.recorder.sessions]
    assert (5, 3) in moved
