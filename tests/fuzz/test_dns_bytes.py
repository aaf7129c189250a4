"""Random bytes and mutated queries: the resolver always returns, and what it says is a message."""

from __future__ import annotations

import pytest
from dnslib import DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import DNS_QUERY_BYTES
from dconnect.dns.wire.message import parse_query
from dconnect.dns.wire.stream import frame, parse_frame
from kit.dns import respond, serving
from kit.inventories import container, endpoint

RESOLVER = serving(container("web", endpoint("n", "10.0.0.2", "fd00::2"), service="1.web.shop", domains="*.w.docker"))
SEEDS = [
    bytes.fromhex(text)  # dig 9.18
    for text in (
        "6a68012000010000000000000377656206646f636b65720000010001",
        "449e012000010000000000010377656206646f636b6572000001000100002904d000000000000c000a0008c3b1669b479434f9",
        "2e3c01200001000000000000013201300231380331373207696e2d61646472046172706100000c0001",
        "8a02012000010000000000010377656206646f636b657200000100010000291000000080000000",
    )
]
mutations = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=6)


def mutated(seed: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes) -> bytes:
    message = bytearray(seed)
    for offset, value in changes:
        message[offset % len(message)] = value
    return bytes(message[: len(message) - cut] + tail)


def check(message: bytes, *, stream: bool) -> None:
    answer = respond(RESOLVER, message, stream=stream)
    if len(message) < 12 or message[2] & 0x80:
        assert answer is None
        return
    assert answer is not None
    assert answer[:2] == message[:2]
    assert answer[2] & 0x80
    assert (answer[2] ^ message[2]) & 0x79 == 0  # opcode and RD
    assert len(answer) <= (65_535 if stream else 1232)
    assert respond(RESOLVER, message, stream=stream) == answer
    try:
        query = parse_query(message)
    except MalformedMessage:
        return
    if not (message[2] >> 3) & 15:
        assert answer[12:].startswith(message[12 : 12 + sum(1 + len(each) for each in query.labels) + 5])
    if all(label.isascii() for label in query.labels):  # dnslib reads no others
        DNSRecord.parse(answer)


@given(st.binary(max_size=600), st.booleans())
@settings(max_examples=500, deadline=None)
def test_random_bytes_never_raise(message: bytes, stream: bool) -> None:
    check(message, stream=stream)


@given(st.binary(max_size=100), st.booleans())
@settings(max_examples=500, deadline=None)
def test_random_questions_never_raise(body: bytes, stream: bool) -> None:
    check(SEEDS[0][:12] + body, stream=stream)


@given(st.sampled_from(SEEDS), mutations, st.integers(0, 20), st.binary(max_size=20), st.booleans())
@settings(max_examples=1500, deadline=None)
def test_mutated_queries_never_raise(
    seed: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes, stream: bool
) -> None:
    check(mutated(seed, changes, cut, tail), stream=stream)


@given(
    st.lists(st.text(alphabet="webshop.*-_0dcktr", min_size=1, max_size=20), max_size=8), st.sampled_from([1, 12, 255])
)
@settings(max_examples=500, deadline=None)
def test_names_made_of_our_own_letters_never_raise(labels: list[str], qtype: int) -> None:
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels)
    check(SEEDS[0][:12] + name + b"\0" + qtype.to_bytes(2, "big") + b"\0\1", stream=False)


@given(st.lists(st.binary(max_size=80), max_size=12), st.lists(st.integers(1, 40), min_size=1, max_size=10))
@settings(max_examples=300, deadline=None)
def test_a_stream_gives_the_same_messages_however_it_is_split(messages: list[bytes], sizes: list[int]) -> None:
    stream, buffer, seen, turn = b"".join(map(frame, messages)), bytearray(), [], 0
    while stream:
        size = sizes[turn % len(sizes)]
        turn += 1
        buffer += stream[:size]
        stream = stream[size:]
        while (taken := parse_frame(buffer)) is not None:
            seen.append(taken[0])
            del buffer[: taken[1]]
    assert seen == messages
    assert not buffer


@given(st.binary(max_size=20))
@settings(max_examples=300, deadline=None)
def test_a_random_stream_is_read_or_refused_and_never_asks_beyond_the_bound(data: bytes) -> None:
    length = int.from_bytes(data[:2], "big")
    if len(data) >= 2 and length > DNS_QUERY_BYTES:
        with pytest.raises(MalformedMessage):
            parse_frame(data)
    else:
        taken = parse_frame(data)
        assert (taken is None) == (len(data) < 2 or len(data) < 2 + length)
