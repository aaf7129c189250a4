"""Username/Password Authentication for SOCKS V5, clause by clause, against a real front door."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from python_socks import ProxyError
from python_socks.sync import Proxy

from dconnect.core.credentials import Credentials, Verifier, proof
from kit.door import DoorThread, exactly, rest

USER, PASSWORD = "dconnect", "correct horse"
ACCEPTS = Verifier(proof(Credentials(USER, PASSWORD), bytes(16))).accepts
SIGNED = b"\x01\x08dconnect\x0dcorrect horse"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[DoorThread]:
    """A front door that wants a password."""
    with DoorThread(tmp_path, accepts=ACCEPTS) as door:
        yield door


def _web(port: int) -> bytes:
    return b"\x05\x01\x00\x03\x03web" + struct.pack("!H", port)


@pytest.mark.parametrize("methods", [b"\x02", b"\x00\x02", b"\x02\x00", b"\x00\x01\x02", bytes(range(255))])
def test_rfc1928_s3_the_password_is_selected_wherever_it_is_offered(locked: DoorThread, methods: bytes) -> None:
    client = locked.client()
    client.sendall(b"\x05" + bytes((len(methods),)) + methods)
    assert exactly(client, 2) == b"\x05\x02"


@pytest.mark.parametrize("methods", [b"\x00", b"\x00\x01", b"\x01", b"\xff"])
def test_rfc1928_s3_without_it_no_method_is_acceptable(tmp_path: Path, methods: bytes) -> None:
    with DoorThread(tmp_path, accepts=ACCEPTS) as door:
        client = door.client()
        client.sendall(b"\x05" + bytes((len(methods),)) + methods + _web(door.server().port))
        assert rest(client) == b"\x05\xff"
    (session,) = door.recorder.sessions
    assert session.outcome == "no method"


def test_rfc1929_s2_the_right_password_is_answered_00_and_leads_on(locked: DoorThread) -> None:
    server, client = locked.server(), locked.client()
    client.sendall(b"\x05\x01\x02")
    assert exactly(client, 2) == b"\x05\x02"
    client.sendall(SIGNED)
    assert exactly(client, 2) == b"\x01\x00"
    client.sendall(_web(server.port))
    server.accept()
    assert exactly(client, 10)[:2] == b"\x05\x00"


@pytest.mark.parametrize(
    "signed",
    [
        b"\x01\x08dconnect\x0dcorrect hors\x00",
        b"\x01\x08dconnect\x0ccorrect hors",
        b"\x01\x08dconnect\x0ecorrect horses",
        b"\x01\x08dconnecT\x0dcorrect horse",
        b"\x01\x08dconnect\x00",
        b"\x01\x00\x0dcorrect horse",
        b"\x01\x00\x00",
    ],
)
def test_rfc1929_s2_a_wrong_one_is_answered_otherwise_and_the_connection_ends(tmp_path: Path, signed: bytes) -> None:
    with DoorThread(tmp_path, accepts=ACCEPTS) as door:
        client = door.client()
        client.sendall(b"\x05\x01\x02" + signed + _web(door.server().port))
        assert rest(client) == b"\x05\x02\x01\x01"
    (session,) = door.recorder.sessions
    assert (session.outcome, session.target) == ("unauthorized", "")
    assert "correct" not in str(session.told())


def test_rfc1929_s2_another_version_ends_the_connection(locked: DoorThread) -> None:
    client = locked.client()
    client.sendall(b"\x05\x01\x02\x05\x08dconnect\x0dcorrect horse")
    assert rest(client) == b"\x05\x02"


def test_rfc1929_s2_all_may_arrive_byte_by_byte(locked: DoorThread) -> None:
    server, client = locked.server(), locked.client()
    for byte in b"\x05\x02\x00\x02" + SIGNED + _web(server.port):
        client.send(bytes((byte,)))
    server.accept()
    assert exactly(client, 14)[:6] == b"\x05\x02\x01\x00\x05\x00"


def test_greeting_password_request_and_data_in_one_segment_cost_no_further_round_trip(locked: DoorThread) -> None:
    server, client = locked.server(), locked.client()
    client.sendall(b"\x05\x01\x02" + SIGNED + _web(server.port) + b"early data")
    upstream = server.accept()
    assert exactly(upstream, 10) == b"early data", "and the client has read nothing yet"
    assert exactly(client, 14)[:6] == b"\x05\x02\x01\x00\x05\x00"


def test_python_socks_signs_in(locked: DoorThread) -> None:
    server = locked.server()
    url = f"socks5://{USER}:correct%20horse@127.0.0.1:{locked.address[1]}"
    client = locked.adopt(Proxy.from_url(url, rdns=True).connect("web", server.port, timeout=10))
    server.accept().sendall(b"pong")
    assert exactly(client, 4) == b"pong"


def test_python_socks_sees_the_refusal(locked: DoorThread) -> None:
    with pytest.raises(ProxyError):
        Proxy.from_url(f"socks5://{USER}:wrong@127.0.0.1:{locked.address[1]}").connect("web", 80, timeout=10)
