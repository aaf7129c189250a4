from __future__ import annotations

import string

import pytest

from dconnect.proxy.wire.sniff import Protocol, sniff


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (b"\x05", Protocol.SOCKS5),
        (b"\x04", Protocol.SOCKS4),
        (b"G", Protocol.HTTP),
        (b"\r", Protocol.HTTP),
        (b"\n", Protocol.HTTP),
        (b"\x16", Protocol.UNKNOWN),  # a TLS ClientHello
        (b"\x00", Protocol.UNKNOWN),
        (b" ", Protocol.UNKNOWN),
        (b"\xff", Protocol.UNKNOWN),
    ],
)
def test_the_first_byte_tells(first: bytes, protocol: Protocol) -> None:
    assert sniff(first[0]) is protocol


def test_every_token_character_of_rfc9110_s5_6_2_may_start_a_method() -> None:
    tchar = set((string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode())
    assert {first for first in range(256) if sniff(first) is Protocol.HTTP} == tchar | set(b"\r\n")
