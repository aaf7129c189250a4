"""The link's framing: what crosses the TCP connection between host and agent.

Wire:  TYPE u8 | LENGTH u24 big-endian | LENGTH bytes of payload

    1 packet   one IP packet, as a device gave it; at most 65,535 bytes
    2 hello    JSON, from the host (messages.Hello)
    3 config   JSON, from the agent, again at every change (messages.Config)
    4 ping     8 bytes, whose meaning is the sender's
    5 pong     the 8 bytes of a ping
    6 bye      a sentence in UTF-8: why the link ends

The link is for local, loss-free hops. A frame that is unknown or over-long ends it: nothing is cut, nothing skipped.
"""

from __future__ import annotations

import struct

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import LINK_JSON_BYTES, LINK_REASON_BYTES, PACKET_BYTES

PACKET, HELLO, CONFIG, PING, PONG, BYE = 1, 2, 3, 4, 5, 6

HEADER_BYTES = 4
PING_BYTES = 8
MAX_FRAME_BYTES = HEADER_BYTES + LINK_JSON_BYTES
"""The longest frame: whoever receives needs a buffer of so many bytes at least."""

_BOUNDS = {
    PACKET: (0, PACKET_BYTES),
    HELLO: (0, LINK_JSON_BYTES),
    CONFIG: (0, LINK_JSON_BYTES),
    PING: (PING_BYTES, PING_BYTES),
    PONG: (PING_BYTES, PING_BYTES),
    BYE: (0, LINK_REASON_BYTES),
}
"""Kind → its payload's least and most bytes."""

_WORD = struct.Struct("!I")
_word_at = _WORD.unpack_from
_PACKET_WORD = PACKET << 24
_SMALL_PACKET = _PACKET_WORD >> 16


def walk(received: memoryview | bytes | bytearray) -> tuple[list[tuple[int, int, int]], int]:
    """Find the whole frames at the beginning of what was received; nothing is copied.

    Returns: ((kind, start and end of the payload) of each, bytes consumed). The rest is the beginning of a frame.
    Raises:  MalformedMessage: a kind that is unknown, or a length that its kind cannot have; as soon as the header
             is there. The frames before it are lost with the link.
    """
    found: list[tuple[int, int, int]] = []
    at, size = 0, len(received)
    while (start := at + 4) <= size:
        (word,) = _word_at(received, at)
        if word >> 16 != _SMALL_PACKET:  # not one of the many: a packet of 65,535 bytes at most
            _check(word >> 24, word & 0xFFFFFF)
        end = start + (word & 0xFFFFFF)
        if end > size:
            break
        found.append((word >> 24, start, end))
        at = end
    return found, at


def packet_header(size: int) -> bytes:
    """What stands before a packet of ``size`` bytes, so that it can be read into a buffer behind its header.

    Raises: ValueError: larger than a packet may be.
    """
    if size > PACKET_BYTES:
        raise ValueError(f"a packet of {size} bytes")
    return _WORD.pack(_PACKET_WORD | size)


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One whole frame.

    Raises: MalformedMessage: the other end would not accept it.
    """
    _check(kind, len(payload))
    return _WORD.pack(kind << 24 | len(payload)) + payload


def bye(reason: str) -> bytes:
    """The frame that ends a link; a reason that is too long is cut."""
    return frame(BYE, reason.encode()[:LINK_REASON_BYTES].decode(errors="ignore").encode())


def parse_bye(payload: memoryview | bytes) -> str:
    """Read the reason, which may be empty.

    Raises: MalformedMessage: no UTF-8, or not fit to be shown to a person.
    """
    try:
        reason = str(payload, "utf-8")
    except UnicodeDecodeError:
        raise MalformedMessage("The link's other end gives a reason that is not UTF-8.") from None
    if not reason.isprintable():
        raise MalformedMessage("The link's other end gives a reason with unprintable characters.")
    return reason


def _check(kind: int, length: int) -> None:
    """Whether such a frame may be.

    Raises: MalformedMessage.
    """
    if kind not in _BOUNDS:
        raise MalformedMessage(f"The link carries a frame of the unknown kind {kind}.")
    least, most = _BOUNDS[kind]
    if not least <= length <= most:
        allowed = f"{most}" if least == most else f"{least} to {most}"
        raise MalformedMessage(f"The link carries a frame of kind {kind} with {length} bytes, where {allowed} may be.")
