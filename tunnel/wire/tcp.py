"""TCP segments, as far as a gateway reads them, and the RST that answers one (RFC 9293)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dconnect.core.errors import MalformedMessage
from dconnect.tunnel.wire.checksum import checksum, is_sound, pseudo_header
from dconnect.tunnel.wire.packets import TCP, Packet, build, is_between_hosts

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

_HEADER = struct.Struct("!HHIIBBHHH")


class Segment(NamedTuple):
    """One TCP segment."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    flags: int
    length: int
    """Sequence numbers that it takes: its data, and one each for SYN and FIN (SEG.LEN)."""


def parse(packet: Packet) -> Segment:
    """Read a whole packet's segment.

    Wire:   SOURCE PORT u16 | DESTINATION PORT u16 | SEQUENCE u32 | ACKNOWLEDGMENT u32 | DATA OFFSET u4 | reserved u4
            | FLAGS u8 | WINDOW u16 | CHECKSUM u16 | URGENT u16 | options | data              (RFC 9293 §3.1)
    Raises: MalformedMessage: truncated, or a wrong checksum.
    """
    payload = packet.payload
    size = len(payload)
    if size < 20:
        raise MalformedMessage("The packet ends within its TCP header.")
    source, destination, sequence, acknowledgment, offset, flags, _, _, _ = _HEADER.unpack_from(payload)
    header = (offset >> 4) * 4
    if not 20 <= header <= size:
        raise MalformedMessage("The TCP header is longer than its packet, or shorter than itself.")
    if not is_sound(pseudo_header(packet.source, packet.destination, TCP, size), payload):
        raise MalformedMessage("The TCP checksum is wrong.")
    length = size - header + bool(flags & SYN) + bool(flags & FIN)
    return Segment(source, destination, sequence, acknowledgment, flags, length)


def reset(packet: Packet, segment: Segment) -> bytes | None:
    """The packet that tells a segment's sender that there is no such connection (RFC 9293 §3.10.7.1).

    Returns: None for a RST, which is never answered, and for what is not between two hosts (§3.9.2.3).
    """
    if segment.flags & RST or not is_between_hosts(packet):
        return None
    if segment.flags & ACK:
        sequence, acknowledgment, flags = segment.acknowledgment, 0, RST
    else:
        sequence, acknowledgment, flags = 0, (segment.sequence + segment.length) & 0xFFFFFFFF, RST | ACK
    source, destination = packet.destination, packet.source
    ports = (segment.destination_port, segment.source_port)
    fields = (*ports, sequence, acknowledgment, 5 << 4, flags, 0)
    found = checksum(pseudo_header(source, destination, TCP, _HEADER.size), _HEADER.pack(*fields, 0, 0))
    return build(source, destination, TCP, _HEADER.pack(*fields, found, 0))
