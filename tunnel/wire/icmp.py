"""ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and telling that a destination is not reached.

Whoever sends errors must bound how many (RFC 4443 §2.4 (f), RFC 1812 §4.3.2.8); nothing here knows the time.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import LEAST_MTU
from dconnect.tunnel.wire.checksum import Bytes, checksum, is_sound, pseudo_header
from dconnect.tunnel.wire.packets import ICMP, ICMP6, Packet, build, is_between_hosts

NETWORK, HOST, PROTOCOL, PORT, HOST_UNKNOWN, PROHIBITED = 0, 1, 2, 3, 7, 13
"""Codes of ICMPv4's "destination unreachable" (RFC 792, RFC 1812 §5.2.7.1), as the table of failures has them."""
EXPIRED = 0x100
"""A code that is none of these: "time exceeded in transit", for the packet's hops were used up (RFC 792)."""

_UNREACHABLE4 = 3
_AS_ICMP4 = {EXPIRED: (11, 0)}
_AS_ICMP6 = {NETWORK: (1, 0), HOST: (1, 3), PROTOCOL: (4, 1), PORT: (1, 4), HOST_UNKNOWN: (1, 3), PROHIBITED: (1, 1)}
_AS_ICMP6[EXPIRED] = (3, 0)
"""The same in ICMPv6 (RFC 4443 §3.1, §3.3, §3.4): no route, address, unrecognized next header, port, …, prohibited."""
_ERRORS4 = frozenset({3, 4, 5, 11, 12})
"""RFC 1122 §3.2.2: unreachable, source quench, redirect, time exceeded, parameter problem."""
_REDIRECT6 = 137

QUOTE4_BYTES = 576
"""RFC 1812 §4.3.2.3: the longest packet with an ICMPv4 error."""
QUOTE6_BYTES = LEAST_MTU
"""RFC 4443 §2.4 (c)."""

_ECHO = struct.Struct("!BBHHH")
_ERROR = struct.Struct("!BBHI")
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}


class Echo(NamedTuple):
    """A ping, or the answer to one."""

    is_request: bool
    identifier: int
    sequence: int
    data: memoryview
    """Not copied; an answer carries it back."""


def parse_echo(packet: Packet) -> Echo | None:
    """Read a whole packet's message.

    Wire:    TYPE u8 | CODE u8 = 0 | CHECKSUM u16 | IDENTIFIER u16 | SEQUENCE u16 | data  (RFC 792, RFC 4443 §4)
    Returns: None for another message.
    Raises:  MalformedMessage: truncated, or a wrong checksum.
    """
    payload, version = packet.payload, packet.version
    if len(payload) < 8:
        raise MalformedMessage("The packet ends within its ICMP header.")
    before = _pseudo(packet.source, packet.destination, len(payload))
    if not is_sound(before, payload):
        raise MalformedMessage("The ICMP checksum is wrong.")
    kind, code, _, identifier, sequence = _ECHO.unpack_from(payload)
    if code or kind not in {_REQUEST[version], _REPLY[version]}:
        return None
    return Echo(kind == _REQUEST[version], identifier, sequence, payload[8:])


def echo_packet(source: bytes, destination: bytes, echo: Echo) -> bytes:
    """A packet with a ping or an answer."""
    version = 4 if len(source) == 4 else 6
    kind = (_REQUEST if echo.is_request else _REPLY)[version]
    header = _ECHO.pack(kind, 0, 0, echo.identifier, echo.sequence)
    return _packet(source, destination, header, echo.data)


def unreachable(packet: Packet, code: int, source: bytes | None = None) -> bytes | None:
    """The packet that tells a packet's sender that it did not arrive, with as much of it as may be.

    Wire:    TYPE u8 | CODE u8 | CHECKSUM u16 | u32 | the packet's beginning  (RFC 792, RFC 4443 §3.1, §3.3, §3.4)
             The u32 is zero; for IPv6's unknown protocol the offset at which that is named.
    Args:    packet: as ``parse`` gave it.
             code: ICMPv4's or EXPIRED, also for IPv6, where it becomes the like one.
             source: who tells it; the packet's destination when None.
    Returns: None where no error may be sent: about an error, a fragment but the first, or what is not between two
             hosts (RFC 1122 §3.2.2, RFC 4443 §2.4 (e); ``packets.is_between_hosts``).
    """
    if not _may_be_told(packet):
        return None
    sender = packet.destination if source is None else source
    if packet.version == 4:
        header = _ERROR.pack(*_AS_ICMP4.get(code, (_UNREACHABLE4, code)), 0, 0)
        return _packet(sender, packet.source, header, packet.raw[: QUOTE4_BYTES - 20 - 8])
    kind, code6 = _AS_ICMP6[code]
    pointer = packet.named_at if code == PROTOCOL else 0
    return _packet(sender, packet.source, _ERROR.pack(kind, code6, 0, pointer), packet.raw[: QUOTE6_BYTES - 40 - 8])


def _may_be_told(packet: Packet) -> bool:
    """Whether an error may answer a packet."""
    part = packet.part
    if part is not None and part.offset:
        return False
    kind = packet.payload[0] if packet.payload else 0
    if packet.protocol == ICMP and kind in _ERRORS4 and packet.version == 4:
        return False
    if packet.protocol == ICMP6 and (kind < 128 or kind == _REDIRECT6) and packet.version == 6:
        return False
    return is_between_hosts(packet)


def _packet(source: bytes, destination: bytes, header: bytes, data: Bytes) -> bytes:
    """A packet with an ICMP message, whose checksum is still zero."""
    found = checksum(_pseudo(source, destination, len(header) + len(data)), header, data)
    message = header[:2] + found.to_bytes(2) + header[4:] + data
    return build(source, destination, ICMP if len(source) == 4 else ICMP6, message)


def _pseudo(source: bytes, destination: bytes, length: int) -> bytes:
    """What is counted before the message: nothing in ICMPv4 (RFC 4443 §2.3)."""
    return b"" if len(source) == 4 else pseudo_header(source, destination, ICMP6, length)
