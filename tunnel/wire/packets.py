"""IPv4 (RFC 791) and IPv6 (RFC 8200) packets: which flow one belongs to, what it carries, and new ones.

``flow`` is for every packet and verifies as little as possible. ``parse`` is for packets that we answer
ourselves, so it verifies whatever a receiver must; what the kernel gets, the kernel verifies.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import IPV6_EXTENSION_HEADERS, PACKET_BYTES
from dconnect.tunnel.wire.checksum import Bytes, checksum, is_sound

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS = 0, 43, 44, 60

SYN = 0x100 | TCP
"""A kind that is no protocol number: a TCP segment that begins a connection."""
FRAGMENT = 0x200
"""Another: a part of a datagram, which is to be put together first (``reassembly``)."""

HOPS = 64
"""TTL and Hop Limit of what we send: the default of RFC 1700, and of Linux and macOS."""

_FAST4 = struct.Struct("!B x H 2x H x B 2x 12s 9x B")
"""Version and length | total length | fragment | protocol | addresses and ports | TCP flags; no options."""
_FAST6 = struct.Struct("!4x H B x 36s 9x B")
"""Payload length | next header | addresses and ports | TCP flags; no extension headers."""
_fast4, _fast6 = _FAST4.unpack_from, _FAST6.unpack_from
_HEADER4 = struct.Struct("!BBHHHBBH4s4s")
_HEADER6 = struct.Struct("!IHBB16s16s")

_LOOSE_ROUTE, _STRICT_ROUTE = 131, 137


class Part(NamedTuple):
    """Where a fragment belongs."""

    identification: int
    offset: int
    """Of its payload in the whole one, in bytes."""
    more: bool
    """Whether others come behind it."""
    header: int
    """Bytes that stand before the whole packet's payload as well: up to an IPv6 Fragment header."""


class Packet(NamedTuple):
    """One IP packet, taken apart."""

    version: int
    source: bytes
    destination: bytes
    protocol: int
    """Of the payload; for IPv6 of what follows the extension headers, or of a fragment's part."""
    named_at: int
    """Where in the packet the protocol is named; of a fragment, where it will be."""
    payload: memoryview
    """Not copied."""
    part: Part | None
    """None for a whole datagram, and for a fragment that is all of one (RFC 6946)."""
    raw: memoryview
    """All of it."""


def is_to_many(key: bytes) -> bool:
    """Whether a flow's destination is no single host: multicast, and IPv4's reserved rest with broadcast.

    Args:   key: as ``flow`` gives it.
    """
    return key[4] >= 0xE0 if len(key) == 12 else key[16] == 0xFF


def flow(packet: memoryview) -> tuple[int, bytes]:
    """Tell a packet's kind and its flow, in as few steps as Python allows.

    Returns: (SYN, FRAGMENT, or the number of the protocol; the key). The key of TCP and UDP is source, destination,
             source port, destination port as on the wire, 12 or 36 bytes: equal keys are one flow. Others have b"".
    Raises:  MalformedMessage: no IP packet, or one whose lengths contradict one another. Of the header's other
             fields, checksums included, nothing is verified, unless it has options or extension headers.
    """
    size = len(packet)  # with a shorter one, which may end within its header, there is time
    if size >= 60 and packet[0] >> 4 == 6:
        length, protocol, key, flags = _fast6(packet)
        if length + 40 == size:
            if protocol == TCP:
                return (SYN if flags & 0x17 == 0x02 else TCP), key
            if protocol == UDP:
                return UDP, key
    elif size >= 40:
        first, length, fragment, protocol, key, flags = _fast4(packet)
        if first == 0x45 and length == size and not fragment & 0x3FFF:
            if protocol == TCP:
                return (SYN if flags & 0x17 == 0x02 else TCP), key
            if protocol == UDP:
                return UDP, key
    return _slow_flow(packet)


def flow_key(packet: Bytes) -> bytes:
    """Addresses and what follows them, ports in TCP and UDP: enough to keep a flow's packets in order."""
    return bytes(packet[12:24]) if packet[0] >> 4 == 4 else bytes(packet[8:44])


def answer_key(packet: Bytes) -> bytes:
    """The ``flow_key`` of the TCP segments or UDP datagrams that go the other way."""
    if packet[0] >> 4 == 4:
        return bytes(packet[16:20]) + bytes(packet[12:16]) + bytes(packet[22:24]) + bytes(packet[20:22])
    return bytes(packet[24:40]) + bytes(packet[8:24]) + bytes(packet[42:44]) + bytes(packet[40:42])


