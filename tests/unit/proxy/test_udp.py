"""The header of datagrams, as bytes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dconnect.core.address import Target
from dconnect.core.errors import MalformedMessage
from dconnect.proxy.wire.udp import MAX_HEADER_BYTES, Fragmented, header, parse_destination, parse_header


@pytest.mark.parametrize(
    ("head", "target"),
    [
        # PySocks 1.7.1: sendto to ("dns.docker", 53), ("172.18.0.3", 53) and ("fd00::3", 5353)
        (b"\x00\x00\x00\x03\x0adns.docker\x00\x35", Target("dns.docker", 53)),
        (b"\x00\x00\x00\x01\xac\x12\x00\x03\x00\x35", Target("172.18.0.3", 53)),
        (b"\x00\x00\x00\x04\xfd" + bytes(14) + b"\x03\x14\xe9", Target("fd00::3", 5353)),
        # RFC 1928 §5: one length octet, so up to 255 of them
        (b"\x00\x00\x00\x03\xff" + b"a" * 255 + b"\xff\xff", Target("a" * 255, 65535)),
    ],
)
@pytest.mark.parametrize("payload", [b"", b"\x00", b"payload" * 1000])
def test_header_of_rfc1928_s7(head: bytes, target: Target, payload: bytes) -> None:
    destination, offset = parse_header(memoryview(head + payload))
    assert (destination, offset) == (head[3:], len(head))
    assert parse_destination(destination) == target
    for end in range(len(head)):
        with pytest.raises(MalformedMessage):
            parse_header(head[:end])


def test_the_reserved_octets_are_ignored() -> None:
    assert parse_header(b"\x12\x34\x00\x01\x7f\x00\x00\x01\x00\x35?") == (b"\x01\x7f\x00\x00\x01\x00\x35", 10)


@pytest.mark.parametrize("fragment", [1, 0x7F, 0x80, 0xFF])
def test_a_fragment_is_told_from_what_is_malformed(fragment: int) -> None:
    with pytest.raises(Fragmented):
        parse_header(bytes((0, 0, fragment, 1)) + bytes(7))


@pytest.mark.parametrize("kind", [0, 2, 5, 0xFF])
def test_an_unknown_address_type_is_malformed(kind: int) -> None:
    with pytest.raises(MalformedMessage, match="address type"):
        parse_header(bytes((0, 0, 0, kind)) + bytes(30))


@pytest.mark.parametrize(
    "destination",
    [
        b"\x01\x7f\x00\x00\x01\x00\x00",  # port 0
        b"\x03\x00\x00\x35",
        b"\x03\x01.\x00\x35",
        b"\x03\x03a b\x00\x35",
        b"\x03\x03a\x00b\x00\x35",
        b"\x03\x04\xc3\xa4.b\x00\x35",
    ],
)
def test_an_unusable_destination_is_malformed(destination: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_destination(destination)


def test_header_in_front_of_what_comes_back() -> None:
    assert header(ip_address("172.18.0.3"), 53) == b"\x00\x00\x00\x01\xac\x12\x00\x03\x00\x35"
    longest = header(ip_address("fd00::3"), 0x14E9)
    assert longest == b"\x00\x00\x00\x04\xfd" + bytes(14) + b"\x03\x14\xe9"
    assert len(longest) == MAX_HEADER_BYTES
