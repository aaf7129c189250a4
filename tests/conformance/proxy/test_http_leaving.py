"""Clients that leave, or end their stream, while they await a response (RFC 9112 §9.6)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.asking import ask, get, status
from kit.door import DoorThread, Server, exactly, head, reset, rest, was_reset


def _post(server: Server) -> bytes:
    return b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" % server.port


@pytest.mark.parametrize("request_of", [get, _post])
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["rst", "close"])
def test_a_client_that_leaves_while_it_waits_closes_the_servers_connection_too(
    tmp_path: Path, request_of: Callable[[Server], bytes], leave: Callable[[socket.socket], None]
) -> None:
    with DoorThread(tmp_path) as door:
        server = door.server()
        client = ask(door, request_of(server))
        upstream = server.accept()
        head(upstream)
        leave(client)
        assert was_reset(upstream), "within the test's patience, not when the response comes"
    assert [(session.outcome, session.status) for session in door.recorder.sessions] == [("gone", 0)]


def test_a_request_is_not_repeated_for_a_client_that_has_left(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server, client = door.server(), door.client()
        client.sendall(get(server))
        upstream = server.accept()
        head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        head(client)
        client.sendall(get(server, b"/kept"))
        assert b"/kept" in head(upstream)
        reset(client)
        assert was_reset(upstream)
        server.listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert [session.outcome for session in door.recorder.sessions] == ["ok", "gone"]


def test_a_client_that_ended_its_stream_still_gets_its_answer(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, get(server))
    client.shutdown(socket.SHUT_WR)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert status(head(client)) == 200
    assert exactly(client, 2) == b"hi"
    assert rest(client) == b""


def test_rfc9110_s15_2_a_client_that_ended_its_stream_is_asked_by_an_interim_response(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, get(server))
    client.shutdown(socket.SHUT_WR)
    upstream = server.accept()
    head(upstream)
    assert head(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert status(head(client)) == 200
    assert exactly(client, 2) == b"hi"


def test_a_client_that_is_cut_amid_a_silent_response_cuts_the_server(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server = door.server()
        client = ask(door, get(server))
        upstream = server.accept()
        head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        head(client)
        reset(client)
        assert was_reset(upstream), "a server that sends events may be silent for hours"
    assert [(session.outcome, session.status) for session in door.recorder.sessions] == [("gone", 200)]


def test_after_101_it_is_the_relay_that_sees_who_leaves(door: DoorThread) -> None:
    server = door.server()
    request = b"GET http://web:%d/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" % server.port
    client = ask(door, request)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    head(client)
    client.shutdown(socket.SHUT_WR)
    assert rest(upstream) == b""
    upstream.sendall(b"last words")
    assert exactly(client, 10) == b"last words"
