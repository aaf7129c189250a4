from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import TRUNK_DATA_BYTES
from dconnect.proxy.wire.trunk import (
    ANSWER,
    DATA,
    END,
    HEADER_BYTES,
    LEAVE,
    OPEN,
    RESET,
    frame,
    open_payload,
    parse_open,
    walk,
)

Frame = tuple[int, int, bytes]

V4 = b"\x1f\x90\xac\x12\x00\x03"  # port 8080, 172.18.0.3
V6 = b"\x00\x50\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03"  # port 80, fd00::3

# u8 type, u24 length, u32 stream, payload, by hand
GOLD: list[tuple[bytes, Frame]] = [
    (b"\x01\x00\x00\x06\x00\x00\x00\x01" + V4, (OPEN, 1, V4)),
    (b"\x01\x00\x00\x12\xff\xff\xff\xff" + V6, (OPEN, 0xFFFF_FFFF, V6)),
    (b"\x02\x00\x00\x01\x00\x00\x00\x01\x00", (ANSWER, 1, b"\x00")),
    (b"\x02\x00\x00\x01\x80\x00\x00\x00\x05", (ANSWER, 0x8000_0000, b"\x05")),
    (b"\x03\x00\x00\x01\x00\x01\x02\x03!", (DATA, 0x0001_0203, b"!")),
    (b"\x03\x00\x01\x02\x00\x00\x00\x01" + b"ab" * 129, (DATA, 1, b"ab" * 129)),
    (b"\x04\x00\x00\x00\x00\x00\x00\x01", (END, 1, b"")),
    (b"\x05\x00\x00\x00\x00\x00\x00\x00", (RESET, 0, b"")),
    (b"\x06\x00\x00\x00\x01\x02\x03\x04", (LEAVE, 0x0102_0304, b"")),
]
STREAM = b"".join(raw for raw, _ in GOLD)
FOUND = [found for _, found in GOLD]
NAMES = ["open4", "open6", "answer", "answer-no", "data", "data-258", "end", "reset", "leave"]


def _taken(received: bytes | memoryview) -> tuple[list[Frame], int]:
    found, consumed = walk(received)
    return [(kind, stream, bytes(received[start:end])) for kind, stream, start, end in found], consumed


@pytest.mark.parametrize(("raw", "found"), GOLD, ids=NAMES)
def test_each_type_is_read_as_it_stands_on_the_wire(raw: bytes, found: Frame) -> None:
    assert _taken(raw) == ([found], len(raw))


@pytest.mark.parametrize(("raw", "found"), GOLD, ids=NAMES)
def test_each_type_is_written_as_it_stands_on_the_wire(raw: bytes, found: Frame) -> None:
    assert frame(*found) == raw


def test_a_frame_without_payload_is_its_header() -> None:
    assert frame(END, 7) == b"\x04\x00\x00\x00\x00\x00\x00\x07"
    assert HEADER_BYTES == 8


def test_several_frames_are_found_where_they_lie() -> None:
    found, consumed = walk(b"\x04\x00\x00\x00\x00\x00\x00\x07" + b"\x03\x00\x00\x02\x00\x00\x00\x09hi")
    assert found == [(4, 7, 8, 8), (3, 9, 16, 18)]
    assert consumed == 18
    assert _taken(STREAM) == (FOUND, len(STREAM))


def test_frames_are_found_in_a_view_as_well() -> None:
    assert _taken(memoryview(STREAM)) == (FOUND, len(STREAM))


def test_nothing_is_no_frame() -> None:
    assert walk(b"") == ([], 0)


def test_frames_that_come_byte_by_byte_are_found_when_their_last_byte_is_there() -> None:
    buffer, found = bytearray(), []
    for byte in STREAM:
        buffer.append(byte)
        new, consumed = _taken(bytes(buffer))
        assert len(new) <= 1
        assert consumed == (len(buffer) if new else 0)
        del buffer[:consumed]
        found += new
    assert found == FOUND
    assert not buffer


@pytest.mark.parametrize(("raw", "found"), GOLD, ids=NAMES)
def test_a_frame_that_is_cut_anywhere_is_not_there_yet(raw: bytes, found: Frame) -> None:
    for cut in range(len(raw)):
        assert walk(raw[:cut]) == ([], 0), f"a frame was seen in its first {cut} bytes"


