"""How exchanges go on one connection: RFC 9110 §10.1.1, §15.2 and §7.8, RFC 9112 §9, against a real front door."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

import pytest

from kit.asking import ask, get, status
from kit.door import DB, DoorThread, exactly, head, reset, rest, stuff, was_reset

# RFC 9110 §10.1.1, §15.2 and §7.8: 100, 1xx, 101


def test_rfc9110_s10_1_1_expect_100_continue_is_between_client_and_server(door: DoorThread) -> None:
    server = door.server()
    client = ask(
        door,
        b"PUT http://web:%d/ HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" % server.port,
    )
    upstream = server.accept()
    assert b"\r\nExpect: 100-continue\r\n" in head(upstream)
    upstream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert status(head(client)) == 100
    client.sendall(b"body")
    assert exactly(upstream, 4) == b"body"
    upstream.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    assert b"\r\nLink: x\r\n" in head(client)
    assert status(head(client)) == 201


def test_rfc9110_s15_2_an_old_client_gets_no_interim_response(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, b"GET http://web:%d/ HTTP/1.0\r\n\r\n" % server.port)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert status(rest(client)) == 200


def test_rfc9110_s7_8_after_101_both_sides_speak_freely(door: DoorThread) -> None:
    server = door.server()
    client = ask(
        door,
        b"GET ws://web:%d/chat HTTP/1.1\r\nHost: web\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x05early" % server.port,
    )
    upstream = server.accept()
    request = head(upstream)
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in request
    upstream.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x05hello"
    )
    response = head(client)
    assert status(response) == 101
    assert b"\r\nUpgrade: websocket\r\n" in response
    assert exactly(client, 7) == b"\x81\x05hello"
    assert exactly(upstream, 7) == b"\x81\x05early"
    client.sendall(b"\x88\x00")
    client.shutdown(socket.SHUT_WR)
    assert rest(upstream) == b"\x88\x00"
    upstream.close()
    assert rest(client) == b""


def test_rfc9110_s7_8_a_switch_before_the_request_is_complete_is_refused(door: DoorThread) -> None:
    server = door.server()
    client = ask(
        door,
        b"POST http://web:%d/ HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: x\r\n"
        b"Content-Length: 9\r\n\r\nhalf" % server.port,
    )
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    assert status(rest(client)) == 502


@pytest.mark.parametrize("answer", [b"h2c", b"websocket, h2c", b""])
def test_rfc9110_s7_8_a_switch_to_what_was_not_offered_is_refused(door: DoorThread, answer: bytes) -> None:
    server = door.server()
    request = b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    client = ask(door, request % server.port)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n" % answer)
    assert status(rest(client)) == 502


def test_rfc9110_s7_8_an_upgrade_of_an_old_client_is_ignored(door: DoorThread) -> None:
    server = door.server()
    ask(door, b"GET http://web:%d/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % server.port)
    assert b"websocket" not in head(server.accept())


# RFC 9112 §9: connections


def test_rfc9112_s9_3_each_request_of_a_connection_may_name_another_host(door: DoorThread) -> None:
    web, db, client = door.server(), door.server(DB), door.client()
    ends: dict[str, socket.socket] = {}
    for number in range(20):
        server, name = (web, "web") if number % 2 else (db, "db")
        client.sendall(get(server, b"/%d" % number, name.encode()))
        upstream = ends.get(name) or ends.setdefault(name, server.accept())
        assert head(upstream).startswith(b"GET /%d HTTP/1.1\r\nHost: %s:" % (number, name.encode()))
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%04d" % number)
        assert status(head(client)) == 200
        assert exactly(client, 4) == b"%04d" % number


def test_rfc9112_s9_3_2_pipelined_requests_are_answered_in_order(door: DoorThread) -> None:
    server = door.server()
    post = b"POST http://web:%d/b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" % server.port
    chunked = b"POST http://web:%d/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % server.port
    client = ask(door, get(server, b"/a") + post + chunked + b"\r\n" + get(server, b"/d"))
    upstream = server.accept()
    for path, body in ((b"/a", b""), (b"/b", b"abc"), (b"/c", b"0\r\n\r\n"), (b"/d", b"")):
        assert path + b" HTTP/1.1" in head(upstream)
        assert exactly(upstream, len(body)) == body
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + path)
        head(client)
        assert exactly(client, 2) == path


@pytest.mark.parametrize("field", [b"Connection: close", b"Proxy-Connection: close", b"Connection: x, CLOSE"])
def test_rfc9112_s9_6_close_is_obeyed(door: DoorThread, field: bytes) -> None:
    server = door.server()
    client = ask(door, b"GET http://web:%d/ HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (server.port, field))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    response = rest(client)
    assert response.endswith(b"hi")
    assert b"\r\nConnection: close\r\n" in response


def test_rfc9112_s9_6_a_server_that_closes_does_not_end_the_clients_connection(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    for _ in range(3):
        client.sendall(get(server))
        upstream = server.accept()
        head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        upstream.close()
        assert b"\r\nConnection: keep-alive\r\n" in head(client)
        assert exactly(client, 2) == b"hi"


def test_rfc9112_s9_3_1_a_request_on_a_dead_kept_connection_is_sent_again(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    head(client)
    client.sendall(get(server, b"/again"))
    head(upstream)  # it was taken, and the server dies over it
    reset(upstream)
    upstream = server.accept()
    assert b"/again" in head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert status(head(client)) == 200


def test_rfc9110_s9_2_2_a_post_is_never_sent_twice(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    head(client)
    client.sendall(b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % server.port)
    head(upstream)
    reset(upstream)
    assert status(rest(client)) == 502


def test_rfc9112_s9_6_an_early_final_response_arrives_although_the_body_is_still_coming(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx" % server.port)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
    head(client)
    assert rest(client) == b"no!"


def test_a_client_that_is_cut_in_its_body_cuts_the_server(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server = door.server()
        client = ask(door, b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf" % server.port)
        upstream = server.accept()
        head(upstream)
        assert exactly(upstream, 4) == b"half"
        reset(client)
        assert was_reset(upstream)
    assert [session.outcome for session in door.recorder.sessions] == ["gone"]


def test_a_client_that_ends_in_its_body_cuts_the_server(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server = door.server()
        client = ask(door, b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf" % server.port)
        upstream = server.accept()
        head(upstream)
        client.close()
        assert was_reset(upstream)
    assert [session.outcome for session in door.recorder.sessions] == ["gone"]


def _download(door: DoorThread, framing: bytes, parts: list[bytes]) -> bytes:
    server = door.server()
    client = ask(door, get(server))
    upstream = server.accept()
    head(upstream)
    response = b"".join((b"HTTP/1.1 200 OK\r\n", framing, b"\r\n\r\n", *parts))
    sender = threading.Thread(target=upstream.sendall, args=(response,))
    sender.start()
    head(client)
    body = exactly(client, sum(map(len, parts)))
    sender.join(10)
    return body


def test_large_bodies_arrive_intact_however_framed(door: DoorThread) -> None:
    payload = random.Random(1).randbytes(3_000_000)
    assert _download(door, b"Content-Length: %d" % len(payload), [payload]) == payload
    chunks = [payload[at : at + 70_001] for at in range(0, len(payload), 70_001)]
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks] + [b"0\r\n\r\n"]
    assert _download(door, b"Transfer-Encoding: chunked", parts) == b"".join(parts)


def test_a_large_upload_arrives_intact_while_the_answer_waits(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    payload = random.Random(2).randbytes(3_000_000)
    request = b"PUT http://web:%d/ HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % (server.port, len(payload))
    sender = threading.Thread(target=client.sendall, args=(request + payload,))
    sender.start()
    upstream = server.accept()
    head(upstream)
    assert exactly(upstream, len(payload)) == payload
    sender.join(10)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert status(head(client)) == 200


# RFC 9112 §2.3 and §9.3: HTTP/1.0


def test_rfc9112_s9_3_a_client_of_http_1_0_gets_a_bare_body_ended_by_close(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, b"GET http://web:%d/ HTTP/1.0\r\n\r\n" % server.port)
    upstream = server.accept()
    assert head(upstream).startswith(b"GET / HTTP/1.1\r\nHost: web:")
    upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n")
    response = rest(client)
    assert b"transfer-encoding" not in response.lower()
    assert response.endswith(b"\r\n\r\nhello!")


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["fin", "rst"])
def test_every_session_of_a_connection_is_recorded_once(tmp_path: Path, leave: object) -> None:
    with DoorThread(tmp_path) as door:
        server, client = door.server(), door.client()
        client.sendall(get(server))
        upstream = server.accept()
        for number in range(3):
            head(upstream)
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            head(client)
            exactly(client, 2)
            client.sendall(get(server) if number < 2 else b"")
        assert callable(leave)
        leave(client)
    sessions = [session for session in door.recorder.sessions if session.outcome != "idle"]
    assert [(session.outcome, session.status, session.bytes_down) for session in sessions] == [("ok", 200, 2)] * 3
    assert len({id(session) for session in door.recorder.sessions}) == len(door.recorder.sessions)


def test_a_client_that_reads_late_gets_all_of_the_response(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    sent = stuff(upstream)
    upstream.close()
    head(client)
    assert len(rest(client)) == sent
