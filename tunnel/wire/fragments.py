"""Datagrams in fragments: put together (RFC 791 §3.2, RFC 8200 §4.5), and split for a device's MTU.

A reassembly that fails is silent. Time Exceeded (RFC 792) would tell hosts that wait for an answer; ours are on the
same machine, and its kernel gave us the fragments in a row.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from typing import TypeAlias

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import LEAST_MTU, PACKET_BYTES, REASSEMBLY_BYTES, REASSEMBLY_DATAGRAMS, REASSEMBLY_SECONDS
from dconnect.tunnel.wire.checksum import checksum
from dconnect.tunnel.wire.packets import FRAGMENT_HEADER, TCP, UDP, Packet, Part

_Key: TypeAlias = tuple[bytes, bytes, int, int]

_PIECE_BYTES = 128
"""What a piece takes in memory beside its bytes, so that small ones do not slip through the bound."""
_LEAST_UPPER = {TCP: 20, UDP: 8}
"""Bytes of a header that the first fragment must have whole; of others, 8."""


class _Datagram:
    """One that is under way."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.offsets: list[int] = []
        """Of the pieces, ascending."""
        self.pieces: dict[int, bytes] = {}
        self.header = b""
        """All that stands before the payload, from the first fragment."""
        self.end: int | None = None
        """Of the payload, once the last fragment is there."""
        self.received = 0
        self.held = 0
        self.refused = False
        """Fragments overlapped: whatever else comes of it is dropped too (RFC 5722 §4)."""


class Reassembly:
    """Fragments that wait for the others of their datagrams, in bounds."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[_Key, _Datagram] = OrderedDict()  # the oldest first
        self._held = 0

    def __len__(self) -> int:
        """Datagrams under way, those included of which more must be dropped."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Bytes kept, with what pieces take beside their own."""
        return self._held

    def add(self, packet: Packet, now: float) -> bytes | None:
        """Take a fragment.

        Args:    packet: one whose ``part`` is not None; its bytes are copied.
                 now: any clock that does not go backwards, in seconds.
        Returns: the whole packet when this was the missing piece, as if it had never been in fragments.
        Raises:  MalformedMessage: it cannot belong to the others, and its datagram is given up. Fragments that come
                 for it later are dropped in silence.
        """
        self._expire(now)
        part = packet.part
        if part is None:
            raise ValueError("no fragment")
        protocol = packet.protocol if packet.version == 4 else 0  # IPv6: the first fragment's counts (RFC 8200 §4.5)
        key = (packet.source, packet.destination, protocol, part.identification)
        datagram = self._waiting.get(key)
        if datagram is None:
            if len(self._waiting) >= REASSEMBLY_DATAGRAMS:
                self._forget(next(iter(self._waiting)))
            datagram = self._waiting[key] = _Datagram(now)
        if datagram.refused or _repeats(datagram, packet, part):
            return None
        if (reason := _contradiction(datagram, packet, part)) is not None:
            self._refuse(datagram)
            raise MalformedMessage(reason)
        self._keep(datagram, packet, part)
        if datagram.received == datagram.end:
            del self._waiting[key]
            self._held -= datagram.held
            return _whole(datagram)
        while self._held > REASSEMBLY_BYTES:
            self._forget(next(iter(self._waiting)))
        return None

    def _keep(self, datagram: _Datagram, packet: Packet, part: Part) -> None:
        if not part.offset:
            header = bytearray(packet.raw[: part.header])
            header[packet.named_at] = packet.protocol
            datagram.header = bytes(header)
        if not part.more:
            datagram.end = part.offset + len(packet.payload)
        bisect.insort(datagram.offsets, part.offset)
        datagram.pieces[part.offset] = bytes(packet.payload)
        datagram.received += len(packet.payload)
        held = len(packet.payload) + _PIECE_BYTES
        datagram.held += held
        self._held += held

    def _expire(self, now: float) -> None:
        while self._waiting:
            key, datagram = next(iter(self._waiting.items()))
            if now - datagram.since < REASSEMBLY_SECONDS:
                return
            self._forget(key)

    def _forget(self, key: _Key) -> None:
        self._held -= self._waiting.pop(key).held

    def _refuse(self, datagram: _Datagram) -> None:
        self._held -= datagram.held
        datagram.held = 0
        datagram.refused = True
        datagram.pieces.clear()
        datagram.offsets.clear()