def _slow_flow(packet: memoryview) -> tuple[int, bytes]:
    """``flow`` for what is neither TCP nor UDP directly behind a plain header."""
    whole = parse(packet)
    protocol, payload = whole.protocol, whole.payload
    if whole.part is not None:
        return FRAGMENT, b""
    if protocol not in {TCP, UDP}:
        return protocol, b""
    if len(payload) < (20 if protocol == TCP else 8):
        raise MalformedMessage("The packet ends within its TCP or UDP header.")
    key = whole.source + whole.destination + bytes(payload[:4])
    return (SYN if protocol == TCP and payload[13] & 0x17 == 0x02 else protocol), key


def parse(packet: memoryview | bytes) -> Packet:
    """Take a packet apart.

    The link gives packets as they are, so what is longer than its header says is malformed too.

    Raises: MalformedMessage: truncated, over-long, or with a header that a receiver must not accept.
    """
    raw = memoryview(packet)
    version = raw[0] >> 4 if raw else 0
    if version == 4:
        return _parse4(raw)
    if version == 6:
        return _parse6(raw)
    raise MalformedMessage("The packet is neither IPv4 nor IPv6.")


def _parse4(raw: memoryview) -> Packet:
    """Take an IPv4 packet apart.

    Wire:   VERSION u4 = 4 | IHL u4 | TOS u8 | TOTAL LENGTH u16 | IDENTIFICATION u16 | FLAGS u3 | OFFSET u13
            | TTL u8 | PROTOCOL u8 | CHECKSUM u16 | SOURCE | DESTINATION | options       (RFC 791 §3.1)
    Raises: MalformedMessage.
    """
    size = len(raw)
    if size < 20:
        raise MalformedMessage("The packet is shorter than an IPv4 header.")
    first, _, length, identification, fragment, _, protocol, _, source, destination = _HEADER4.unpack_from(raw)
    header = (first & 15) * 4
    if header < 20 or header > size or length != size:
        raise MalformedMessage(f"The IPv4 packet has {size} bytes; its header says {length}, {header} of them its own.")
    if not is_sound(raw[:header]):  # RFC 1122 §3.2.1.2
        raise MalformedMessage("The IPv4 header's checksum is wrong.")
    if header > 20:
        _check_options4(raw[20:header])
    payload, part = raw[header:], None
    if fragment & 0x3FFF:
        more, offset = bool(fragment & 0x2000), (fragment & 0x1FFF) * 8
        _check_part(offset, len(payload), more=more)
        part = Part(identification, offset, more, header)
    return Packet(4, source, destination, protocol, 9, payload, part, raw)


def is_between_hosts(packet: Packet) -> bool:
    """Whether a packet goes from one host to one host, so that it may be answered by an error or a reset.

    Not 0/8, 127/8, multicast, class E and broadcast as a source, nor the last three as a destination (RFC 1122
    §3.2.2, RFC 4443 §2.4 (e), RFC 9293 §3.9.2.3). A subnet's own broadcast address looks like any other: whoever
    knows the subnets must ask first.
    """
    source, destination = packet.source, packet.destination
    if packet.version == 4:
        return source[0] not in {0, 127} and source[0] < 224 and destination[0] < 224
    return source[0] != 0xFF and destination[0] != 0xFF and any(source)


def _check_options4(options: memoryview) -> None:
    """KIND u8 | LENGTH u8 | data, or KIND 0 (the end) or 1 (nothing) alone; a source's routes are not followed.

    Raises: MalformedMessage.
    """
    at = 0
    while at < len(options) and (kind := options[at]):
        if kind == 1:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            raise MalformedMessage("The IPv4 packet has an option that does not fit its header.")
        if kind in {_LOOSE_ROUTE, _STRICT_ROUTE}:  # RFC 7126 §4.3, §4.4
            raise MalformedMessage("The IPv4 packet wants a route of its own.")
        at += length


