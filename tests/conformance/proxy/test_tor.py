"""Tor's extensions to SOCKS (socks-extensions.txt §2): RESOLVE and RESOLVE_PTR, against a real front door."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from dconnect.core.failure import Failure
from dconnect.proxy.fake import FakeResolve
from kit.door import NAMES, DoorThread, rest
from kit.failing import Failing

REP = b"\x05\x00\x05"
"""The method selected, and the version of the reply."""


def ask(door: DoorThread, command: int, address: bytes) -> bytes:
    """All that the door says to one request."""
    client = door.client()
    client.sendall(b"\x05\x01\x00\x05" + bytes((command,)) + b"\x00" + address + b"\x00\x00")
    return rest(client)


def named(name: bytes) -> bytes:
    return b"\x03" + bytes((len(name),)) + name


def test_s2_resolve_answers_with_one_address(door: DoorThread) -> None:
    assert ask(door, 0xF0, named(b"Web.Docker.")) == REP + b"\x00\x00\x01\x7f\x00\x00\x01\x00\x00"


def test_s2_resolve_answers_with_an_ipv6_address_as_type_4(door: DoorThread) -> None:
    assert ask(door, 0xF0, named(b"six")) == REP + b"\x00\x00\x04" + bytes(15) + b"\x01\x00\x00"


def test_s2_resolve_of_an_address_is_that_address(door: DoorThread) -> None:
    assert ask(door, 0xF0, b"\x01\x7f\x00\x00\x02") == REP + b"\x00\x00\x01\x7f\x00\x00\x02\x00\x00"


def test_s2_resolve_connects_nothing(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        assert ask(door, 0xF0, named(b"web"))[3] == 0
    (session,) = door.recorder.sessions
    assert (session.outcome, session.target, session.address) == ("ok", "web", "127.0.0.1")
    assert (session.connect, session.bytes_up) == (0.0, 0)


@pytest.mark.parametrize("failure", list(Failure))
def test_s2_an_error_is_told_as_for_connect(tmp_path: Path, failure: Failure) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure)) as door:
        reply = ask(door, 0xF0, named(b"web"))
    assert reply == REP + bytes((failure.value.socks5_rep, 0, 1)) + bytes(6)
    assert [(each.outcome, each.detail) for each in door.recorder.sessions] == [(failure.name.lower(), "web fails.")]


def test_an_unknown_name_is_04(door: DoorThread) -> None:
    assert ask(door, 0xF0, named(b"nobody"))[3] == 4


@pytest.mark.parametrize("name", [b"metadata", b"stranger", b"169.254.169.254"])
def test_what_must_not_be_dialed_is_not_told_either(door: DoorThread, name: bytes) -> None:
    assert ask(door, 0xF0, named(name)) == REP + b"\x02\x00\x01" + bytes(6)


def test_of_several_addresses_the_first_that_may_be_dialed_is_told(tmp_path: Path) -> None:
    names = {"mixed": [ip_address("169.254.169.254"), ip_address("127.0.0.2")]}
    with DoorThread(tmp_path, resolve=FakeResolve(names)) as door:
        assert ask(door, 0xF0, named(b"mixed"))[3:] == b"\x00\x00\x01\x7f\x00\x00\x02\x00\x00"


def test_the_agent_itself_has_no_address_to_tell(door: DoorThread) -> None:
    assert ask(door, 0xF0, named(b"dconnect"))[3] == 4


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (b"\x01\x7f\x00\x00\x02", b"db.docker"),
        (b"\x04" + bytes(15) + b"\x01", b"six.docker"),
        (b"\x04" + bytes(10) + b"\xff\xff\x7f\x00\x00\x02", b"db.docker"),
        (named(b"127.0.0.2"), b"db.docker"),
    ],
)
def test_s2_resolve_ptr_answers_with_a_name_as_type_3(door: DoorThread, address: bytes, name: bytes) -> None:
    assert ask(door, 0xF1, address) == REP + b"\x00\x00\x03" + bytes((len(name),)) + name + b"\x00\x00"


def test_an_address_without_a_name_is_04(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        assert ask(door, 0xF1, b"\x01\xc0\x00\x02\x07")[3] == 4
    (session,) = door.recorder.sessions
    assert (session.outcome, session.target) == ("name_unknown", "192.0.2.7")


def test_the_name_of_what_must_not_be_dialed_is_not_told(door: DoorThread) -> None:
    assert ip_address("127.0.0.9") in NAMES["stranger"]
    assert ask(door, 0xF1, b"\x01\x7f\x00\x00\x09")[3] == 2


def test_resolve_ptr_of_a_name_is_08(door: DoorThread) -> None:
    assert ask(door, 0xF1, named(b"web")) == REP + b"\x08\x00\x01" + bytes(6)


def test_s2_socks4a_resolves_too(door: DoorThread) -> None:
    client = door.client()
    client.sendall(b"\x04\xf0\x00\x00\x00\x00\x00\x01\x00web\x00")  # tor-resolve 0.4.9 -4
    assert rest(client) == b"\x00\x5a\x00\x00" + socket.inet_aton("127.0.0.1")


@pytest.mark.parametrize("name", [b"six", b"nobody", b"metadata"])
def test_s2_socks4a_has_no_place_for_ipv6_and_one_code_for_all_failures(door: DoorThread, name: bytes) -> None:
    client = door.client()
    client.sendall(b"\x04\xf0\x00\x00\x00\x00\x00\x01\x00" + name + b"\x00")
    assert rest(client) == b"\x00\x5b" + bytes(6)


def test_where_a_password_is_wanted_it_is_wanted_here_too(tmp_path: Path) -> None:
    with DoorThread(tmp_path, accepts=lambda *_: False) as door:
        assert ask(door, 0xF0, named(b"web")) == b"\x05\xff"
