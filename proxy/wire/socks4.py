"""SOCKS4 and 4a messages, as a server reads and writes them.

Sources: "SOCKS: A protocol for TCP proxy across firewalls" and "SOCKS 4A", both by Ying-Da Lee; there is no RFC.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import NamedTuple

from dconnect.core.address import MAX_HOST_LENGTH, IPAddress, Target
from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import MAX_SOCKS4_USER_BYTES
from dconnect.proxy.wire.socks5 import CONNECT, RESOLVE, host_name

__all__ = ["CONNECT", "GRANTED", "RESOLVE", "Request", "parse_request", "reply"]

VERSION = 4
GRANTED = 0x5A


class Request(NamedTuple):
    """What a client asks for. Its USERID, which nobody can check, is dropped."""

    command: int
    target: Target


def parse_request(buffer: bytes | bytearray) -> tuple[Request, int] | None:
    """Parse a request.

    Wire:    VN u8 = 4 | CD u8 | DSTPORT u16 big-endian | DSTIP 4 octets | USERID | 00
             and, where DSTIP is 0.0.0.x with x not 0 (4a), DOMAIN | 00
    Returns: (request, bytes consumed), or None when more bytes are needed.
    Raises:  MalformedMessage: another version, a USERID of more than MAX_SOCKS4_USER_BYTES, a domain that is
             empty, longer than MAX_HOST_LENGTH or not printable ASCII.
    """
    if buffer and buffer[0] != VERSION:
        raise MalformedMessage(f"SOCKS version {buffer[0]} where 4 was expected.")
    user = _text(buffer, 8, MAX_SOCKS4_USER_BYTES, "user id")
    if user is None:
        return None
    address, end = bytes(buffer[4:8]), user[1]
    host = f"{address[0]}.{address[1]}.{address[2]}.{address[3]}"
    if address[:3] == bytes(3) and address[3]:
        domain = _text(buffer, end, MAX_HOST_LENGTH, "domain")
        if domain is None:
            return None
        host, end = host_name(domain[0]), domain[1]
    return Request(buffer[1], Target(host, int.from_bytes(buffer[2:4]))), end


def _text(buffer: bytes | bytearray, start: int, most: int, what: str) -> tuple[bytes, int] | None:
    """The octets up to a NUL, and where what follows it begins."""
    end = buffer.find(b"\0", start, start + most + 1)
    if end >= 0:
        return bytes(buffer[start:end]), end + 1
    if len(buffer) > start + most:
        raise MalformedMessage(f"The SOCKS4 request has a {what} of more than {most} octets.")
    return None


def reply(code: int, bound: tuple[IPAddress, int] = (IPv4Address(0), 0)) -> bytes:
    """Write a reply.

    Wire:  VN u8 = 0 | CD u8 | DSTPORT u16 big-endian | DSTIP 4 octets

    Args:
        code: GRANTED, or a Failure's code, which is the same for all.
        bound: the address and port that the outgoing connection has, which clients may ignore; an IPv6 address has
            no place and is told as zeros.
    """
    address, port = bound
    packed = address.packed if address.version == 4 else bytes(4)
    return struct.pack("!BBH", 0, code, port) + packed