def test_what_is_cut_anywhere_gives_the_frames_before_the_cut() -> None:
    for cut in range(len(STREAM)):
        found, consumed = _taken(STREAM[:cut])
        rest, end = _taken(STREAM[consumed:])
        assert found + rest == FOUND
        assert consumed + end == len(STREAM)
        assert cut - consumed < 8 + 258


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"\x01\x00\x00\x06", 6),
        (b"\x01\x00\x00\x12", 18),
        (b"\x02\x00\x00\x01", 1),
        (b"\x03\x00\x00\x01", 1),
        (b"\x03\x00\x40\x00", 16_384),
        (b"\x04\x00\x00\x00", 0),
        (b"\x05\x00\x00\x00", 0),
        (b"\x06\x00\x00\x00", 0),
    ],
)
def test_the_least_and_the_most_of_each_type_are_taken(header: bytes, length: int) -> None:
    raw = header + b"\x00\x00\x00\x01" + b"x" * length
    assert _taken(raw) == ([(header[0], 1, b"x" * length)], 8 + length)
    assert walk(raw[:-1]) == ([], 0)


def test_a_data_frames_most_is_what_is_said() -> None:
    assert TRUNK_DATA_BYTES == 16_384
    assert frame(DATA, 1, bytes(16_384)) == b"\x03\x00\x40\x00\x00\x00\x00\x01" + bytes(16_384)


WRONG = [
    b"\x00\x00\x00\x00",  # no such types
    b"\x00\x00\x00\x01",
    b"\x07\x00\x00\x00",
    b"\x07\x00\x00\x01",
    b"\x80\x00\x00\x00",
    b"\xff\x00\x00\x01",
    b"GET ",
    b"\x01\x00\x00\x05",  # an address of three bytes, of seventeen
    b"\x01\x00\x00\x13",
    b"\x01\x00\x00\x00",
    b"\x02\x00\x00\x00",
    b"\x02\x00\x00\x02",
    b"\x03\x00\x00\x00",  # nothing is no data
    b"\x03\x00\x40\x01",  # 16,385 bytes
    b"\x03\xff\xff\xff",
    b"\x04\x00\x00\x01",
    b"\x05\x00\x00\x01",
    b"\x06\x00\x00\x01",
    b"\x04\x01\x00\x00",  # the length has all three bytes
]


@pytest.mark.parametrize("header", WRONG, ids=bytes.hex)
def test_a_frame_that_may_not_be_is_refused_as_soon_as_its_header_is_there(header: bytes) -> None:
    whole = header + b"\x00\x00\x00\x01"
    with pytest.raises(MalformedMessage, match=r"^The trunk carries a frame of type \d+ with \d+ bytes"):
        walk(whole)
    with pytest.raises(MalformedMessage):
        walk(whole + bytes(32))
    for cut in range(8):
        assert walk(whole[:cut]) == ([], 0)


@pytest.mark.parametrize("header", WRONG, ids=bytes.hex)
def test_a_frame_that_may_not_be_is_refused_behind_others_too(header: bytes) -> None:
    with pytest.raises(MalformedMessage):
        walk(STREAM + header + b"\x00\x00\x00\x01")
    assert walk(STREAM + header + b"\x00\x00\x00") == walk(STREAM)


@pytest.mark.parametrize(
    ("address", "port", "payload"),
    [
        (b"\xac\x12\x00\x03", 8080, V4),
        (b"\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03", 80, V6),
        (b"\x00\x00\x00\x00", 0, b"\x00\x00\x00\x00\x00\x00"),
        (b"\xff" * 16, 65_535, b"\xff" * 18),
    ],
    ids=["v4", "v6", "least", "most"],
)
def test_a_wish_is_read_and_written(address: bytes, port: int, payload: bytes) -> None:
    assert parse_open(payload) == (address, port)
    assert open_payload(address, port) == payload


@pytest.mark.parametrize("length", [*range(6), *range(7, 18), 19, 32])
def test_a_wish_for_an_address_that_is_of_no_family_is_malformed(length: int) -> None:
    with pytest.raises(MalformedMessage, match=rf"an address of {length - 2} bytes"):
        parse_open(bytes(length))


@pytest.mark.parametrize("length", range(7, 18))
def test_the_walk_leaves_what_is_between_the_families_to_whoever_reads_the_wish(length: int) -> None:
    raw = b"\x01\x00\x00" + bytes((length,)) + b"\x00\x00\x00\x01" + bytes(length)
    assert walk(raw) == ([(OPEN, 1, 8, 8 + length)], 8 + length)
