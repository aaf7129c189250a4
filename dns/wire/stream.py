"""DNS over a byte stream: each message stands behind its length (RFC 1035 §4.2.2, RFC 7766 §8)."""

from __future__ import annotations

import struct

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import DNS_QUERY_BYTES

_LENGTH = struct.Struct(">H")


def parse_frame(buffer: bytes | bytearray) -> tuple[bytes, int] | None:
    """Take one message from the front of a buffer.

    Wire:    LENGTH u16 big-endian | MESSAGE LENGTH octets
    Returns: (message, bytes consumed), or None when more bytes are needed.
    Raises:  MalformedMessage: the length exceeds what any query needs.
    """
    if len(buffer) < 2:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if length > DNS_QUERY_BYTES:
        raise MalformedMessage(f"A DNS query of {length} bytes over TCP; at most {DNS_QUERY_BYTES} are read.")
    end = 2 + length
    if len(buffer) < end:
        return None
    return bytes(buffer[2:end]), end


def frame(message: bytes) -> bytes:
    """Put the length before a message of at most 65,535 bytes; both leave in one write (RFC 7766 §8)."""
    return _LENGTH.pack(len(message)) + message
