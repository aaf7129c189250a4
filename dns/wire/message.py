"""DNS messages: a strict parser for queries, an encoder for our answers (RFC 1035 §4, RFC 6891).

Queries come from anybody, so they are parsed here, in one pass without recursion: dnslib's parser refuses
labels that are no UTF-8, follows pointers recursively and takes reserved label types for lengths.
Answers are ours, so dnslib encodes them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple

from dnslib import AAAA, EDNS0, NS, PTR, RR, SOA, SRV, TXT, A, DNSHeader, DNSLabel, DNSQuestion, DNSRecord

from dconnect.core.address import IPAddress
from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import DNS_UDP_BYTES

HEADER_BYTES = 12
TTL = 1
"""Seconds. A container may have another address at any moment, and asking us again costs microseconds."""

IN = 1
TYPE_A, TYPE_NS, TYPE_SOA, TYPE_PTR, TYPE_TXT, TYPE_AAAA, TYPE_SRV, TYPE_OPT = 1, 2, 6, 12, 16, 28, 33, 41
TYPE_IXFR, TYPE_AXFR, TYPE_ANY = 251, 252, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

QR, AA, _TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
AD, CD = 0x0020, 0x0010
_REPEATED = RD | AD | CD
"""Header bits that ordinary clients set."""
DO = 0x8000
_SOA_TIMES = (1, 3600, 600, 86400, TTL)
"""Serial, refresh, retry, expire, minimum. Nobody transfers this zone; the minimum is the negative TTL."""

_STRING_BYTES = 255
"""Of one string in TXT (RFC 1035 §3.3)."""

HEADER = struct.Struct(">HHHHHH")
TYPE_CLASS = struct.Struct(">HH")
RECORD = struct.Struct(">HHIH")


class Service(NamedTuple):
    """What SRV says of a server, its weight apart, which is 0 (RFC 2782)."""

    priority: int
    """The lower ones are to be used first."""
    port: int
    target: str
    """A normal name."""


class Record(NamedTuple):
    """One record of the queried name.

    An address for A and AAAA, a normal name for NS and PTR, the apex for SOA, strings for TXT, a service for SRV.
    """

    type: int
    data: IPAddress | str | tuple[str, ...] | Service


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query (RFC 6891 §6.1.3)."""

    version: int
    udp_bytes: int
    """Largest UDP answer that the client takes; at least 512."""
    dnssec_ok: bool
    options: bool
    """Whether it carries any option; cookies (RFC 7873) make each query unique."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question."""

    id: int
    flags: int
    labels: tuple[bytes, ...]
    """As the client spelled them; answers repeat the spelling (RFC 4343 §4.1, 0x20)."""
    qtype: int
    qclass: int
    edns: Edns | None

    @property
    def name(self) -> str:
        """Lower-case, without trailing dot; a dot inside a label becomes NUL, which no name has."""
        labels = [label.replace(b".", b"\0") for label in self.labels]
        return b".".join(labels).lower().decode("latin-1")  # latin-1: bytes above 127 stay distinct (RFC 2181 §11)

    @property
    def udp_limit(self) -> int:
        """Bytes that an answer over UDP may have."""
        return 512 if self.edns is None else max(512, min(self.edns.udp_bytes, DNS_UDP_BYTES))

    @property
    def repeatable(self) -> bool:
        """Whether other queries are likely to have the very same bytes: no 0x20 case, no options, no odd flags."""
        lower = all(label == label.lower() for label in self.labels)
        return lower and not self.flags & ~_REPEATED and not (self.edns is not None and self.edns.options)


def opcode(data: bytes) -> int:
    """The operation of a message of at least 12 bytes; 0 is QUERY."""
    return (data[2] >> 3) & 15


def is_response(data: bytes) -> bool:
    """Whether QR is set in a message of at least 12 bytes."""
    return bool(data[2] & 0x80)


def is_truncated(data: bytes) -> bool:
    """Whether TC is set in a message of at least 12 bytes."""
    return bool(data[2] & 0x02)


def parse_query(data: bytes) -> Query:
    """Parse a query of at least 12 bytes whose opcode is QUERY.

    Wire:   ID u16 | flags u16 | QD, AN, NS, AR counts u16 × 4 | question | records     (RFC 1035 §4.1)
            question: QNAME labels | QTYPE u16 | QCLASS u16
            OPT:      00 | TYPE u16 = 41 | CLASS u16 = UDP size | TTL u32 = RCODE u8, VERSION u8, DO and Z u16
                      | RDLENGTH u16 | (CODE u16 | LENGTH u16 | octets)*                (RFC 6891 §6.1.2)
    Raises: MalformedMessage: not exactly one question (RFC 9619), a name beyond 255 octets or with a label type
            other than 00, a record or option that overruns, OPT twice or not at the root, trailing bytes.
    """
    ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if questions != 1:
        raise MalformedMessage(f"A query with {questions} questions.")
    labels, offset = _question_name(data)
    try:
        qtype, qclass = TYPE_CLASS.unpack_from(data, offset)
        offset += 4
        edns = None
        for _ in range(answers + authorities + additionals):
            root = data[offset] == 0
            offset = skip_name(data, offset)
            kind, size, ttl, length = RECORD.unpack_from(data, offset)
            offset += 10 + length
            if kind == TYPE_OPT:
                if edns is not None or not root:
                    raise MalformedMessage("OPT stands once, at the root (RFC 6891 §6.1).")
                _check_options(data[offset - length : offset], length)
                edns = Edns((ttl >> 16) & 0xFF, max(512, size), bool(ttl & DO), length > 0)
    except (IndexError, struct.error):
        raise MalformedMessage("The message ends early.") from None
    if offset != len(data):
        raise MalformedMessage("The message's length is not what its records say.")
    return Query(ident, flags, labels, qtype, qclass, edns)


