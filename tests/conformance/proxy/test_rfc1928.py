"""SOCKS Protocol Version 5, clause by clause, against a real front door."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from python_socks import ProxyError
from python_socks.sync import Proxy

from dconnect.core.failure import Failure
from kit.door import DB, WEB, DoorThread, Server, exactly, reset, rest, was_reset
from kit.failing import Failing


def _by_name(name: bytes, port: int) -> bytes:
    return b"\x05\x01\x00\x03" + bytes((len(name),)) + name + struct.pack("!H", port)


def _connected(door: DoorThread, server: Server) -> tuple[socket.socket, socket.socket]:
    client = door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(b"web", server.port))
    upstream = server.accept()
    assert exactly(client, 12)[:4] == b"\x05\x00\x05\x00"
    return client, upstream


@pytest.mark.parametrize("methods", [b"\x00", b"\x00\x01\x02", b"\x02\x00", bytes(range(255))])
def test_rfc1928_s3_no_authentication_is_selected_when_offered(door: DoorThread, methods: bytes) -> None:
    client = door.client()
    client.sendall(b"\x05" + bytes((len(methods),)) + methods)
    assert exactly(client, 2) == b"\x05\x00"


@pytest.mark.parametrize("methods", [b"\x02", b"\x01\x02", b"\xff"])
def test_rfc1928_s3_no_acceptable_method_is_ff_and_the_end(door: DoorThread, methods: bytes) -> None:
    client = door.client()
    client.sendall(b"\x05" + bytes((len(methods),)) + methods)
    assert rest(client) == b"\x05\xff"


def test_rfc1928_s3_a_greeting_without_methods_ends_the_connection(door: DoorThread) -> None:
    client = door.client()
    client.sendall(b"\x05\x00")
    assert rest(client) == b""


@pytest.mark.parametrize(
    ("host", "request_bytes"),
    [
        (WEB, b"\x01" + socket.inet_aton(WEB)),
        (DB, b"\x03\x02db"),
        (WEB, b"\x03\x0bWeb.Docker."),
        (WEB, b"\x03\x09127.0.0.1"),
        ("::1", b"\x04" + bytes(15) + b"\x01"),
        (WEB, b"\x04" + bytes(10) + b"\xff\xff" + socket.inet_aton(WEB)),
    ],
)
def test_rfc1928_s5_every_address_type_leads_to_the_destination(
    door: DoorThread, host: str, request_bytes: bytes
) -> None:
    server = door.server(host)
    client = door.client()
    client.sendall(b"\x05\x01\x00")
    exactly(client, 2)
    client.sendall(b"\x05\x01\x00" + request_bytes + struct.pack("!H", server.port))
    upstream = server.accept()
    upstream.sendall(b"hello")
    reply = exactly(client, 4)
    exactly(client, 6 if reply[3] == 1 else 18)
    assert exactly(client, 5) == b"hello"


def test_rfc1928_s4_messages_may_arrive_byte_by_byte(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"\x05\x02\x01\x00" + _by_name(b"web", server.port):
        client.send(bytes((byte,)))
    server.accept()
    assert exactly(client, 4) == b"\x05\x00\x05\x00"


def test_rfc1928_s4_greeting_request_and_data_may_arrive_at_once(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(b"web", server.port) + b"early data")
    assert exactly(server.accept(), 10) == b"early data"


@pytest.mark.parametrize("command", [0, 2, 4, 0xEF, 0xFF])
def test_rfc1928_s6_other_commands_are_answered_07(door: DoorThread, command: int) -> None:
    client = door.client()
    client.sendall(b"\x05\x01\x00\x05" + bytes((command,)) + b"\x00\x01\x7f\x00\x00\x01\x00\x50")
    assert rest(client) == b"\x05\x00\x05\x07\x00\x01" + bytes(6)


@pytest.mark.parametrize("kind", [0, 2, 5, 0xFF])
def test_rfc1928_s6_other_address_types_are_answered_08(door: DoorThread, kind: int) -> None:
    client = door.client()
    client.sendall(b"\x05\x01\x00\x05\x01\x00" + bytes((kind,)) + b"\x7f\x00\x00\x01\x00\x50")
    assert rest(client) == b"\x05\x00\x05\x08\x00\x01" + bytes(6)


@pytest.mark.parametrize("request_bytes", [b"\x04\x01\x00\x01\x00", _by_name(b"", 80), _by_name(b"a b", 80)])
def test_rfc1928_s6_a_broken_request_is_answered_01(door: DoorThread, request_bytes: bytes) -> None:
    client = door.client()
    client.sendall(b"\x05\x01\x00" + request_bytes)
    assert rest(client) == b"\x05\x00\x05\x01\x00\x01" + bytes(6)


def test_rfc1928_s6_success_tells_the_bound_address_of_the_true_connection(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(b"web", server.port))
    host, port = server.accept().getpeername()
    assert exactly(client, 12)[5:] == b"\x01" + socket.inet_aton(host) + struct.pack("!H", port)


def test_rfc1928_s6_a_failure_tells_no_bound_address(door: DoorThread) -> None:
    client = door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(b"nobody", 80))
    assert rest(client) == b"\x05\x00\x05\x04\x00\x01" + bytes(6)


def test_rfc1928_s6_success_over_ipv6_tells_an_ipv6_address(door: DoorThread) -> None:
    server, client = door.server("::1"), door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(b"six", server.port))
    port = server.accept().getpeername()[1]
    assert exactly(client, 24)[5:] == b"\x04" + bytes(15) + b"\x01" + struct.pack("!H", port)


def test_rfc1928_s6_a_refused_port_is_05(door: DoorThread) -> None:
    server = door.server()
    port = server.port
    server.listener.close()
    client = door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(b"web", port))
    assert rest(client) == b"\x05\x00\x05\x05\x00\x01" + bytes(6)
    client.close()


@pytest.mark.parametrize(
    ("name", "rep"), [(b"nobody", 4), (b"metadata", 2), (b"stranger", 2), (b"169.254.169.254", 2), (b"0.0.0.0", 2)]
)
def test_rfc1928_s6_failures_have_their_own_code(door: DoorThread, name: bytes, rep: int) -> None:
    client = door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(name, 80))
    assert rest(client)[2:4] == bytes((5, rep))


def test_rfc1928_s6_the_next_address_of_a_name_is_tried(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(b"\x05\x01\x00" + _by_name(b"both", server.port))
    server.accept()
    assert exactly(client, 12)[3] == 0


@pytest.mark.parametrize("failure", list(Failure))
def test_rfc1928_s6_every_failure_is_told_and_recorded(tmp_path: Path, failure: Failure) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure)) as door:
        client = door.client()
        client.sendall(b"\x05\x01\x00" + _by_name(b"web", 80))
        assert rest(client)[2:] == bytes((5, failure.value.socks5_rep, 0, 1)) + bytes(6)
    (session,) = door.recorder.sessions
    assert (session.outcome, session.detail, session.target) == (failure.name.lower(), "web fails.", "web:80")


def test_rfc1928_s6_python_socks_sees_the_true_reason(door: DoorThread) -> None:
    server = door.server()
    port = server.port
    server.listener.close()
    with pytest.raises(ProxyError) as refusal:
        Proxy.from_url(f"socks5://127.0.0.1:{door.address[1]}", rdns=True).connect("web", port, timeout=10)
    assert refusal.value.error_code == 5


def test_rfc1928_s6_python_socks_connects(door: DoorThread) -> None:
    server = door.server()
    url = f"socks5://127.0.0.1:{door.address[1]}"
    client = door.adopt(Proxy.from_url(url, rdns=True).connect("web", server.port, timeout=10))
    upstream = server.accept()
    client.sendall(b"ping")
    assert exactly(upstream, 4) == b"ping"


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_a_client_that_leaves_in_its_handshake_is_recorded_once(
    tmp_path: Path, leave: Callable[[socket.socket], None]
) -> None:
    with DoorThread(tmp_path) as door:
        client = door.client()
        client.sendall(b"\x05\x01\x00")
        exactly(client, 2)
        leave(client)
    assert [(session.front, session.outcome) for session in door.recorder.sessions] == [("socks5", "gone")]


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"\x00\x01\x02\x03", b"\xff\xfb\x01", b"\x80"])
def test_bytes_of_no_protocol_of_ours_end_the_connection_at_once(door: DoorThread, data: bytes) -> None:
    client = door.client()
    client.sendall(data)
    assert rest(client) == b""


def test_a_session_of_socks_is_recorded_once_and_whole(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        client, upstream = _connected(door, door.server())
        client.sendall(b"12345")
        client.shutdown(socket.SHUT_WR)
        assert rest(upstream) == b"12345"
        upstream.sendall(b"123")
        upstream.close()
        assert rest(client) == b"123"
        port = client.getsockname()[1]
    (session,) = door.recorder.sessions
    assert (session.peer, session.front, session.address) == (f"127.0.0.1:{port}", "socks5", WEB)
    assert (session.outcome, session.bytes_up, session.bytes_down, session.detail) == ("ok", 5, 3, "")


def test_a_cut_tunnel_is_recorded_as_reset(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        client, upstream = _connected(door, door.server())
        reset(upstream)
        assert was_reset(client)
    (session,) = door.recorder.sessions
    assert session.outcome == "reset"
