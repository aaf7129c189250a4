"""Feeding a parser the same bytes in every way a network may deliver them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Parser = Callable[[bytearray], tuple[T, int] | None]


def feed(parser: Parser[T], data: bytes) -> T:
    """Whole, byte by byte, truncated at every place, and with a tail: always the same message."""
    parsed = parser(bytearray(data))
    assert parsed is not None, "the message is incomplete"
    message, consumed = parsed
    assert consumed == len(data)
    for end in range(1, len(data)):
        assert parser(bytearray(data[:end])) is None, f"a message was seen in its first {end} bytes"
    assert parser(bytearray(data + b"\x05\r\ntail")) == (message, len(data))
    return message
