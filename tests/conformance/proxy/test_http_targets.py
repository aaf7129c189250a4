"""Where a request goes: RFC 9110 §7 and §9, RFC 9112 §3, against a real front door."""

from __future__ import annotations

from pathlib import Path

import pytest

from dconnect.core.failure import PROXY_ERRORS, Failure
from dconnect.core.limits import MAX_HEAD_BYTES
from kit.asking import ask, get, status
from kit.door import DoorThread, exactly, head, rest
from kit.failing import Failing

# RFC 9110 §9.3.6 and RFC 9112 §3.2.3: CONNECT


def test_rfc9110_s9_3_6_a_2xx_to_connect_has_neither_framing_nor_body(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, b"CONNECT web:%d HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
    upstream = server.accept()
    response = head(client)
    assert status(response) == 200
    assert b"content-length" not in response.lower()
    assert b"transfer-encoding" not in response.lower()
    upstream.sendall(b"first bytes of the tunnel")
    assert exactly(client, 25) == b"first bytes of the tunnel"


def test_rfc9110_s9_3_6_bytes_behind_the_request_belong_to_the_tunnel(door: DoorThread) -> None:
    server = door.server()
    ask(door, b"CONNECT [::ffff:127.0.0.1]:%d HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01early" % server.port)
    assert exactly(server.accept(), 8) == b"\x16\x03\x01early"


@pytest.mark.parametrize("target", [b"web", b"web:", b"web:0", b"web:65536", b":80", b"/", b"http://web/", b"u@web:80"])
def test_rfc9112_s3_2_3_connect_without_host_and_port_is_400(door: DoorThread, target: bytes) -> None:
    response = rest(ask(door, b"CONNECT %s HTTP/1.1\r\nHost: web\r\n\r\n" % target))
    assert status(response) == 400


@pytest.mark.parametrize("fields", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"])
def test_rfc9110_s9_3_6_connect_that_announces_a_body_is_400(door: DoorThread, fields: bytes) -> None:
    server = door.server()
    request = b"CONNECT web:%d HTTP/1.1\r\nHost: web\r\n" % server.port + fields + b"\r\n5\r\nhello"
    assert status(rest(ask(door, request))) == 400
    server.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize("head_rest", [b"HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n", b"HTTP/1.0\r\n"])
def test_rfc9110_s9_3_6_connect_of_old_clients_is_served(door: DoorThread, head_rest: bytes) -> None:
    server = door.server()
    client = ask(door, b"CONNECT web:%d %s\r\nearly" % (server.port, head_rest))
    upstream = server.accept()
    assert status(head(client)) == 200
    assert exactly(upstream, 5) == b"early"


@pytest.mark.parametrize("failure", list(Failure))
def test_rfc9110_s15_every_failure_has_its_status_and_a_sentence(tmp_path: Path, failure: Failure) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure)) as door:
        for request in (
            b"CONNECT web:80 HTTP/1.1\r\nHost: web\r\n\r\n",
            b"GET http://web/ HTTP/1.1\r\nHost: web\r\n\r\n",
        ):
            response = rest(ask(door, request))
            assert status(response) == failure.value.http_status
            assert response.endswith(b"\r\n\r\nweb fails.\n")
            assert b"\r\nConnection: close\r\n" in response
            assert b"\r\nContent-Length: 11\r\n" in response
            error = PROXY_ERRORS[failure].encode()  # RFC 9209 §2
            assert b"\r\nProxy-Status: dconnect; error=" + error + b"\r\n" in response
    assert [session.outcome for session in door.recorder.sessions] == [failure.name.lower()] * 2
    assert {session.front for session in door.recorder.sessions} == {"connect", "http"}


