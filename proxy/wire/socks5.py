"""SOCKS5 messages (RFC 1928), its passwords (RFC 1929) and Tor's lookups, as a server reads and writes them."""

from __future__ import annotations

import ipaddress
import struct
from ipaddress import IPv4Address
from typing import NamedTuple

from dconnect.core.address import IPAddress, Target, normal_name
from dconnect.core.errors import MalformedMessage

VERSION = 5
NO_AUTHENTICATION, USERNAME_PASSWORD = 0x00, 0x02
NO_ACCEPTABLE_METHOD = 0xFF
TUNNEL = 0x80
"""Ours, of those "reserved for private methods" (RFC 1928 §3): the client says the link's token, in RFC 1929's form,
and its request right behind it; the method's reply comes with the request's, in one segment."""
TRUNK, MOVE = 0x80, 0x81
"""The commands of that method. DST.ADDR is of type IPV6 and means none: the trunk's key, and the stream's number (u32).
What is to be a trunk has a new key, and no number; what a stream moves to gets no reply."""
TRUNK_KEY_BYTES = 12
CONNECT, BIND, UDP_ASSOCIATE = 1, 2, 3
RESOLVE, RESOLVE_PTR = 0xF0, 0xF1
"""Tor's (socks-extensions.txt §2): the target's name is to be looked up, or its address, and nothing connected."""
IPV4, DOMAIN, IPV6 = 1, 3, 4
SUCCEEDED, GENERAL_FAILURE, COMMAND_NOT_SUPPORTED, ADDRESS_TYPE_NOT_SUPPORTED = 0, 1, 7, 8

TUNNEL_REPLY_BYTES = 12
"""The least that ``parse_tunnel_reply`` reads: whoever reads no more at first has nothing of what comes behind it."""


class Request(NamedTuple):
    """What a client asks for. ``target`` is None when the address type is unknown."""

    command: int
    target: Target | None


def parse_greeting(buffer: bytes | bytearray) -> tuple[bytes, int] | None:
    """Parse the method selection.

    Wire:    VER u8 = 5 | NMETHODS u8 | METHODS u8 × NMETHODS                    (RFC 1928 §3)
    Returns: (the offered methods, bytes consumed), or None when more bytes are needed.
    Raises:  MalformedMessage: another version, or no method offered.
    """
    if len(buffer) < 2:
        return None
    version, count = buffer[0], buffer[1]
    if version != VERSION:
        raise MalformedMessage(f"SOCKS version {version} where 5 was expected.")
    if not count:
        raise MalformedMessage("The SOCKS5 greeting offers no method.")
    if len(buffer) < 2 + count:
        return None
    return bytes(buffer[2 : 2 + count]), 2 + count


def greeting_reply(method: int) -> bytes:
    """VER u8 = 5 | METHOD u8 (RFC 1928 §3); FF refuses."""
    return bytes((VERSION, method))


def tunnel_request(user: bytes, token: bytes, command: int, key: bytes) -> bytes:
    """All that a client of TUNNEL says, for one segment; ``key`` is DST.ADDR.

    Wire: as ``parse_greeting``, ``parse_password`` and ``parse_request`` read it, one behind the other.
    """
    told = bytes((VERSION, 1, TUNNEL, 1, len(user))) + user + bytes((len(token),)) + token
    return told + bytes((VERSION, command, 0, IPV6)) + key + bytes(2)


def parse_tunnel_reply(buffer: bytes | bytearray) -> tuple[int, int] | None:
    """What a client of TUNNEL is told: the methods' reply, with the request's behind it unless that is FF.

    Wire:    VER u8 = 5 | METHOD u8 | VER u8 = 5 | REP u8 | RSV u8 | ATYP u8 | BND.ADDR | BND.PORT u16
    Returns: (REP, or NO_ACCEPTABLE_METHOD; bytes that it has), or None when there are fewer.
    Raises:  MalformedMessage: it is anything else.
    """
    if len(buffer) < 2:
        return None
    if buffer[0] != VERSION or buffer[1] not in (TUNNEL, NO_ACCEPTABLE_METHOD):
        raise MalformedMessage("What answers is no SOCKS5 server that has the tunnel's method.")
    if buffer[1] == NO_ACCEPTABLE_METHOD:
        return NO_ACCEPTABLE_METHOD, 2
    if len(buffer) < 6:
        return None
    if buffer[2] != VERSION or buffer[5] not in (IPV4, IPV6):
        raise MalformedMessage("The SOCKS5 reply of the tunnel's method has another form than it should.")
    size = TUNNEL_REPLY_BYTES + (12 if buffer[5] == IPV6 else 0)
    return (buffer[3], size) if len(buffer) >= size else None


