from __future__ import annotations

from ipaddress import ip_address

import pytest

from dconnect.core.address import Target
from dconnect.core.errors import MalformedMessage
from dconnect.proxy.wire.socks5 import (
    CONNECT,
    MOVE,
    RESOLVE,
    RESOLVE_PTR,
    TRUNK,
    TRUNK_KEY_BYTES,
    TUNNEL_REPLY_BYTES,
    Request,
    greeting_reply,
    name_reply,
    parse_greeting,
    parse_password,
    parse_request,
    parse_tunnel_reply,
    password_reply,
    reply,
    tunnel_request,
)
from kit.feeding import feed


@pytest.mark.parametrize(
    ("data", "methods"),
    [
        (b"\x05\x01\x00", b"\x00"),  # python-socks 3.2
        (b"\x05\x02\x00\x01", b"\x00\x01"),  # curl 7.88: none, GSSAPI
        (b"\x05\xff" + bytes(range(255)), bytes(range(255))),  # RFC 1928 §3: up to 255 methods
    ],
)
def test_greeting(data: bytes, methods: bytes) -> None:
    assert feed(parse_greeting, data) == methods


@pytest.mark.parametrize("data", [b"\x04\x01", b"\x00\x00", b"GET ", b"\x05\x00"])
def test_greeting_of_another_version_or_without_methods_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_greeting(data)


def test_greeting_replies_of_rfc1928_s3() -> None:
    assert (greeting_reply(0), greeting_reply(0xFF)) == (b"\x05\x00", b"\x05\xff")


@pytest.mark.parametrize(
    ("data", "target"),
    [
        # curl 7.88 --socks5-hostname http://web.docker:8080/, --socks5 http://172.18.0.3/ and http://[fd00::3]/
        (b"\x05\x01\x00\x03\x0aweb.docker\x1f\x90", Target("web.docker", 8080)),
        (b"\x05\x01\x00\x01\xac\x12\x00\x03\x00\x50", Target("172.18.0.3", 80)),
        (b"\x05\x01\x00\x04\xfd" + bytes(14) + b"\x03\x00\x50", Target("fd00::3", 80)),
        # RFC 1928 §5: one length octet, so up to 255 of them
        (b"\x05\x01\x00\x03\xff" + b"a" * 255 + b"\x00\x50", Target("a" * 255, 80)),
        (b"\x05\x01\x00\x03\x04WEB.\xff\xff", Target("web", 65535)),
    ],
)
def test_connect_request(data: bytes, target: Target) -> None:
    assert feed(parse_request, data) == Request(CONNECT, target)


def test_reserved_octet_is_ignored_and_other_commands_are_read() -> None:
    assert feed(parse_request, b"\x05\x03\x99\x01\x00\x00\x00\x00\x00\x00") == Request(3, Target("0.0.0.0", 0))


def test_unknown_address_type_takes_all_since_its_length_is_unknown() -> None:
    assert parse_request(b"\x05\x01\x00\x02abcdef") == (Request(CONNECT, None), 10)


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\x01\x00\x01\xac\x12\x00\x03\x00\x50",
        b"\x05\x01\x00\x03\x00\x00\x50",
        b"\x05\x01\x00\x03\x01.\x00\x50",
        b"\x05\x01\x00\x03\x03a b\x00\x50",
        b"\x05\x01\x00\x03\x03a\x00b\x00\x50",
        b"\x05\x01\x00\x03\x03a\nb\x00\x50",
        b"\x05\x01\x00\x03\x04\xc3\xa4.b\x00\x50",
    ],
)
def test_request_of_another_version_or_with_an_unusable_domain_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_request(data)


def test_replies_of_rfc1928_s6() -> None:
    assert reply(5) == b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"
    assert reply(0, (ip_address("172.18.0.1"), 0x1234)) == b"\x05\x00\x00\x01\xac\x12\x00\x01\x12\x34"
    assert reply(0, (ip_address("fd00::1"), 80)) == b"\x05\x00\x00\x04\xfd" + bytes(14) + b"\x01\x00\x50"


@pytest.mark.parametrize(
    ("data", "pair"),
    [
        (b"\x01\x04user\x04pass", (b"user", b"pass")),  # curl 7.88 --socks5 user:pass@…
        (b"\x01\x00\x00", (b"", b"")),  # curl 7.88 --socks5 :@…
        (b"\x01\xff" + b"u" * 255 + b"\xff" + b"\x00" * 255, (b"u" * 255, b"\x00" * 255)),  # RFC 1929 §2: 1 to 255
    ],
)
def test_password(data: bytes, pair: tuple[bytes, bytes]) -> None:
    assert feed(parse_password, data) == pair