def _repeats(datagram: _Datagram, packet: Packet, part: Part) -> bool:
    """Whether the very same fragment is there already: networks double packets (RFC 8200 §4.5)."""
    there = datagram.pieces.get(part.offset)
    if there is None or packet.payload != memoryview(there):
        return False
    is_last = datagram.end is not None and part.offset == datagram.offsets[-1]
    return part.more != is_last


def _contradiction(datagram: _Datagram, packet: Packet, part: Part) -> str | None:
    """Why a fragment cannot belong to those that are there."""
    start, end = part.offset, part.offset + len(packet.payload)
    if not start and len(packet.payload) < _LEAST_UPPER.get(packet.protocol, 8):
        return "The first fragment ends within the header of what it carries."  # RFC 7112 §5
    last = datagram.end
    if last is not None and (end > last or not part.more):
        return "Fragments of one datagram disagree about its end."
    at = bisect.bisect_right(datagram.offsets, start)
    if at and datagram.offsets[at - 1] + len(datagram.pieces[datagram.offsets[at - 1]]) > start:
        return "Fragments overlap."
    if at < len(datagram.offsets) and (datagram.offsets[at] < end or not part.more):
        return "Fragments overlap, or lie behind the last."
    return None


def _whole(datagram: _Datagram) -> bytes:
    """The packet: the first fragment's header, without a word about fragments, and the payload.

    Raises: MalformedMessage: more than a packet holds.
    """
    header = bytearray(datagram.header)
    size = datagram.received
    four = header[0] >> 4 == 4
    if len(header) + size > PACKET_BYTES + (0 if four else 40):
        raise MalformedMessage("The fragments are together more than a packet holds.")
    if four:
        header[2:4] = (len(header) + size).to_bytes(2)
        header[6:8] = b"\x40\x00"  # an atomic datagram, whose ID means nothing (RFC 6864 §4.1)
        header[10:12] = b"\x00\x00"
        header[10:12] = checksum(header).to_bytes(2)
    else:
        header[4:6] = (len(header) - 40 + size).to_bytes(2)
    return bytes(header) + b"".join(datagram.pieces[offset] for offset in datagram.offsets)


def split(packet: bytes, mtu: int, identification: int) -> list[bytes]:
    """Fragments of a packet that ``packets.build`` made, where it is longer than the MTU; else the packet alone.

    Args:   identification: one that no other datagram between the two addresses had lately; of 16 bits for IPv4, 32
            for IPv6.
    Raises: ValueError: an MTU below IPv6's least.
    """
    if mtu < LEAST_MTU:
        raise ValueError(f"an MTU of {mtu}")
    if len(packet) <= mtu:
        return [packet]
    four = packet[0] >> 4 == 4
    header = 20 if four else 40
    step = (mtu - header - (0 if four else 8)) // 8 * 8
    payload = memoryview(packet)[header:]
    made = []
    for offset in range(0, len(payload), step):
        piece = payload[offset : offset + step]
        more = offset + step < len(payload)
        made.append((_fragment4 if four else _fragment6)(packet[:header], piece, offset, more, identification))
    return made


def _fragment4(header: bytes, piece: memoryview, offset: int, more: bool, identification: int) -> bytes:
    made = bytearray(header)
    made[2:4] = (20 + len(piece)).to_bytes(2)
    made[4:6] = identification.to_bytes(2)
    made[6:8] = (more << 13 | offset >> 3).to_bytes(2)
    made[10:12] = b"\x00\x00"
    made[10:12] = checksum(made).to_bytes(2)
    return bytes(made) + piece


def _fragment6(header: bytes, piece: memoryview, offset: int, more: bool, identification: int) -> bytes:
    made = bytearray(header)
    made[4:6] = (8 + len(piece)).to_bytes(2)
    made[6] = FRAGMENT_HEADER
    return bytes((*made, header[6], 0)) + (offset | more).to_bytes(2) + identification.to_bytes(4) + piece
