"""Random bytes on a trunk: frames or malformed; what is written is found, however it is cut."""

from __future__ import annotations

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import TRUNK_DATA_BYTES
from dconnect.proxy.wire import trunk

streams = st.integers(0, 2**32 - 1)
ports = st.integers(0, 65_535)
addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
bounds = {1: (6, 18), 2: (1, 1), 3: (1, 16_384), 4: (0, 0), 5: (0, 0), 6: (0, 0)}
"""As docs/link.md has them, not as the code does."""

some_frames = st.lists(
    st.one_of(
        st.tuples(st.just(trunk.OPEN), streams, st.builds(trunk.open_payload, addresses, ports)),
        st.tuples(st.just(trunk.ANSWER), streams, st.binary(min_size=1, max_size=1)),
        st.tuples(st.just(trunk.DATA), streams, st.binary(min_size=1, max_size=200)),
        st.tuples(st.sampled_from([trunk.END, trunk.RESET, trunk.LEAVE]), streams, st.just(b"")),
    ),
    max_size=8,
)


def _wild(kind: int, length: int, stream: int, payload: bytes) -> bytes:
    """A header that may well be right, and what is not always its payload."""
    return (kind << 24 | length).to_bytes(4) + stream.to_bytes(4) + payload


wild = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.builds(_wild, st.integers(0, 8), st.sampled_from([0, 1, 6, 18, 19, 16_384, 16_385]), streams, st.binary()),
        max_size=5,
    ).map(b"".join),
    st.tuples(some_frames, st.binary(max_size=40)).map(
        lambda told: b"".join(trunk.frame(*each) for each in told[0]) + told[1]
    ),
)


@given(some_frames, st.lists(st.integers(1, 60), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_frames_are_found_however_they_are_cut(sent: list[tuple[int, int, bytes]], sizes: list[int]) -> None:
    said = b"".join(trunk.frame(*each) for each in sent)
    buffer, found, at = b"", [], 0
    for turn in count():
        step = sizes[turn % len(sizes)]
        buffer += said[at : at + step]
        at += step
        whole, consumed = trunk.walk(buffer)
        found += [(kind, stream, buffer[start:end]) for kind, stream, start, end in whole]
        buffer = buffer[consumed:]
        if at >= len(said):
            break
    assert found == sent
    assert not buffer


@given(wild)
@settings(max_examples=1500, deadline=None)
def test_frames_are_found_or_malformed(received: bytes) -> None:
    try:
        found, consumed = trunk.walk(received)
    except MalformedMessage:
        return
    assert consumed <= len(received)
    again = b"".join(trunk.frame(kind, stream, received[start:end]) for kind, stream, start, end in found)
    assert again == received[:consumed]
    for kind, _, start, end in found:
        least, most = bounds[kind]
        assert least <= end - start <= most
    assert len(received) - consumed < trunk.HEADER_BYTES + TRUNK_DATA_BYTES


@given(wild)
@settings(max_examples=1500, deadline=None)
def test_what_is_malformed_is_so_from_one_header_on_and_for_ever(received: bytes) -> None:
    """The walk's twin: one frame after the other, without a thought for speed."""
    at, refused = 0, False
    while len(received) - at >= 8:
        kind, length = received[at], int.from_bytes(received[at + 1 : at + 4])
        least, most = bounds.get(kind, (1, 0))
        if not least <= length <= most:
            refused = True
            break
        if at + 8 + length > len(received):
            break
        at += 8 + length
    try:
        found, consumed = trunk.walk(received)
    except MalformedMessage:
        assert refused
        assert trunk.walk(received[: at + 7])[1] == at
        return
    assert not refused
    assert consumed == at
    assert trunk.walk(memoryview(received)) == (found, consumed)


@given(addresses, ports)
@settings(max_examples=300, deadline=None)
def test_a_wish_is_read_back(address: bytes, port: int) -> None:
    assert trunk.parse_open(trunk.open_payload(address, port)) == (address, port)


@given(st.binary(max_size=40))
@settings(max_examples=500, deadline=None)
def test_a_wish_is_read_or_malformed(payload: bytes) -> None:
    try:
        address, port = trunk.parse_open(payload)
    except MalformedMessage:
        assert len(payload) not in (6, 18)
        return
    assert len(address) in (4, 16)
    assert port.to_bytes(2) + address == payload
