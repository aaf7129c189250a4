"""The trunk's framing: a host's many connections on one, as long as they are small (docs/link.md).

Wire:  TYPE u8 | LENGTH u24 big-endian | STREAM u32 big-endian | LENGTH bytes of payload

    1 open     PORT u16 big-endian | 4 or 16 bytes of address: the host wants a connection; STREAM is not in use
    2 answer   REP u8 (RFC 1928 §6): 0, it is there; anything else, it is not, and STREAM is free again
    3 data     1 to 16,384 bytes
    4 end      no more bytes this way, as a FIN says
    5 reset    cut, as an RST says, or given up; STREAM is free again
    6 leave    nothing more this way on the trunk: the rest goes by a connection of its own
"""

from __future__ import annotations

import struct

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import TRUNK_DATA_BYTES

OPEN, ANSWER, DATA, END, RESET, LEAVE = 1, 2, 3, 4, 5, 6

_BOUNDS = {OPEN: (6, 18), ANSWER: (1, 1), DATA: (1, TRUNK_DATA_BYTES), END: (0, 0), RESET: (0, 0), LEAVE: (0, 0)}
"""Type → its payload's least and most bytes."""
_HEADER = struct.Struct("!II")
_PORT = struct.Struct("!H")
HEADER_BYTES = _HEADER.size
_pack, _unpack = _HEADER.pack, _HEADER.unpack_from


def walk(received: bytes | memoryview) -> tuple[list[tuple[int, int, int, int]], int]:
    """Find the whole frames at the beginning of what was received; nothing is copied.

    Returns: ((type, stream, start and end of the payload) of each, bytes consumed). The rest is the beginning of one.
    Raises:  MalformedMessage: a type that is unknown, or a length that it cannot have; as soon as the header is there.
    """
    found: list[tuple[int, int, int, int]] = []
    at, size = 0, len(received)
    while (start := at + HEADER_BYTES) <= size:
        word, stream = _unpack(received, at)
        kind, length = word >> 24, word & 0xFFFFFF
        least, most = _BOUNDS.get(kind, (1, 0))
        if not least <= length <= most:
            raise MalformedMessage(f"The trunk carries a frame of type {kind} with {length} bytes, which cannot be.")
        if start + length > size:
            break
        at = start + length
        found.append((kind, stream, start, at))
    return found, at


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    """One whole frame; the payload is one that its type may have."""
    return _pack(kind << 24 | len(payload), stream) + payload


def open_payload(address: bytes, port: int) -> bytes:
    """The host's wish for a connection; ``address`` is packed."""
    return _PORT.pack(port) + address


def parse_open(payload: bytes) -> tuple[bytes, int]:
    """Read that wish's payload: (packed address, port).

    Raises: MalformedMessage: the address has a length that no address has.
    """
    if len(payload) not in (6, 18):
        raise MalformedMessage(f"The trunk's host names an address of {len(payload) - 2} bytes.")
    return payload[2:], _PORT.unpack_from(payload)[0]
