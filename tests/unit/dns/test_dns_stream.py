from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import DNS_QUERY_BYTES
from dconnect.dns.wire.stream import frame, parse_frame

# dig 9.18, `dig +tcp +noedns +noadflag web.docker`, as it stood on the wire (RFC 1035 §4.2.2).
DIG = bytes.fromhex("001c6a68010000010000000000000377656206646f636b65720000010001")


def test_a_whole_message_is_taken() -> None:
    assert parse_frame(DIG) == (DIG[2:], len(DIG))


def test_what_follows_stays() -> None:
    assert parse_frame(DIG + DIG[:7]) == (DIG[2:], len(DIG))


@pytest.mark.parametrize("size", range(len(DIG)))
def test_a_part_asks_for_more(size: int) -> None:
    assert parse_frame(DIG[:size]) is None


def test_a_message_of_no_bytes_is_one() -> None:
    assert parse_frame(b"\0\0") == (b"", 2)


def test_the_longest_query_is_read_and_a_longer_one_refused_at_its_length() -> None:
    message = bytes(DNS_QUERY_BYTES)
    assert parse_frame(DNS_QUERY_BYTES.to_bytes(2, "big") + message) == (message, DNS_QUERY_BYTES + 2)
    with pytest.raises(MalformedMessage, match="4097 bytes"):
        parse_frame((DNS_QUERY_BYTES + 1).to_bytes(2, "big"))


def test_a_frame_is_the_length_and_the_message() -> None:
    assert frame(DIG[2:]) == DIG
    assert frame(bytes(65_535))[:2] == b"\xff\xff"
