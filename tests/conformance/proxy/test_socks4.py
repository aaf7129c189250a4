"""SOCKS4 and SOCKS 4A (Ying-Da Lee's two notes; there is no RFC), against a real front door."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from python_socks import ProxyError
from python_socks.sync import Proxy

from dconnect.core.failure import Failure
from kit.door import DB, WEB, DoorThread, exactly, rest
from kit.failing import Failing

REJECTED = b"\x00\x5b" + bytes(6)


def _by_address(host: str, port: int, user: bytes = b"", command: int = 1) -> bytes:
    return struct.pack("!BBH", 4, command, port) + socket.inet_aton(host) + user + b"\0"


def _by_name(name: bytes, port: int, command: int = 1, last: int = 1) -> bytes:
    return _by_address(f"0.0.0.{last}", port, command=command) + name + b"\0"


def test_connect_leads_to_the_address(door: DoorThread) -> None:
    server, client = door.server(DB), door.client()
    client.sendall(_by_address(DB, server.port, b"fred"))
    upstream = server.accept()
    host, port = upstream.getpeername()
    assert exactly(client, 8) == b"\x00\x5a" + struct.pack("!H", port) + socket.inet_aton(host)
    upstream.sendall(b"hello")
    assert exactly(client, 5) == b"hello"


@pytest.mark.parametrize("last", [1, 7, 255])
@pytest.mark.parametrize("name", [b"web", b"Web.Docker.", b"127.0.0.1"])
def test_4a_connect_leads_to_the_name_whatever_x_is(door: DoorThread, name: bytes, last: int) -> None:
    server, client = door.server(WEB), door.client()
    client.sendall(_by_name(name, server.port, last=last))
    server.accept()
    assert exactly(client, 8)[:2] == b"\x00\x5a"


def test_4a_resolves_a_name_that_has_ipv6_only(door: DoorThread) -> None:
    server, client = door.server("::1"), door.client()
    client.sendall(_by_name(b"six", server.port))
    port = server.accept().getpeername()[1]
    assert exactly(client, 8) == b"\x00\x5a" + struct.pack("!H", port) + bytes(4)


def test_4a_is_not_meant_by_0_0_0_0_which_policy_refuses(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        client = door.client()
        client.sendall(_by_address("0.0.0.0", 80) + b"web\0")
        assert rest(client) == REJECTED
    (session,) = door.recorder.sessions
    assert (session.outcome, session.target) == ("policy", "0.0.0.0:80")


def test_a_request_may_arrive_byte_by_byte(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in _by_name(b"web", server.port):
        client.send(bytes((byte,)))
    server.accept()
    assert exactly(client, 8)[1] == 90


def test_request_and_data_may_arrive_at_once(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(_by_name(b"web", server.port) + b"early data")
    assert exactly(server.accept(), 10) == b"early data"


def test_granted_is_told_after_the_connect_and_not_before(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    port = server.port
    server.listener.close()
    client.sendall(_by_name(b"web", port))
    assert rest(client) == REJECTED


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_is_91_and_recorded_as_what_it_was(tmp_path: Path, failure: Failure) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure)) as door:
        client = door.client()
        client.sendall(_by_name(b"web", 80))
        assert rest(client) == REJECTED
    (session,) = door.recorder.sessions
    assert (session.front, session.outcome, session.detail) == ("socks4", failure.name.lower(), "web fails.")
    assert session.target == "web:80"


@pytest.mark.parametrize("command", [0, 2, 3, 0xF1, 0xFF])
def test_bind_and_other_commands_are_91(door: DoorThread, command: int) -> None:
    client = door.client()
    client.sendall(_by_address(WEB, 80, command=command))
    assert rest(client) == REJECTED


@pytest.mark.parametrize("tail", [b"u" * 256, b"\0\0", b"\0a b\0", b"\0" + b"a" * 256])
def test_a_broken_request_is_91(door: DoorThread, tail: bytes) -> None:
    client = door.client()
    client.sendall(b"\x04\x01\x00\x50\x00\x00\x00\x01" + tail)
    assert rest(client) == REJECTED


def test_where_a_password_is_wanted_there_is_no_place_for_it(tmp_path: Path) -> None:
    with DoorThread(tmp_path, accepts=lambda *_: True) as door:
        client = door.client()
        client.sendall(_by_name(b"web", door.server().port))
        assert rest(client) == REJECTED
    (session,) = door.recorder.sessions
    assert (session.front, session.outcome) == ("socks4", "unauthorized")


@pytest.mark.parametrize("rdns", [True, False])
def test_python_socks_connects(door: DoorThread, rdns: bool) -> None:
    server = door.server()
    url = f"socks4://127.0.0.1:{door.address[1]}"
    client = door.adopt(Proxy.from_url(url, rdns=rdns).connect("web" if rdns else WEB, server.port, timeout=10))
    upstream = server.accept()
    client.sendall(b"ping")
    assert exactly(upstream, 4) == b"ping"


def test_python_socks_sees_the_refusal(door: DoorThread) -> None:
    with pytest.raises(ProxyError) as refusal:
        Proxy.from_url(f"socks4://127.0.0.1:{door.address[1]}", rdns=True).connect("nobody", 80, timeout=10)
    assert refusal.value.error_code == 91


def test_a_session_is_recorded_once_and_whole(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server, client = door.server(), door.client()
        client.sendall(_by_name(b"web", server.port) + b"12")
        upstream = server.accept()
        client.sendall(b"345")
        client.shutdown(socket.SHUT_WR)
        assert rest(upstream) == b"12345"
        upstream.close()
        assert rest(client)[1] == 90
    (session,) = door.recorder.sessions
    assert (session.front, session.outcome, session.bytes_up, session.address) == ("socks4", "ok", 5, WEB)