def parse_password(buffer: bytes | bytearray) -> tuple[tuple[bytes, bytes], int] | None:
    """Parse what a client says for itself.

    Wire:    VER u8 = 1 | ULEN u8 | UNAME | PLEN u8 | PASSWD                           (RFC 1929 §2)
    Returns: ((user name, password), bytes consumed), or None when more bytes are needed. Lengths of 0, which the RFC
             does not have and clients send, are read as such.
    Raises:  MalformedMessage: another version.
    """
    if buffer and buffer[0] != 1:
        raise MalformedMessage(f"Version {buffer[0]} of the SOCKS5 password exchange where 1 was expected.")
    if len(buffer) < 2 or len(buffer) < 3 + buffer[1]:
        return None
    middle = 2 + buffer[1]
    end = middle + 1 + buffer[middle]
    if len(buffer) < end:
        return None
    return (bytes(buffer[2:middle]), bytes(buffer[middle + 1 : end])), end


def password_reply(*, right: bool) -> bytes:
    """VER u8 = 1 | STATUS u8 (RFC 1929 §2); any STATUS but 0 refuses, and the connection ends."""
    return bytes((1, 0 if right else 1))


def parse_request(buffer: bytes | bytearray) -> tuple[Request, int] | None:
    """Parse a request.

    Wire:    VER u8 = 5 | CMD u8 | RSV u8 | ATYP u8 | DST.ADDR | DST.PORT u16 big-endian   (RFC 1928 §4)
             DST.ADDR: 4 octets (ATYP 1), length u8 and that many octets (3), 16 octets (4)   (§5)
    Returns: (request, bytes consumed), or None when more bytes are needed. RSV is ignored. An unknown
             ATYP gives a request without target, since its length cannot be known.
    Raises:  MalformedMessage: another version, or a domain that is empty or not printable ASCII.
    """
    if len(buffer) < 5:
        return None
    version, command, _, kind, length = buffer[:5]
    if version != VERSION:
        raise MalformedMessage(f"SOCKS version {version} in the request where 5 was expected.")
    if kind == IPV4:
        start, end = 4, 8
    elif kind == IPV6:
        start, end = 4, 20
    elif kind == DOMAIN:
        start, end = 5, 5 + length
    else:
        return Request(command, None), len(buffer)
    if kind == DOMAIN and not length:
        raise MalformedMessage("The SOCKS5 request names an empty domain.")
    if len(buffer) < end + 2:
        return None
    port = int.from_bytes(buffer[end : end + 2])
    raw = bytes(buffer[start:end])
    if kind == DOMAIN:
        host = host_name(raw)
    elif kind == IPV4:
        host = f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"
    else:
        host = str(ipaddress.IPv6Address(raw))
    return Request(command, Target(host, port)), end + 2


def host_name(raw: bytes) -> str:
    """A domain as it stands in a SOCKS request.

    Raises: MalformedMessage: empty, or not printable ASCII.
    """
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedMessage("The SOCKS request names a domain that is not ASCII.") from None
    if not name:
        raise MalformedMessage("The SOCKS request names an empty domain.")
    if not name.isprintable() or " " in name:
        raise MalformedMessage("The SOCKS request names a domain with unprintable characters.")
    if not (name := normal_name(name)):
        raise MalformedMessage("The SOCKS request names the root domain, which has no address.")
    return name


def reply(code: int, bound: tuple[IPAddress, int] = (IPv4Address(0), 0)) -> bytes:
    """Write a reply.

    Wire:  VER u8 = 5 | REP u8 | RSV u8 = 0 | ATYP u8 | BND.ADDR | BND.PORT u16 big-endian   (RFC 1928 §6)

    Args:
        code: 0 for success, else a Failure's ``socks5_rep``, 7 or 8.
        bound: the address and port that the outgoing connection has; zeros on failure.
    """
    address, port = bound
    kind = IPV4 if address.version == 4 else IPV6
    return bytes((VERSION, code, 0, kind)) + address.packed + struct.pack("!H", port)


def name_reply(name: str) -> bytes:
    """The success of a RESOLVE_PTR: a reply whose BND.ADDR is a domain (ATYP 3) and whose port means nothing."""
    raw = name.encode("ascii")
    return bytes((VERSION, SUCCEEDED, 0, DOMAIN, len(raw))) + raw + bytes(2)
