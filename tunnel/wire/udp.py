"""UDP datagrams (RFC 768; over IPv6 RFC 8200 §8.1)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dconnect.core.errors import MalformedMessage
from dconnect.tunnel.wire.checksum import Bytes, checksum, is_sound, pseudo_header
from dconnect.tunnel.wire.packets import UDP, Packet, build

_HEADER = struct.Struct("!HHHH")


class Datagram(NamedTuple):
    """One UDP datagram."""

    source_port: int
    """0 where the sender wants no answer."""
    destination_port: int
    payload: memoryview
    """Not copied."""


def parse(packet: Packet) -> Datagram:
    """Read a whole packet's datagram.

    Wire:   SOURCE PORT u16 | DESTINATION PORT u16 | LENGTH u16 | CHECKSUM u16 | data                (RFC 768)
            What comes behind LENGTH bytes is an option of somebody's (RFC 9868) and ignored.
    Raises: MalformedMessage: truncated, a wrong checksum, or over IPv6 none.
    """
    payload = packet.payload
    size = len(payload)
    if size < 8:
        raise MalformedMessage("The packet ends within its UDP header.")
    source, destination, length, found = _HEADER.unpack_from(payload)
    if not 8 <= length <= size:
        raise MalformedMessage(f"The UDP datagram has {size} bytes; its header says {length}.")
    if found:
        before = pseudo_header(packet.source, packet.destination, UDP, length)
        if not is_sound(before, payload[:length]):  # RFC 1122 §4.1.3.4
            raise MalformedMessage("The UDP checksum is wrong.")
    elif packet.version == 6:
        raise MalformedMessage("The UDP datagram has no checksum, which IPv6 demands.")
    return Datagram(source, destination, payload[8:length])


def packet(source: tuple[bytes, int], destination: tuple[bytes, int], payload: Bytes) -> bytes:
    """A packet with one datagram, from (address, port) to (address, port).

    It may be larger than a device's MTU, by up to 40 bytes even than the largest: see ``fragments.split``.

    Raises: ValueError: more than a datagram holds, 65,507 bytes over IPv4 and 65,527 over IPv6.
    """
    size = 8 + len(payload)
    if size > 0xFFFF:
        raise ValueError(f"a UDP datagram of {len(payload)} bytes")
    fields = (source[1], destination[1], size)
    before = pseudo_header(source[0], destination[0], UDP, size)
    found = checksum(before, _HEADER.pack(*fields, 0), payload) or 0xFFFF  # 0 would mean that there is none
    return build(source[0], destination[0], UDP, _HEADER.pack(*fields, found) + payload)
