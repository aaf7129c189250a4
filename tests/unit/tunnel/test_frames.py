from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import LINK_JSON_BYTES, LINK_REASON_BYTES
from dconnect.tunnel.wire import frames
from kit.packets import SYN4, UDP6

# u8 type, u24 length, payload, by hand
STREAM = (
    b"\x02\x00\x00\x02{}"
    + (b"\x01\x00\x00\x2c" + SYN4)
    + (b"\x01\x00\x00\x35" + UDP6)
    + b"\x04\x00\x00\x0812345678"
    + b"\x05\x00\x00\x0812345678"
    + b"\x03\x00\x00\x02{}"
    + b"\x06\x00\x00\x03bye"
)
FOUND = [(2, b"{}"), (1, SYN4), (1, UDP6), (4, b"12345678"), (5, b"12345678"), (3, b"{}"), (6, b"bye")]


def _taken(received: bytes) -> tuple[list[tuple[int, bytes]], int]:
    view = memoryview(received)
    found, consumed = frames.walk(view)
    return [(kind, bytes(view[start:end])) for kind, start, end in found], consumed


def test_frames_are_found_where_they_lie() -> None:
    assert _taken(STREAM) == (FOUND, len(STREAM))


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


def test_what_is_cut_anywhere_gives_the_frames_before_the_cut() -> None:
    for cut in range(len(STREAM)):
        found, consumed = _taken(STREAM[:cut])
        rest, end = _taken(STREAM[consumed:])
        assert found + rest == FOUND
        assert consumed + end == len(STREAM)
        assert cut - consumed < 4 + 53


def test_the_largest_packet_is_one_frame() -> None:
    largest = frames.packet_header(65_535) + bytes(65_535)
    assert largest[:4] == b"\x01\x00\xff\xff"
    assert frames.walk(largest) == ([(frames.PACKET, 4, 65_539)], 65_539)


def test_the_longest_frame_is_as_long_as_is_said() -> None:
    longest = frames.frame(frames.CONFIG, bytes(LINK_JSON_BYTES))
    assert len(longest) == frames.MAX_FRAME_BYTES
    assert frames.walk(longest)[1] == len(longest)


@pytest.mark.parametrize(
    "header",
    [
        b"\x00\x00\x00\x00",
        b"\x07\x00\x00\x01",
        b"\xff\x00\x00\x08",
        b"\x01\x01\x00\x00",  # a packet of 65,536 bytes
        b"\x01\xff\xff\xff",
        b"\x02\x04\x00\x01",  # JSON of 256 KiB and one byte
        b"\x03\x04\x00\x01",
        b"\x04\x00\x00\x07",
        b"\x04\x00\x00\x09",
        b"\x05\x00\x00\x00",
        b"\x06\x00\x02\x01",  # a reason of 513 bytes
    ],
)
def test_a_frame_that_may_not_be_is_refused_at_its_header(header: bytes) -> None:
    with pytest.raises(MalformedMessage, match=r"^The link carries a frame of "):
        frames.walk(header)
    with pytest.raises(MalformedMessage):
        frames.walk(STREAM + header)
    assert frames.walk(STREAM + header[:3]) == frames.walk(STREAM)


def test_frames_are_written_as_they_are_read() -> None:
    control = [frames.frame(kind, payload) for kind, payload in FOUND if kind not in {frames.PACKET, frames.BYE}]
    packets = [frames.packet_header(len(packet)) + packet for packet in (SYN4, UDP6)]
    assert b"".join((control[0], *packets, *control[1:], frames.bye("bye"))) == STREAM


def test_a_frame_that_the_other_end_would_refuse_is_not_written() -> None:
    with pytest.raises(MalformedMessage):
        frames.frame(frames.CONFIG, bytes(LINK_JSON_BYTES + 1))
    with pytest.raises(MalformedMessage):
        frames.frame(frames.PING, b"1")
    with pytest.raises(MalformedMessage):
        frames.frame(7)
    with pytest.raises(ValueError, match="65536"):
        frames.packet_header(65_536)


def test_a_reason_that_is_too_long_is_cut_between_characters() -> None:
    made = frames.bye("é" + "x" * (LINK_REASON_BYTES - 3) + "é")
    assert frames.parse_bye(memoryview(made)[4:]) == "é" + "x" * (LINK_REASON_BYTES - 3)
    assert len(made) == 4 + LINK_REASON_BYTES - 1


@pytest.mark.parametrize("payload", [b"\xff", b"\xc3", b"bye\n", b"\x1b[2J", "\u202ebye".encode()])
def test_a_reason_that_a_terminal_should_not_see_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedMessage, match="reason"):
        frames.parse_bye(payload)