@pytest.mark.parametrize("data", [b"\x05\x04user\x04pass", b"\x00", b"\x02\x01"])
def test_password_of_another_version_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_password(data)


def test_password_replies_of_rfc1929_s2() -> None:
    assert password_reply(right=True) == b"\x01\x00"
    assert password_reply(right=False)[0] == 1
    assert password_reply(right=False)[1] != 0


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        # tor-resolve 0.4.9 web.docker, tor-resolve -x 172.18.0.3
        (b"\x05\xf0\x00\x03\x0aweb.docker\x00\x00", Request(RESOLVE, Target("web.docker", 0))),
        (b"\x05\xf1\x00\x01\xac\x12\x00\x03\x00\x00", Request(RESOLVE_PTR, Target("172.18.0.3", 0))),
    ],
)
def test_requests_of_tor(data: bytes, request_: Request) -> None:
    assert feed(parse_request, data) == request_


def test_a_name_is_told_as_address_type_3() -> None:
    assert name_reply("web.docker") == b"\x05\x00\x00\x03\x0aweb.docker\x00\x00"


GREETING, SIGNED = b"\x05\x01\x80", b"\x01\x08dconnect\x06s3cr3t"  # RFC 1928 §3, RFC 1929 §2
# RFC 1928 §4: a key of 12 octets and the number of a stream, or none; and no port
TRUNK_REQUEST = b"\x05\x80\x00\x04\x80\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\xff\x00\x00\x00\x00\x00\x00"
MOVE_REQUEST = b"\x05\x81\x00\x04\x80\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\xff\x00\x01\x02\x03\x00\x00"


@pytest.mark.parametrize(
    ("command", "number", "request_", "address"),
    [
        (TRUNK, b"\x00\x00\x00\x00", TRUNK_REQUEST, "8001:203:405:607:809:aff::"),
        (MOVE, b"\x00\x01\x02\x03", MOVE_REQUEST, "8001:203:405:607:809:aff:1:203"),
    ],
    ids=["trunk", "move"],
)
def test_a_client_of_the_tunnels_method_says_all_at_once(
    command: int, number: bytes, request_: bytes, address: str
) -> None:
    key = b"\x80\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\xff"
    assert len(key) == TRUNK_KEY_BYTES
    said = tunnel_request(b"dconnect", b"s3cr3t", command, key + number)
    assert said == GREETING + SIGNED + request_
    assert feed(parse_greeting, said[:3]) == b"\x80"
    assert feed(parse_password, said[3:20]) == (b"dconnect", b"s3cr3t")
    assert feed(parse_request, said[20:]) == Request(command, Target(address, 0))


def test_a_token_may_have_as_many_octets_as_rfc1929_s2_has_room_for() -> None:
    said = tunnel_request(b"u", b"t" * 255, 0x81, bytes(range(16)))
    assert said == GREETING + b"\x01\x01u\xff" + b"t" * 255 + b"\x05\x81\x00\x04" + bytes(range(16)) + b"\x00\x00"


def test_a_user_of_no_name_and_an_empty_token_keep_their_lengths() -> None:
    said = tunnel_request(b"", b"", 0x80, bytes(16))
    assert said == GREETING + b"\x01\x00\x00" + b"\x05\x80\x00\x04" + bytes(16) + b"\x00\x00"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x05\x80\x05\x00\x00\x01\xac\x12\x00\x01\x12\x34", 0),
        (b"\x05\x80\x05\x00\x00\x04\xfd" + bytes(14) + b"\x01\x00\x50", 0),
        (b"\x05\x80\x05\x05\x00\x01" + bytes(6), 5),
        (b"\x05\x80\x05\x09\x77\x01" + bytes(6), 9),  # RSV is not looked at; 9 is unassigned (§6)
        (b"\x05\xff", 0xFF),
    ],
)
def test_the_reply_of_the_tunnels_method(data: bytes, code: int) -> None:
    assert feed(parse_tunnel_reply, data) == code


def test_whoever_reads_the_least_first_has_nothing_of_what_comes_behind() -> None:
    shortest = b"\x05\x80\x05\x00\x00\x01" + bytes(6)
    assert len(shortest) == TUNNEL_REPLY_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\x80",  # another version
        b"\x05\x00",  # a method that was not offered
        b"\x05\x02",
        b"HTTP/1.1 400 Bad Request",
        b"\x05\x80\x04\x00\x00\x01" + bytes(6),
        b"\x05\x80\x05\x00\x00\x03\x01a\x00\x50",  # a name as BND.ADDR, which we never say
        b"\x05\x80\x05\x00\x00\x00" + bytes(6),
    ],
)
def test_another_reply_to_the_tunnels_method_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_tunnel_reply(data)
