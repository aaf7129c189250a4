"""Other servers' answers: what a forwarder must know of them, and what it may change (RFC 1035 §4, RFC 2308 §5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import DNS_UDP_BYTES
from dconnect.dns.wire.message import (
    AA,
    AD,
    CD,
    DO,
    HEADER,
    HEADER_BYTES,
    NOERROR,
    NXDOMAIN,
    RA,
    RD,
    RECORD,
    TYPE_CLASS,
    TYPE_OPT,
    TYPE_SOA,
    Query,
    is_response,
    is_truncated,
    skip_name,
)

_TTL = struct.Struct(">I")
_TTL_AT = 4
"""Bytes from a record's TYPE to its TTL."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer as it came."""

    data: bytes
    rcode: int
    truncated: bool
    records: int
    """Of the answer section."""
    ttl: int
    """Seconds for which it may be kept: the least of its records, for a negative one its SOA says; 0 without that."""
    ttls: tuple[int, ...]
    """Offsets of all TTLs, but not OPT's, which is none."""

    @property
    def final(self) -> bool:
        """Whether it says what there is, rather than that its server could not tell."""
        return self.rcode in (NOERROR, NXDOMAIN)


def encode_question(query: Query, ident: int) -> bytes:
    """The same question of our own: with RD, and with OPT if the client's has it, without its options."""
    flags = RD | (query.flags & (AD | CD))
    message = HEADER.pack(ident, flags, 1, 0, 0, 0 if query.edns is None else 1)
    return message + _question(query) + (_opt(query) if query.edns is not None else b"")


def parse_response(data: bytes, asked: bytes) -> Response | None:
    """Read what came in reply to ``encode_question``'s bytes; None if it is no reply to them (RFC 5452 §9.1).

    Raises: MalformedMessage: it is one, but a record overruns or lies.
    """
    end = len(asked) if asked[10:12] == b"\0\0" else len(asked) - 11
    if len(data) < HEADER_BYTES or data[:2] != asked[:2] or not is_response(data) or data[4:6] != b"\0\1":
        return None
    if data[HEADER_BYTES:end] != asked[HEADER_BYTES:end]:
        return None
    _, flags, _, answers, authorities, additionals = HEADER.unpack_from(data)
    opt = 0
    """Where OPT stands, if it is the last record; elsewhere nobody writes it, and it could not be cut out."""
    keep: list[int] = []
    ttls: list[int] = []
    negative: list[tuple[int, int]] = []
    """Of each SOA in the authority section where its TTL stands, and how long it tells that something is not there."""
    try:
        for number, (offset, kind, ttl, soa) in enumerate(_records(data, end, answers + authorities + additionals)):
            if kind == TYPE_OPT:
                opt = offset - 1  # before it stands the root's name
                continue
            opt = 0
            ttls.append(offset + _TTL_AT)
            if number < answers:
                keep.append(ttl)
            elif kind == TYPE_SOA and number < answers + authorities:  # behind a CNAME too (RFC 2308 §2.2)
                keep.append(min(ttl, soa))
                negative.append((offset + _TTL_AT, keep[-1]))
    except (IndexError, struct.error):
        raise MalformedMessage("The answer ends early.") from None
    if opt:  # it was for us (RFC 6891 §6.1.1)
        data = data[:10] + struct.pack(">H", additionals - 1) + data[HEADER_BYTES:opt]
    if negative:  # which is counted down; the minimum itself is not (RFC 2308 §5)
        told = bytearray(data)
        for at, seconds in negative:
            _TTL.pack_into(told, at, seconds)
        data = bytes(told)
    seconds = min(keep) if keep else 0
    return Response(data, flags & 15, is_truncated(data), answers, seconds, tuple(ttls))


def _records(data: bytes, offset: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each record the offset of its TYPE, the type, the TTL, and of SOA the minimum."""
    for _ in range(count):
        at = skip_name(data, offset)
        kind, _, ttl, length = RECORD.unpack_from(data, at)
        offset = at + RECORD.size + length
        if offset > len(data):
            raise MalformedMessage("A record overruns its message.")
        minimum = 0
        if kind == TYPE_SOA and length >= _TTL.size:
            (minimum,) = _TTL.unpack_from(data, offset - _TTL.size)
        yield at, kind, 0 if ttl >> 31 else ttl, minimum  # RFC 2181 §8: with the top bit set it counts as 0


def encode_for(query: Query, response: Response, *, age: int, least: int = 0) -> bytes:
    """A kept answer for whoever asks now: its ID and spelling, TTLs counted down, RA set, AA not.

    Args:
        query: who asks; the name is the same but for its case.
        response: what was kept.
        age: seconds since it came.
        least: no TTL less than this (RFC 8767 §4).
    """
    data = bytearray(response.data)
    (flags,) = struct.unpack_from(">H", data, 2)
    flags = (flags & ~(AA | RD)) | RA | (query.flags & RD)
    struct.pack_into(">HH", data, 0, query.id, flags)
    question = _question(query)
    data[HEADER_BYTES : HEADER_BYTES + len(question)] = question
    for offset in response.ttls:
        (ttl,) = _TTL.unpack_from(data, offset)
        _TTL.pack_into(data, offset, max(least, ttl - age) if not ttl >> 31 else 0)
    if query.edns is not None:
        (additionals,) = struct.unpack_from(">H", data, 10)
        struct.pack_into(">H", data, 10, additionals + 1)
        data += _opt(query)
    return bytes(data)


def _opt(query: Query) -> bytes:
    """Our own OPT: for a server, our question's; for a client, the answer's."""
    flag = DO if query.edns is not None and query.edns.dnssec_ok else 0
    return b"\0" + RECORD.pack(TYPE_OPT, DNS_UDP_BYTES, flag, 0)


def _question(query: Query) -> bytes:
    labels = b"".join(bytes((len(label),)) + label for label in query.labels)
    return labels + b"\0" + TYPE_CLASS.pack(query.qtype, query.qclass)
