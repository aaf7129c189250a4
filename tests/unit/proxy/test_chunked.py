from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES
from dconnect.proxy.wire.chunked import ChunkScanner


def _scan(data: bytes, step: int) -> tuple[int, bytes, bool]:
    scanner, used, payload = ChunkScanner(), 0, b""
    for start in range(0, len(data), step):
        consumed, slices = scanner.feed(data[start : start + step])
        used += consumed
        payload += b"".join(slices)
        if scanner.done:
            break
    return used, payload, scanner.done


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),  # curl 7.88 -H 'Transfer-Encoding: chunked' -d hello
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b'A\r\n0123456789\r\n1;x="y"\r\n!\r\n0;last\r\nTrailer: 1\r\nOther: 2\r\n\r\n', b"0123456789!"),
        (b"2 \r\nab\r\n2\t;x\r\ncd\r\n0\r\n\r\n", b"abcd"),
        (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_body_is_found_at_any_split_and_the_next_message_left_alone(data: bytes, payload: bytes, step: int) -> None:
    assert _scan(data + b"GET / HTTP/1.1\r\n\r\n", step) == (len(data), payload, True)


@pytest.mark.parametrize("step", [1, 1000])
def test_every_truncation_is_unfinished(step: int) -> None:
    data = b"5;ext\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n"
    for end in range(len(data)):
        assert not _scan(data[:end], step)[2]


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1_0\r\n",
        b";ext\r\n",
        b"5\n",
        b"5\nhello\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello0\r\n\r\n",
        b"11111111111111111\r\n",
        # bare CR (RFC 9112 §2.2): some see a line's end in it
        b"5;\rx\r\n",
        b"5\r\r\n",
        b"0\r\nTrailer: 1\rx\r\n",
        b"0\r\nTrailer: 1\n\r\n",
    ],
)
def test_broken_coding_is_malformed_at_any_split(data: bytes, step: int) -> None:
    with pytest.raises(MalformedMessage):
        _scan(data + b"\r\n\r\n", step)


@pytest.mark.parametrize("step", [1, 1000])
def test_lines_have_a_bound(step: int) -> None:
    fitting = b"1;" + b"x" * (MAX_CHUNK_LINE_BYTES - 2)
    assert _scan(fitting + b"\r\na\r\n0\r\n\r\n", step)[2]
    with pytest.raises(MalformedMessage):
        _scan(fitting + b"xyz", step)


def test_trailers_have_a_bound_together() -> None:
    line = b"X: " + b"a" * 1021 + b"\r\n"
    many = MAX_TRAILER_BYTES // 1024
    assert _scan(b"0\r\n" + line * many + b"\r\n", 1000)[2]
    with pytest.raises(MalformedMessage):
        _scan(b"0\r\n" + line * many + b"XYZ", 1000)


def test_what_follows_the_end_is_never_taken() -> None:
    scanner = ChunkScanner()
    scanner.feed(b"0\r\n\r\n")
    assert scanner.feed(b"5\r\n") == (0, [])
