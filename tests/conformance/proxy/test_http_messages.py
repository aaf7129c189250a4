"""What is passed on: RFC 9110 §7.6, RFC 9112 §5 to §7, and what is refused, against a real front door."""

from __future__ import annotations

import contextlib
import socket

import pytest

from dconnect.core.limits import MAX_HEAD_BYTES, MAX_INTERIM_RESPONSES
from kit.asking import ask, get, status
from kit.door import DoorThread, exactly, head, rest, was_reset

# RFC 9110 §7.6: message forwarding


def test_rfc9110_s7_6_1_hop_by_hop_fields_end_here_in_both_directions(door: DoorThread) -> None:
    server = door.server()
    client = ask(
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
    client = ask(door, b"GET http://web:%d/ HTTP/1.0\r\nVia: 1.1 first\r\n\r\n" % server.port)
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
    assert status(rest(ask(door, request))) == 400
    server.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


def test_rfc9112_s6_1_an_unknown_transfer_coding_is_501(door: DoorThread) -> None:
    fields = b"Host: web\r\nTransfer-Encoding: gzip, chunked\r\n"
    assert status(rest(ask(door, b"POST http://web/ HTTP/1.1\r\n" + fields + b"\r\n0\r\n\r\n"))) == 501


def test_rfc9110_s8_6_a_204_is_passed_on_without_the_length_it_must_not_have(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
    assert b"content-length" not in head(client).lower()
    client.sendall(get(server, b"/next"))
    assert b"/next" in head(upstream)


@pytest.mark.parametrize(
    "body", [b"x\r\n", b"5\nhello", b"-1\r\n", b"5\r\nhello!\r\n\r\n", b"0\r\nX: y\n\n", b"5;" + b"x" * 5000]
)
def test_rfc9112_s7_1_a_broken_chunk_is_400_and_the_server_sees_no_complete_body(door: DoorThread, body: bytes) -> None:
    server = door.server()
    request = b"POST http://web:%d/ HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n" % server.port
    client = ask(door, request + body)
    assert was_reset(server.accept())
    assert status(rest(client)) == 400


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
    client = ask(door, get(server))
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
    client = ask(door, get(server))
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
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * MAX_INTERIM_RESPONSES + b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",  # nobody asked for it
    ],
)
def test_rfc9110_s15_6_3_an_answer_that_is_none_is_502(door: DoorThread, response: bytes) -> None:
    server = door.server()
    client = ask(door, get(server))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(response)
    with contextlib.suppress(OSError):  # the door may have heard enough already
        upstream.shutdown(socket.SHUT_WR)
    final = rest(client).split(b"HTTP/1.1 102 Processing")[-1].partition(b"HTTP/1.1 ")
    assert final[2].startswith(b"502 ")


# Bounds


def test_rfc6585_s5_an_oversized_head_is_431(door: DoorThread) -> None:
    client = ask(door, b"GET http://web/ HTTP/1.1\r\nHost: web\r\nX: " + b"x" * 65536)
    assert status(rest(client)) == 431


def test_endless_empty_lines_are_431(door: DoorThread) -> None:
    assert status(rest(ask(door, b"\r\n" * MAX_HEAD_BYTES))) == 431


def test_bare_line_feeds_are_400_at_once(door: DoorThread) -> None:
    assert status(rest(ask(door, b"GET / HTTP/1.1\nHost: localhost\n\n"))) == 400