def test_rfc9110_s9_3_2_an_error_answer_to_head_has_no_body(door: DoorThread) -> None:
    response = rest(ask(door, b"HEAD http://nobody/ HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert status(response) == 502
    assert response.endswith(b"\r\n\r\n")


# RFC 9112 §3.2.2: absolute-form


def test_rfc9112_s3_2_2_host_comes_from_the_target_and_the_path_goes_on_in_origin_form(door: DoorThread) -> None:
    server = door.server()
    client = ask(door, b"GET http://web:%d/a?b=http://c HTTP/1.1\r\nHost: evil.example\r\n\r\n" % server.port)
    upstream = server.accept()
    request = head(upstream)
    assert request.startswith(b"GET /a?b=http://c HTTP/1.1\r\n")
    assert b"\r\nHost: web:%d\r\n" % server.port in request
    assert b"evil" not in request
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert status(head(client)) == 200
    assert exactly(client, 2) == b"hi"


@pytest.mark.parametrize(
    ("suffix", "sent"), [(b"", b"/"), (b"?q", b"/?q"), (b"/?q=/", b"/?q=/"), (b"//x", b"//x"), (b"/a%20b", b"/a%20b")]
)
def test_rfc9112_s3_2_1_an_empty_path_becomes_a_slash(door: DoorThread, suffix: bytes, sent: bytes) -> None:
    server = door.server()
    ask(door, get(server, suffix))
    assert head(server.accept()).startswith(b"GET %s HTTP/1.1\r\n" % sent)


def test_rfc9112_s3_2_4_options_of_a_host_without_path_becomes_asterisk_form(door: DoorThread) -> None:
    server = door.server()
    ask(door, b"OPTIONS http://web:%d HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
    assert head(server.accept()).startswith(b"OPTIONS * HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "line",
    [
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
    response = rest(ask(door, line + b"\r\nHost: web\r\n\r\n"))
    assert status(response) == 400
    assert response.count(b"\n", response.index(b"\r\n\r\n") + 4) == 1


@pytest.mark.parametrize("line", [b"GET http://web/ HTTP/1.1", b"CONNECT web:80 HTTP/1.1", b"GET / HTTP/1.1"])
@pytest.mark.parametrize(
    "hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n", b"Host: a b\r\n", b"Host: localhost:x\r\n"]
)
def test_rfc9112_s3_2_exactly_one_host_is_needed(door: DoorThread, line: bytes, hosts: bytes) -> None:
    assert status(rest(ask(door, line + b"\r\n" + hosts + b"\r\n"))) == 400


@pytest.mark.parametrize("method", [b"PROPFIND", b"PATCH", b"X-OWN!", b"get", b"TRACE"])
def test_rfc9110_s9_any_method_is_passed_on(door: DoorThread, method: bytes) -> None:
    server = door.server()
    ask(door, b"%s http://web:%d/ HTTP/1.1\r\nHost: web\r\n\r\n" % (method, server.port))
    assert head(server.accept()).startswith(b"%s / HTTP/1.1\r\n" % method)


@pytest.mark.parametrize("line", [b"PRI * HTTP/2.0", b"GET http://web/ HTTP/3.0"])
def test_rfc9110_s15_6_6_another_version_of_http_is_505(door: DoorThread, line: bytes) -> None:
    assert status(rest(ask(door, line + b"\r\n\r\n"))) == 505


def test_rfc9112_s3_a_target_too_long_is_414(door: DoorThread) -> None:
    assert status(rest(ask(door, b"GET http://web/" + b"x" * MAX_HEAD_BYTES))) == 414


# RFC 9110 §7.6.2: Max-Forwards


@pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS"])
def test_rfc9110_s7_6_2_max_forwards_counts_down(door: DoorThread, method: bytes) -> None:
    server = door.server()
    ask(door, b"%s http://web:%d/ HTTP/1.1\r\nHost: web\r\nMax-Forwards: 1\r\n\r\n" % (method, server.port))
    assert b"\r\nMax-Forwards: 0\r\n" in head(server.accept())


def test_rfc9110_s7_6_2_trace_that_may_go_no_further_is_answered_without_secrets(door: DoorThread) -> None:
    request = (
        b"TRACE http://web/ HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\nX: 1\r\n"
        b"Authorization: Basic QQ==\r\nProxy-Authorization: Basic QQ==\r\nCookie: a=b\r\n\r\n"
    )
    response = rest(ask(door, request))
    assert status(response) == 200
    assert b"\r\nContent-Type: message/http\r\n" in response
    echo = response.partition(b"\r\n\r\n")[2]
    assert echo == b"TRACE http://web/ HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\nX: 1\r\n\r\n"
    assert b"\r\nContent-Length: %d\r\n" % len(echo) in response


def test_rfc9110_s7_6_2_options_that_may_go_no_further_is_answered(door: DoorThread) -> None:
    response = rest(ask(door, b"OPTIONS http://web/ HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\n\r\n"))
    assert status(response) == 204
    assert b"\r\nAllow: GET, " in response


def test_rfc9110_s7_6_2_max_forwards_that_is_no_number_is_400(door: DoorThread) -> None:
    response = rest(ask(door, b"TRACE http://web/ HTTP/1.1\r\nHost: web\r\nMax-Forwards: soon\r\n\r\n"))
    assert status(response) == 400


@pytest.mark.parametrize(("host", "expected"), [(b"localhost:1080", 204), (b"evil.example", 421)])
def test_rfc9112_s3_2_4_options_asterisk_is_about_ourselves(door: DoorThread, host: bytes, expected: int) -> None:
    assert status(rest(ask(door, b"OPTIONS * HTTP/1.1\r\nHost: %s\r\n\r\n" % host))) == expected


# RFC 9110 §7.4: requests for ourselves


@pytest.mark.parametrize("host", [b"evil.example", b"web", b"169.254.169.254", b"", b"127.0.0.1.nip.io"])
def test_rfc9110_s7_4_a_path_with_a_foreign_host_is_421(door: DoorThread, host: bytes) -> None:
    assert status(rest(ask(door, b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host))) == 421


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
    client = ask(door, request_bytes)
    upstream = api.accept()
    assert head(upstream).startswith(b"GET /healthz HTTP/1.1\r\n")
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert status(head(client)) == 200


def test_the_agent_itself_being_away_is_503(door: DoorThread) -> None:
    assert status(rest(ask(door, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))) == 503