def _parse6(raw: memoryview) -> Packet:
    """Take an IPv6 packet apart.

    Wire:   VERSION u4 = 6 | CLASS u8 | FLOW u20 | PAYLOAD LENGTH u16 | NEXT HEADER u8 | HOPS u8
            | SOURCE | DESTINATION | extension headers                                     (RFC 8200 §3, §4)
    Raises: MalformedMessage.
    """
    size = len(raw)
    if size < 40:
        raise MalformedMessage("The packet is shorter than an IPv6 header.")
    _, length, kind, _, source, destination = _HEADER6.unpack_from(raw)
    if length + 40 != size:
        raise MalformedMessage(f"The IPv6 packet has {size} bytes; its header says {length + 40}.")
    at, named_at = 40, 6
    for _ in range(IPV6_EXTENSION_HEADERS + 1):
        if kind not in {HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS}:
            return Packet(6, source, destination, kind, named_at, raw[at:], None, raw)
        if at + 8 > size:
            raise MalformedMessage("The IPv6 packet ends within an extension header.")
        if kind == FRAGMENT_HEADER:
            part = _part6(raw, at)
            if part.offset or part.more:
                return Packet(6, source, destination, raw[at], named_at, raw[at + 8 :], part, raw)
            end = at + 8
        else:
            end = at + 8 + 8 * raw[at + 1]
            if end > size:
                raise MalformedMessage("The IPv6 packet ends within an extension header.")
            _check_extension(kind, raw[at:end], first=at == 40)
        kind, named_at, at = raw[at], at, end
    raise MalformedMessage(f"The IPv6 packet has more than {IPV6_EXTENSION_HEADERS} extension headers.")


def _part6(raw: memoryview, at: int) -> Part:
    """NEXT HEADER u8 | zero u8 | OFFSET u13, zero u2, MORE u1 | IDENTIFICATION u32 (RFC 8200 §4.5)."""
    word = raw[at + 2] << 8 | raw[at + 3]
    offset, more = word & 0xFFF8, bool(word & 1)
    _check_part(offset, len(raw) - at - 8, more=more)
    return Part(int.from_bytes(raw[at + 4 : at + 8]), offset, more, at)


def _check_part(offset: int, length: int, *, more: bool) -> None:
    """Whether a fragment can be one (RFC 791 §3.2, RFC 8200 §4.5).

    Raises: MalformedMessage.
    """
    if more and (length % 8 or not length):
        raise MalformedMessage("The fragment's length is no multiple of 8 bytes, and it is not the last.")
    if offset + length > PACKET_BYTES:
        raise MalformedMessage("The fragment lies beyond the end of a packet.")


def _check_extension(kind: int, header: memoryview, *, first: bool) -> None:
    """Whether a header lets us take the packet: one that is for us, without options that we had to understand.

    Raises: MalformedMessage.
    """
    if kind == ROUTING:
        if header[3]:  # segments left (RFC 8200 §4.4)
            raise MalformedMessage("The IPv6 packet wants a route of its own.")
        return
    if kind == HOP_BY_HOP and not first:  # RFC 8200 §4.1
        raise MalformedMessage("The IPv6 packet has a hop-by-hop header that is not its first.")
    at = 2
    while at < len(header):
        option = header[at]
        if not option:  # Pad1
            at += 1
            continue
        if at + 2 > len(header) or at + 2 + header[at + 1] > len(header):
            raise MalformedMessage("The IPv6 packet has an option that does not fit its header.")
        if option >> 6:  # RFC 8200 §4.2: not to be skipped by whoever does not know it
            raise MalformedMessage(f"The IPv6 packet has the unknown option {option}.")
        at += 2 + header[at + 1]


def header4(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """An IPv4 header for a payload of ``length`` bytes: not to be fragmented, so that it needs no ID (RFC 6864 §4.1).

    Raises: ValueError: more than a packet holds.
    """
    if length + 20 > PACKET_BYTES:
        raise ValueError(f"an IPv4 payload of {length} bytes")
    fields = (0x45, 0, length + 20, 0, 0x4000, HOPS, protocol)
    return _HEADER4.pack(*fields, checksum(_HEADER4.pack(*fields, 0, source, destination)), source, destination)


def header6(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """An IPv6 header for a payload of ``length`` bytes.

    Raises: ValueError: more than a packet holds.
    """
    if length > PACKET_BYTES:
        raise ValueError(f"an IPv6 payload of {length} bytes")
    return _HEADER6.pack(6 << 28, length, protocol, HOPS, source, destination)


def build(source: bytes, destination: bytes, protocol: int, payload: Bytes) -> bytes:
    """A packet, of the addresses' family.

    Raises: ValueError: more than a packet holds.
    """
    header = header4 if len(source) == 4 else header6
    return header(source, destination, protocol, len(payload)) + payload


def with_hops(packet: bytes, hops: int) -> bytes:
    """A packet that ``build`` made, with another TTL or Hop Limit, 0 to 255."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((hops,)) + packet[8:]
    made = bytearray(packet)
    made[8] = hops
    made[10:12] = b"\x00\x00"
    made[10:12] = checksum(made[:20]).to_bytes(2)
    return bytes(made)
