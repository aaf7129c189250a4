"""Passwords in HTTP (RFC 9110 §11.6 and §11.7, RFC 7617), clause by clause, against a real front door."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dconnect.core.credentials import Credentials, Verifier, proof
from kit.door import DoorThread, exactly, head, rest

ACCEPTS = Verifier(proof(Credentials("dconnect", "pass:word"), bytes(16))).accepts
RIGHT = base64.b64encode(b"dconnect:pass:word")
SIGNED = b"Proxy-Authorization: Basic " + RIGHT + b"\r\n"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[DoorThread]:
    """A front door that wants a password."""
    with DoorThread(tmp_path, accepts=ACCEPTS) as door:
        yield door


def _get(port: int, fields: bytes = b"") -> bytes:
    return b"GET http://web:%d/ HTTP/1.1\r\nHost: web:%d\r\n%s\r\n" % (port, port, fields)


def _connect(port: int, fields: bytes = b"") -> bytes:
    return b"CONNECT web:%d HTTP/1.1\r\nHost: web:%d\r\n%s\r\n" % (port, port, fields)


def _own(path: bytes, fields: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, fields)


def _field(answer: bytes, name: bytes) -> bytes:
    (line,) = [line for line in answer.split(b"\r\n") if line.lower().startswith(name.lower() + b":")]
    return line.partition(b":")[2].strip()


def _body(sock_answer: bytes) -> int:
    return int(_field(sock_answer, b"Content-Length"))


@pytest.mark.parametrize("request_", [_get, _connect])
def test_rfc9110_s15_5_8_without_a_password_407_says_which_scheme(
    tmp_path: Path, request_: Callable[[int], bytes]
) -> None:
    with DoorThread(tmp_path, accepts=ACCEPTS) as door:
        client = door.client()
        client.sendall(request_(door.server().port))
        answer = head(client)
        assert answer.startswith(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
        assert _field(answer, b"Proxy-Authenticate").startswith(b'Basic realm="dconnect"')
        assert b"password" in exactly(client, _body(answer))
    told = [(each.outcome, each.status) for each in door.recorder.sessions]
    assert told == [("unauthorized", 407), ("idle", 0)]


def test_rfc9110_s11_7_1_the_client_may_try_again_on_the_same_connection(locked: DoorThread) -> None:
    server, client = locked.server(), locked.client()
    for fields in (b"", b"Proxy-Authorization: Basic bm9wZTpub3Bl\r\n"):
        client.sendall(_get(server.port, fields))
        answer = head(client)
        assert answer.startswith(b"HTTP/1.1 407 ")
        assert _field(answer, b"Connection") == b"keep-alive"
        exactly(client, _body(answer))
    client.sendall(_get(server.port, SIGNED))
    upstream = server.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert head(client).startswith(b"HTTP/1.1 200 ")


def test_a_tunnel_is_opened_on_the_same_connection_after_407(locked: DoorThread) -> None:
    server, client = locked.server(), locked.client()
    client.sendall(_connect(server.port))
    exactly(client, _body(head(client)))
    client.sendall(_connect(server.port, SIGNED))
    upstream = server.accept()
    assert head(client).startswith(b"HTTP/1.1 200 ")
    client.sendall(b"ping")
    assert exactly(upstream, 4) == b"ping"


def test_rfc9110_s11_7_2_proxy_authorization_goes_no_further_and_authorization_does(locked: DoorThread) -> None:
    server, client = locked.server(), locked.client()
    client.sendall(_get(server.port, SIGNED + b"Authorization: Bearer site\r\n"))
    received = head(server.accept()).lower()
    assert b"proxy-authorization" not in received
    assert RIGHT.lower() not in received
    assert b"authorization: bearer site" in received


@pytest.mark.parametrize(
    "fields",
    [
        b"Proxy-Authorization: Basic\r\n",
        b"Proxy-Authorization: Basic \r\n",
        b"Proxy-Authorization: Basic !!!!\r\n",
        b"Proxy-Authorization: Basic " + base64.b64encode(b"dconnect") + b"\r\n",
        b"Proxy-Authorization: Basic " + base64.b64encode(b"dconnect:") + b"\r\n",
        b"Proxy-Authorization: Basic " + base64.b64encode(b":pass:word") + b"\r\n",
        b"Proxy-Authorization: Basic " + base64.b64encode(b"dconnect:pass:word ") + b"\r\n",
        b"Proxy-Authorization: Bearer " + RIGHT + b"\r\n",
        b"Proxy-Authorization: " + RIGHT + b"\r\n",
        b"Authorization: Basic " + RIGHT + b"\r\n",
        SIGNED + SIGNED,
    ],
)
def test_rfc7617_s2_only_the_right_basic_credentials_count(locked: DoorThread, fields: bytes) -> None:
    client = locked.client()
    client.sendall(_get(locked.server().port, fields))
    assert head(client).startswith(b"HTTP/1.1 407 ")


@pytest.mark.parametrize("scheme", [b"Basic", b"basic", b"BASIC", b"Basic  "])
def test_rfc9110_s11_1_the_scheme_has_no_case(locked: DoorThread, scheme: bytes) -> None:
    server, client = locked.server(), locked.client()
    client.sendall(_connect(server.port, b"proxy-authorization: " + scheme + b" " + RIGHT + b"\r\n"))
    server.accept()
    assert head(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "fields", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]
)
def test_rfc9112_s9_3_a_refused_body_is_never_taken_for_the_next_request(locked: DoorThread, fields: bytes) -> None:
    client = locked.client()
    client.sendall(_get(locked.server().port, fields))
    answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 407 ")
    assert _field(answer.partition(b"\r\n\r\n")[0], b"Connection") == b"close"


def test_rfc9110_s9_3_2_a_407_to_head_has_no_body(locked: DoorThread) -> None:
    client = locked.client()
    port = locked.server().port
    client.sendall(_get(port).replace(b"GET", b"HEAD", 1) + _get(port, b"Connection: close\r\n"))
    assert [answer[:5] for answer in rest(client).split(b"HTTP/1.1 ")[1:]] == [b"407 P", b"407 P"]


@pytest.mark.parametrize("path", [b"/", b"/metrics", b"/api/v1/names?name=web", b"/healthz/../metrics", b"/x?/healthz"])
def test_rfc9110_s15_5_2_our_own_pages_want_it_as_authorization(locked: DoorThread, path: bytes) -> None:
    api, client = locked.api(), locked.client()
    for fields in (b"", SIGNED):
        client.sendall(_own(path, fields))
        answer = head(client)
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert _field(answer, b"WWW-Authenticate").startswith(b'Basic realm="dconnect"')
        exactly(client, _body(answer))
    client.sendall(_own(path, b"Authorization: Basic " + RIGHT + b"\r\n"))
    assert head(api.accept()).startswith(b"GET " + path)


@pytest.mark.parametrize("path", [b"/healthz", b"/proxy.pac", b"/proxy.pac?v=1", b"/wpad.dat"])
def test_what_browsers_and_health_checks_fetch_is_open(locked: DoorThread, path: bytes) -> None:
    api, client = locked.api(), locked.client()
    client.sendall(_own(path))
    assert head(api.accept()).startswith(b"GET " + path)


def test_our_own_pages_through_the_proxy_want_the_proxys_password(locked: DoorThread) -> None:
    api, client = locked.api(), locked.client()
    client.sendall(b"GET http://dconnect/metrics HTTP/1.1\r\nHost: dconnect\r\n\r\n")
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 407 ")
    exactly(client, _body(answer))
    client.sendall(b"GET http://dconnect/metrics HTTP/1.1\r\nHost: dconnect\r\n" + SIGNED + b"\r\n")
    assert head(api.accept()).startswith(b"GET /metrics")


def test_another_sites_name_is_421_before_anybody_is_asked(locked: DoorThread) -> None:
    client = locked.client()
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert rest(client).startswith(b"HTTP/1.1 421 ")


def test_without_a_password_nobody_is_asked(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(_connect(server.port, b"Proxy-Authorization: Basic nonsense\r\n"))
    server.accept()
    assert head(client).startswith(b"HTTP/1.1 200 ")
