"""Random and mutated answers of other servers: read, passed over, or MalformedMessage; never anything else."""

from __future__ import annotations

import contextlib

from dnslib import RR, DNSRecord
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dconnect.core.errors import MalformedMessage
from dconnect.dns.wire.message import parse_query
from dconnect.dns.wire.response import encode_for, encode_question, parse_response
from kit.dns import query

QUERY = parse_query(query("www.example"))
ASKED = encode_question(QUERY, 0x1234)


def whole() -> bytes:
    answer = DNSRecord.parse(ASKED).reply()
    answer.add_answer(*RR.fromZone("www.example. 60 CNAME w.example.\nw.example. 30 A 192.0.2.1"))
    answer.add_auth(*RR.fromZone("example. 60 SOA ns.example. host.example. 1 2 3 4 5"))
    return bytes(answer.pack())


ANSWER = whole()


def check(message: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        response = parse_response(message, ASKED)
        if response is not None:
            assert 0 <= response.ttl < 1 << 31
            told = encode_for(QUERY, response, age=10)
            assert len(told) == len(message)
            assert told[:2] == b"\x12\x34"
            again = parse_response(told, ASKED)
            assert again is not None
            assert again.ttl == max(0, response.ttl - 10)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_random_records_after_the_right_question(tail: bytes) -> None:
    check(ANSWER[: len(ASKED)] + tail)


@given(
    st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(ANSWER))
)
@example([], len(ANSWER))
@settings(deadline=None)
def test_mutated_and_truncated_answers(changes: list[tuple[int, int]], length: int) -> None:
    message = bytearray(ANSWER)
    for offset, value in changes:
        message[offset] = value
    check(bytes(message[:length]))


def test_the_whole_answer_is_read() -> None:
    response = parse_response(ANSWER, ASKED)
    assert response is not None
    assert (response.ttl, response.records, len(response.ttls)) == (
        5,
        2,
        3,
    )  # an SOA beside an answer is unusual, and to be on the safe side counts
