"""The clauses of RFC 9110 and RFC 9112 that a proxy lives by, against a real front door."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from pathlib import Path

import pytest

from dconnect.core.failure import Failure
from dconnect.core.limits import MAX_HEAD_BYTES
from kit.door import DB, DoorThread, Server, exactly, head, reset, rest, stuff, was_reset
from kit.failing import Failing


def _get(server: Server, path: bytes = b"/", name: bytes = b"web") -> bytes:
    return b"GET http://%s:%d%s HTTP/1.1\r\nHost: x\r\n\r\n" % (name, server.port, path)


def _ask(door: DoorThread, request: bytes) -> socket.socket:
    client = door.client()
    client.sendall(request)
    return client


def _status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


# RFC 9110 §9.3.6 and RFC 9112 §3.2.3: CONNECT


def test_rfc9110_s9_3_6_a_2xx_to_connect_has_neither_framing_nor_body(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, b"CONNECT web:%d HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
    upstream = server.accept()
    response = head(client)
    assert _status(response) == 200
    assert b"content-length" not in response.lower()
    assert b"transfer-encoding" not in response.lower()
    upstream.sendall(b"first bytes of the tunnel")
    assert exactly(client, 25) == b"first bytes of the tunnel"


def test_rfc9110_s9_3_6_bytes_behind_the_request_belong_to_the_tunnel(door: DoorThread) -> None:
    server = door.server()
    _ask(door, b"CONNECT [::ffff:127.0.0.1]:%d HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01early" % server.port)
    assert exactly(server.accept(), 8) == b"\x16\x03\x01early"


@pytest.mark.parametrize("target", [b"web", b"web:", b"web:0", b"web:65536", b":80", b"/", b"http://web/", b"u@web:80"])
def test_rfc9112_s3_2_3_connect_without_host_and_port_is_400(door: DoorThread, target: bytes) -> None:
    response = rest(_ask(door, b"CONNECT %s HTTP/1.1\r\nHost: web\r\n\r\n" % target))
    assert _status(response) == 400


@pytest.mark.parametrize("failure", list(Failure))
def test_rfc9110_s15_every_failure_has_its_status_and_a_sentence(tmp_path: Path, failure: Failure) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure)) as door:
        for request in (
            b"CONNECT web:80 HTTP/1.1\r\nHost: web\r\n\r\n",
            b"GET http://web/ HTTP/1.1\r\nHost: web\r\n\r\n",
        ):
            response = rest(_ask(door, request))
            assert _status(response) == failure.value.http_status
            assert response.endswith(b"\r\n\r\nweb fails.\n")
            assert b"\r\nConnection: close\r\n" in response
            assert b"\r\nContent-Length: 11\r\n" in response
    assert [session.outcome for session in door.recorder.sessions] == [failure.name.lower()] * 2
    assert {session.front for session in door.recorder.sessions} == {"connect", "http"}


def test_rfc9110_s9_3_2_an_error_answer_to_head_has_no_body(door: DoorThread) -> None:
    response = rest(_ask(door, b"HEAD http://nobody/ HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert _status(response) == 502
    assert response.endswith(b"\r\n\r\n")


# RFC 9112 §3.2.2: absolute-form


def test_rfc9112_s3_2_2_host_comes_from_the_target_and_the_path_goes_on_in_origin_form(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, b"GET http://web:%d/a?b=http://c HTTP/1.1\r\nHost: evil.example\r\n\r\n" % server.port)
    upstream = server.accept()
    request = head(upstream)
    assert request.startswith(b"GET /a?b=http://c HTTP/1.1\r\n")
    assert b"\r\nHost: web:%d\r\n" % server.port in request
    assert b"evil" not in request
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert _status(head(client)) == 200
    assert exactly(client, 2) == b"hi"


@pytest.mark.parametrize(
    ("suffix", "sent"), [(b"", b"/"), (b"?q", b"/?q"), (b"/?q=/", b"/?q=/"), (b"//x", b"//x"), (b"/a%20b", b"/a%20b")]
)
def test_rfc9112_s3_2_1_an_empty_path_becomes_a_slash(door: DoorThread, suffix: bytes, sent: bytes) -> None:
    server = door.server()
    _ask(door, _get(server, suffix))
    assert head(server.accept()).startswith(b"GET %s HTTP/1.1\r\n" % sent)


def test_rfc9112_s3_2_4_options_of_a_host_without_path_becomes_asterisk_form(door: DoorThread) -> None:
    server = door.server()
    _ask(door, b"OPTIONS http://web:%d HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
    assert head(server.accept()).startswith(b"OPTIONS * HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"OPTIONS * HTTP/1.1",
        b"GET web:80 HTTP/1.1",
        b"GET https://web/ HTTP/1.1",
        b"GET ftp://web/ HTTP/1.1",
        b"GET http:///x HTTP/1.1",
        b"GET http://user:pw@web/ HTTP/1.1",
        b"GET http://web:99999/ HTTP/1.1",
        b"GET http://web#x HTTP/1.1",
        b"GET http://[::1/ HTTP/1.1",
        b"GET://web/ HTTP/1.1",
    ],
)
def test_rfc9112_s3_2_targets_without_meaning_here_are_400(door: DoorThread, line: bytes) -> None:
    response = rest(_ask(door, line + b"\r\nHost: web\r\n\r\n"))
    assert _status(response) == 400
    assert response.count(b"\n", response.index(b"\r\n\r\n") + 4) == 1


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n"])
def test_rfc9112_s3_2_exactly_one_host_is_needed(door: DoorThread, hosts: bytes) -> None:
    assert _status(rest(_ask(door, b"GET http://web/ HTTP/1.1\r\n" + hosts + b"\r\n"))) == 400


# RFC 9110 §7.4: requests for ourselves


@pytest.mark.parametrize(
    "host", [b"evil.example", b"web", b"169.254.169.254", b"", b"127.0.0.1.nip.io", b"localhost:x"]
)
def test_rfc9110_s7_4_a_path_with_a_foreign_host_is_421(door: DoorThread, host: bytes) -> None:
    assert _status(rest(_ask(door, b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host))) == 421


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost:1080\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: dconnect.docker\r\n\r\n",
        b"GET http://dconnect/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT dconnect:80 HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
    ],
)
def test_the_agent_itself_is_reached_in_every_way(door: DoorThread, request_bytes: bytes) -> None:
    api = door.api()
    client = _ask(door, request_bytes)
    upstream = api.accept()
    assert head(upstream).startswith(b"GET /healthz HTTP/1.1\r\n")
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert _status(head(client)) == 200


def test_the_agent_itself_being_away_is_503(door: DoorThread) -> None:
    assert _status(rest(_ask(door, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))) == 503


# RFC 9110 §7.6: message forwarding


def test_rfc9110_s7_6_1_hop_by_hop_fields_end_here_in_both_directions(door: DoorThread) -> None:
    server = door.server()
    client = _ask(
        door,
        b"GET http://web:%d/ HTTP/1.1\r\nHost: web\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\nTE: trailers\r\n"
        b"Proxy-Authorization: Basic QQ==\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 5\r\nX-End: 2\r\n\r\n"
        % server.port,
    )
    upstream = server.accept()
    request = head(upstream).lower()
    for gone in (b"x-mine", b"\r\nte:", b"proxy-authorization", b"proxy-connection", b"\r\nkeep-alive:"):
        assert gone not in request
    assert b"\r\nx-end: 2\r\n" in request
    upstream.sendall(
        b"HTTP/1.1 200 OK\r\nConnection: x-yours\r\nX-Yours: 1\r\nKeep-Alive: 5\r\nX-End: 2\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    response = head(client).lower()
    assert b"yours" not in response
    assert b"keep-alive: 5" not in response
    assert b"\r\nx-end: 2\r\n" in response


def test_rfc9110_s7_6_3_via_is_appended_in_both_directions(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, b"GET http://web:%d/ HTTP/1.0\r\nVia: 1.1 first\r\n\r\n" % server.port)
    upstream = server.accept()
    request = head(upstream)
    assert request.index(b"Via: 1.1 first\r\n") < request.index(b"Via: 1.0 dconnect\r\n")
    upstream.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert b"\r\nVia: 1.0 dconnect\r\n" in rest(client)


# RFC 9112 §5 and §6: fields and framing


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X : y\r\n",
        b"X: y\r\n z\r\n",
        b"X\r\n",
        b"X: a\x00b\r\n",
        b"X: a\rb\r\n",
        b"X: a\nb\r\n",
    ],
)
def test_rfc9112_s6_a_head_that_two_readers_may_read_differently_is_400(door: DoorThread, fields: bytes) -> None:
    server = door.server()
    request = b"POST http://web:%d/ HTTP/1.1\r\nHost: web\r\n" % server.port + fields + b"\r\n0\r\n\r\n"
    assert _status(rest(_ask(door, request))) == 400
    server.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize(
    "body", [b"x\r\n", b"5\nhello", b"-1\r\n", b"5\r\nhello!\r\n\r\n", b"0\r\nX: y\n\n", b"5;" + b"x" * 5000]
)
def test_rfc9112_s7_1_a_broken_chunk_is_400_and_the_server_sees_no_complete_body(door: DoorThread, body: bytes) -> None:
    server = door.server()
    request = b"POST http://web:%d/ HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n" % server.port
    client = _ask(door, request + body)
    assert was_reset(server.accept())
    assert _status(rest(client)) == 400


@pytest.mark.parametrize("split", [1, 1000])
def test_rfc9112_s7_1_a_chunked_body_goes_on_as_it_came(door: DoorThread, split: int) -> None:
    server, client = door.server(), door.client()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b'5;a="b"\r\nhello\r\n001\r\n!\r\n0\r\nTrailer: x\r\n\r\n'
    request = b"POST http://web:%d/ HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n" % server.port + body
    for start in range(0, len(request), split):
        client.send(request[start : start + split])
    upstream = server.accept()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head(upstream)
    assert exactly(upstream, len(body)) == body
    upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head(client)
    assert exactly(client, len(body)) == body


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_rfc9112_s6_3_responses_without_body_leave_both_connections_usable(
    door: DoorThread, method: bytes, response: bytes
) -> None:
    server, client = door.server(), door.client()
    request = b"%s http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % (method, server.port)
    client.sendall(request)
    upstream = server.accept()
    for _ in range(3):
        head(upstream)
        upstream.sendall(response)
        assert head(client).startswith(response.split(b"\r\n")[0])
        client.sendall(request)
    head(upstream)


def test_rfc9112_s6_3_a_response_without_length_ends_with_its_connection(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, _get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil ")
    upstream.sendall(b"the end")
    upstream.close()
    response = rest(client)
    assert b"\r\nConnection: close\r\n" in response
    assert response.endswith(b"\r\n\r\nuntil the end")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_rfc9112_s8_a_response_cut_short_does_not_look_complete(door: DoorThread, response: bytes) -> None:
    server = door.server()
    client = _ask(door, _get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(response)
    upstream.close()
    assert was_reset(client)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",  # nobody asked for it
    ],
)
def test_rfc9110_s15_6_3_an_answer_that_is_none_is_502(door: DoorThread, response: bytes) -> None:
    server = door.server()
    client = _ask(door, _get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(response)
    with contextlib.suppress(OSError):  # the door may have heard enough already
        upstream.shutdown(socket.SHUT_WR)
    assert _status(rest(client)) == 502


# RFC 9110 §10.1.1, §15.2 and §7.8: 100, 1xx, 101


def test_rfc9110_s10_1_1_expect_100_continue_is_between_client_and_server(door: DoorThread) -> None:
    server = door.server()
    client = _ask(
        door,
        b"PUT http://web:%d/ HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" % server.port,
    )
    upstream = server.accept()
    assert b"\r\nExpect: 100-continue\r\n" in head(upstream)
    upstream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert _status(head(client)) == 100
    client.sendall(b"body")
    assert exactly(upstream, 4) == b"body"
    upstream.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    assert b"\r\nLink: x\r\n" in head(client)
    assert _status(head(client)) == 201


def test_rfc9110_s15_2_an_old_client_gets_no_interim_response(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, b"GET http://web:%d/ HTTP/1.0\r\n\r\n" % server.port)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert _status(rest(client)) == 200


def test_rfc9110_s7_8_after_101_both_sides_speak_freely(door: DoorThread) -> None:
    server = door.server()
    client = _ask(
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
    assert _status(response) == 101
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
    client = _ask(
        door,
        b"POST http://web:%d/ HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: x\r\n"
        b"Content-Length: 9\r\n\r\nhalf" % server.port,
    )
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    assert _status(rest(client)) == 502


# RFC 9112 §9: connections


def test_rfc9112_s9_3_each_request_of_a_connection_may_name_another_host(door: DoorThread) -> None:
    web, db, client = door.server(), door.server(DB), door.client()
    ends: dict[str, socket.socket] = {}
    for number in range(20):
        server, name = (web, "web") if number % 2 else (db, "db")
        client.sendall(_get(server, b"/%d" % number, name.encode()))
        upstream = ends.get(name) or ends.setdefault(name, server.accept())
        assert head(upstream).startswith(b"GET /%d HTTP/1.1\r\nHost: %s:" % (number, name.encode()))
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%04d" % number)
        assert _status(head(client)) == 200
        assert exactly(client, 4) == b"%04d" % number


def test_rfc9112_s9_3_2_pipelined_requests_are_answered_in_order(door: DoorThread) -> None:
    server = door.server()
    post = b"POST http://web:%d/b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" % server.port
    chunked = b"POST http://web:%d/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % server.port
    client = _ask(door, _get(server, b"/a") + post + chunked + b"\r\n" + _get(server, b"/d"))
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
    client = _ask(door, b"GET http://web:%d/ HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (server.port, field))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    response = rest(client)
    assert response.endswith(b"hi")
    assert b"\r\nConnection: close\r\n" in response


def test_rfc9112_s9_6_a_server_that_closes_does_not_end_the_clients_connection(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    for _ in range(3):
        client.sendall(_get(server))
        upstream = server.accept()
        head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        upstream.close()
        assert b"\r\nConnection: keep-alive\r\n" in head(client)
        assert exactly(client, 2) == b"hi"


def test_rfc9112_s9_3_1_a_request_on_a_dead_kept_connection_is_sent_again(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(_get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    head(client)
    client.sendall(_get(server, b"/again"))
    head(upstream)  # it was taken, and the server dies over it
    reset(upstream)
    upstream = server.accept()
    assert b"/again" in head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert _status(head(client)) == 200


def test_rfc9110_s9_2_2_a_post_is_never_sent_twice(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(_get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    head(client)
    client.sendall(b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % server.port)
    head(upstream)
    reset(upstream)
    assert _status(rest(client)) == 502


def test_rfc9112_s9_6_an_early_final_response_arrives_although_the_body_is_still_coming(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx" % server.port)
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
    head(client)
    assert rest(client) == b"no!"


def test_a_client_that_is_cut_in_its_body_cuts_the_server(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server = door.server()
        client = _ask(door, b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf" % server.port)
        upstream = server.accept()
        head(upstream)
        assert exactly(upstream, 4) == b"half"
        reset(client)
        assert was_reset(upstream)
    assert [session.outcome for session in door.recorder.sessions] == ["gone"]


def test_a_client_that_ends_in_its_body_cuts_the_server(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server = door.server()
        client = _ask(door, b"POST http://web:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf" % server.port)
        upstream = server.accept()
        head(upstream)
        client.close()
        assert was_reset(upstream)
    assert [session.outcome for session in door.recorder.sessions] == ["gone"]


def _download(door: DoorThread, framing: bytes, parts: list[bytes]) -> bytes:
    server = door.server()
    client = _ask(door, _get(server))
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
    assert _status(head(client)) == 200


# RFC 9112 §2.3 and §9.3: HTTP/1.0


def test_rfc9112_s9_3_a_client_of_http_1_0_gets_a_bare_body_ended_by_close(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, b"GET http://web:%d/ HTTP/1.0\r\n\r\n" % server.port)
    upstream = server.accept()
    assert head(upstream).startswith(b"GET / HTTP/1.1\r\nHost: web:")
    upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n")
    response = rest(client)
    assert b"transfer-encoding" not in response.lower()
    assert response.endswith(b"\r\n\r\nhello!")


# Bounds


def test_rfc6585_s5_an_oversized_head_is_431(door: DoorThread) -> None:
    client = _ask(door, b"GET http://web/ HTTP/1.1\r\nHost: web\r\nX: " + b"x" * 65536)
    assert _status(rest(client)) == 431


def test_endless_empty_lines_are_431(door: DoorThread) -> None:
    assert _status(rest(_ask(door, b"\r\n" * MAX_HEAD_BYTES))) == 431


def test_bare_line_feeds_are_400_at_once(door: DoorThread) -> None:
    assert _status(rest(_ask(door, b"GET / HTTP/1.1\nHost: localhost\n\n"))) == 400


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["fin", "rst"])
def test_every_session_of_a_connection_is_recorded_once(tmp_path: Path, leave: object) -> None:
    with DoorThread(tmp_path) as door:
        server, client = door.server(), door.client()
        client.sendall(_get(server))
        upstream = server.accept()
        for number in range(3):
            head(upstream)
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            head(client)
            exactly(client, 2)
            client.sendall(_get(server) if number < 2 else b"")
        assert callable(leave)
        leave(client)
    sessions = [session for session in door.recorder.sessions if session.outcome != "idle"]
    assert [(session.outcome, session.status, session.bytes_down) for session in sessions] == [("ok", 200, 2)] * 3
    assert len({id(session) for session in door.recorder.sessions}) == len(door.recorder.sessions)


def test_a_client_that_reads_late_gets_all_of_the_response(door: DoorThread) -> None:
    server = door.server()
    client = _ask(door, _get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    sent = stuff(upstream)
    upstream.close()
    head(client)
    assert len(rest(client)) == sent
