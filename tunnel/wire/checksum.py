"""The Internet checksum (RFC 1071), and what TCP, UDP and ICMPv6 count before their own bytes."""

from __future__ import annotations

from typing import TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview

_CHUNK = 2048
"""Bytes that become one number: sums of such are divided twice as fast as the number that 64 KiB are."""


def checksum(*parts: Bytes) -> int:
    """The checksum of the parts in a row, all of even length but the last; its own field must be zero in them.

    The one's complement sum of 16-bit words is the number that they form, modulo 0xFFFF.
    """
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data) % 2:
        data = b"".join((data, b"\0"))
    if len(data) <= _CHUNK:
        number = int.from_bytes(data)
    else:
        view = memoryview(data)
        number = sum([int.from_bytes(view[at : at + _CHUNK]) for at in range(0, len(view), _CHUNK)])
    if not number:
        return 0xFFFF
    rest = number % 0xFFFF
    return 0xFFFF - rest if rest else 0


def is_sound(*parts: Bytes) -> bool:
    """Whether bytes that carry their checksum were not changed (RFC 1071 §1: their sum is all ones)."""
    return checksum(*parts) == 0


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """What is counted before the ``length`` bytes of an upper layer.

    Wire:  source | destination | zero u8 | PROTOCOL u8 | LENGTH u16              (RFC 768, RFC 9293 §3.1)
           source | destination | LENGTH u32 | zero u24 | NEXT HEADER u8          (RFC 8200 §8.1)
    """
    if len(source) == 4:
        return source + destination + (protocol << 16 | length).to_bytes(4)
    return source + destination + length.to_bytes(4) + protocol.to_bytes(4)