def _question_name(data: bytes) -> tuple[tuple[bytes, ...], int]:
    """The labels at offset 12 and the offset after them. There is nothing yet to which a pointer could point."""
    labels: list[bytes] = []
    offset = HEADER_BYTES
    while offset < len(data):
        length = data[offset]
        offset += 1
        if not length:
            return tuple(labels), offset
        if length > 63:
            raise MalformedMessage("A label of more than 63 octets, or a pointer in the question.")
        labels.append(data[offset : offset + length])
        offset += length
        if offset - HEADER_BYTES > 254:  # with the root's zero 255 (RFC 1035 §2.3.4)
            raise MalformedMessage("A name of more than 255 octets.")
    raise MalformedMessage("The message ends inside its question.")


def skip_name(data: bytes, offset: int) -> int:
    """The offset after a record's owner; pointers end a name and are not followed.

    Raises: IndexError when the message ends before; MalformedMessage.
    """
    while length := data[offset]:
        if length >= 0xC0:
            return offset + 2
        if length > 63:
            raise MalformedMessage("A label type that does not exist.")
        offset += 1 + length
    return offset + 1


def _check_options(options: bytes, length: int) -> None:
    if len(options) != length:
        raise MalformedMessage("The OPT record ends early.")
    offset = 0
    while offset < length:
        _, size = TYPE_CLASS.unpack_from(options, offset)
        offset += 4 + size
    if offset != length:
        raise MalformedMessage("An EDNS option overruns its record.")


def encode_header(data: bytes, rcode: int) -> bytes:
    """A bare header in reply to a message of at least 12 bytes that could not be read: ID, opcode and RD copied."""
    ident, flags = struct.unpack_from(">HH", data)
    return HEADER.pack(ident, QR | (flags & (_OPCODE | RD)) | rcode, 0, 0, 0, 0)


def encode(
    query: Query,
    rcode: int,
    answers: Sequence[Record] = (),
    *,
    apex: str | None = None,
    nameserver: str = "",
    truncated: bool = False,
    recursion: bool = False,
) -> bytes:
    """Encode our answer.

    Args:
        query: its ID, RD and question are repeated, and OPT if it has one.
        rcode: up to 12 bits; the upper eight need a query with OPT.
        answers: records of the queried name.
        apex: the zone's name; the answer is then authoritative, and a negative one has its SOA (RFC 2308 §3).
        nameserver: primary server in an SOA.
        recursion: we ask others for whoever wants it (RA).
        truncated: leave the answers out and say so (TC), so that the client comes by TCP.
    """
    flags = QR | (query.flags & RD) | (_TC if truncated else 0) | (RA if recursion else 0) | (rcode & 15)
    if apex is not None:
        flags |= AA
    message = DNSRecord(DNSHeader(query.id, flags))
    owner = DNSLabel(query.labels)
    message.questions.append(DNSQuestion(owner, query.qtype, query.qclass))
    if not truncated:
        message.rr.extend(_record(owner, record, nameserver) for record in answers)
    if apex is not None and not answers and not truncated:
        message.auth.append(_record(_label(apex), Record(TYPE_SOA, apex), nameserver))
    if query.edns is not None:
        flag = "do" if query.edns.dnssec_ok else ""  # RFC 3225 §3: the bit is copied
        message.ar.append(EDNS0("", ext_rcode=rcode >> 4, flags=flag, udp_len=DNS_UDP_BYTES))
    message.set_header_qa()
    return bytes(message.pack())


def _record(owner: DNSLabel, record: Record, nameserver: str) -> RR:
    match record.data:
        case Service(priority=priority, port=port, target=target):
            rdata = SRV(priority, 0, port, _label(target))
        case tuple(texts):
            rdata = TXT([text.encode()[:_STRING_BYTES] for text in texts])
        case str(name) if record.type == TYPE_SOA:
            rdata = SOA(_label(nameserver), _label(f"hostmaster.{nameserver}"), _SOA_TIMES)
        case str(name):
            rdata = (PTR if record.type == TYPE_PTR else NS)(_label(name))
        case address:
            rdata = (A if isinstance(address, IPv4Address) else AAAA)(tuple(address.packed))
    return RR(owner, record.type, IN, TTL, rdata)


def _label(name: str) -> DNSLabel:
    return DNSLabel(tuple(name.encode("latin-1").split(b".")))
