"""The codec, with queries as dig 9.18 sends them and answers as RFC 1035 lays them out."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from dnslib import AAAA, EDNS0, QTYPE, RR, A, DNSRecord

from dconnect.core.errors import MalformedMessage
from dconnect.dns.wire.message import (
    NOERROR,
    NXDOMAIN,
    REFUSED,
    Edns,
    Query,
    Record,
    encode,
    encode_header,
    parse_query,
)

PLAIN = bytes.fromhex("6a68012000010000000000000377656206646f636b65720000010001")  # web.docker A +noedns
EDNS = bytes.fromhex("293e012000010000000000010377656206646f636b6572000001000100002904d0000000000000")  # +nocookie
COOKIE = bytes.fromhex(  # dig's default
    "449e012000010000000000010377656206646f636b6572000001000100002904d000000000000c000a0008c3b1669b479434f9"
)
MIXED = bytes.fromhex("bd75002000010000000000000357654206646f636b657200001c0001")  # WeB.docker AAAA +norec
DNSSEC = bytes.fromhex(  # +dnssec +bufsize=4096
    "8a02012000010000000000010377656206646f636b657200000100010000291000000080000000"
)


def test_a_plain_query_is_read() -> None:
    assert parse_query(PLAIN) == Query(0x6A68, 0x0120, (b"web", b"docker"), 1, 1, None)


def test_edns_is_read() -> None:
    assert parse_query(EDNS).edns == Edns(version=0, udp_bytes=1232, dnssec_ok=False, options=False)
    assert parse_query(COOKIE).edns == Edns(version=0, udp_bytes=1232, dnssec_ok=False, options=True)
    assert parse_query(DNSSEC).edns == Edns(version=0, udp_bytes=4096, dnssec_ok=True, options=False)


def test_the_name_is_lower_case_and_the_labels_are_as_sent() -> None:
    query = parse_query(MIXED)
    assert query.name == "web.docker"
    assert query.labels == (b"WeB", b"docker")


def test_a_dot_inside_a_label_is_no_separator() -> None:
    query = parse_query(PLAIN.replace(b"\x03web\x06docker", b"\x0aweb.docker"))
    assert query.labels == (b"web.docker",)
    assert query.name == "web\0docker"


def test_labels_may_hold_any_octets() -> None:
    assert parse_query(PLAIN.replace(b"web", b"\xff\x00\x80")).name == "\xff\0\x80.docker"


def test_only_queries_whose_bytes_may_come_again_are_repeatable() -> None:
    assert parse_query(PLAIN).repeatable
    assert parse_query(EDNS).repeatable
    assert parse_query(DNSSEC).repeatable
    assert not parse_query(COOKIE).repeatable
    assert not parse_query(MIXED).repeatable
    assert not parse_query(PLAIN[:2] + b"\x01\x40" + PLAIN[4:]).repeatable  # the Z bit


@pytest.mark.parametrize("message", [PLAIN, EDNS, COOKIE, DNSSEC])
def test_a_query_cut_anywhere_is_malformed(message: bytes) -> None:
    for size in range(12, len(message)):
        with pytest.raises(MalformedMessage):
            parse_query(message[:size])


def test_trailing_bytes_are_malformed() -> None:
    with pytest.raises(MalformedMessage, match="length"):
        parse_query(PLAIN + b"\0")


def question(name: bytes) -> bytes:
    return PLAIN[:12] + name + b"\0\x01\0\x01"


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",  # a pointer to itself
        b"\x03web\xc0\x0c",
        b"\x40" + bytes(64) + b"\0",  # label types 01 and 10 (RFC 6891 §5, RFC 1035 §4.1.4)
        b"\x80\0",
        b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3f" + b"d" * 63 + b"\0",
    ],
)
def test_pointers_reserved_label_types_and_overlong_names_are_malformed(name: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_query(question(name))


def test_the_longest_name_is_read() -> None:
    name = b"".join(b"\x3f" + bytes([letter]) * 63 for letter in b"abc") + b"\x3d" + b"d" * 61 + b"\0"
    assert len(name) == 255
    assert len(parse_query(question(name)).labels) == 4
    with pytest.raises(MalformedMessage, match="255"):
        parse_query(question(name.replace(b"\x3d", b"\x3ed")))


def with_records(count: bytes, records: bytes) -> bytes:
    """The plain query, with counts of the three record sections and their bytes."""
    return PLAIN[:6] + count + PLAIN[12:] + records


OPT = EDNS[28:]


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("two OPT", with_records(b"\0\0\0\0\0\2", OPT + OPT)),
        ("OPT not at the root", with_records(b"\0\0\0\0\0\1", b"\x01x" + OPT)),
        ("an option that overruns", with_records(b"\0\0\0\0\0\1", OPT[:-2] + b"\0\x06\0\x0a\0\x08ab")),
        ("half an option", with_records(b"\0\0\0\0\0\1", OPT[:-2] + b"\0\x02\0\x0a")),
        ("more records than bytes", with_records(b"\xff\xff\xff\xff\xff\xff", OPT)),
        ("a record that overruns", with_records(b"\0\0\0\0\0\1", b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x05\x7f\0\0\1")),
        ("a reserved label type", with_records(b"\0\0\0\0\0\1", b"\x80" + OPT)),
    ],
)
def test_records_that_break_the_rules_are_malformed(why: str, message: bytes) -> None:
    assert why
    with pytest.raises(MalformedMessage):
        parse_query(message)


def test_other_records_are_passed_over_pointers_and_all() -> None:
    record = b"\x01x\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x7f\0\0\1"
    assert parse_query(with_records(b"\0\x01\0\x01\0\x02", record * 3 + OPT)).edns is not None


# -- answers ---------------------------------------------------------------------------------


def test_an_address_is_answered_with_a_pointer_to_the_question() -> None:
    answer = encode(parse_query(PLAIN), NOERROR, [Record(1, ip_address("172.18.0.2"))], apex="docker")
    # QR, AA, RD; counts 1 1 0 0; the question; C00C, A, IN, TTL 1, 4 octets (RFC 1035 §4.1).
    assert answer == bytes.fromhex(
        "6a68 8500 0001 0001 0000 0000 0377656206646f636b657200 0001 0001 c00c 0001 0001 00000001 0004 ac120002"
    )


def test_a_negative_answer_has_the_soa_of_the_zone() -> None:
    answer = encode(parse_query(PLAIN), NXDOMAIN, apex="docker", nameserver="dconnect.docker")
    # Names may end in a pointer to where they stood before (RFC 1035 §4.1.4): "docker" at 16, "dconnect.docker" at 40.
    assert answer == bytes.fromhex(
        "6a68 8503 0001 0000 0001 0000 0377656206646f636b657200 0001 0001"
        "c010 0006 0001 00000001 002c 0864636f6e6e656374c010 0a686f73746d6173746572c028"
        "00000001 00000e10 00000258 00015180 00000001"
    )


def test_a_refusal_is_a_header_the_question_and_no_authority() -> None:
    assert encode(parse_query(PLAIN), REFUSED) == PLAIN[:2] + b"\x81\x05" + PLAIN[4:]


def test_a_bare_header_copies_id_opcode_and_rd() -> None:
    update = bytes.fromhex("79f4292000010000000000000377656206646f636b65720000010001")  # dig +opcode=update
    assert encode_header(update, 4) == bytes.fromhex("79f4 a904 0000 0000 0000 0000")


@pytest.mark.parametrize("message", [PLAIN, EDNS, DNSSEC, MIXED])
def test_dnslib_encodes_the_same_answer_into_the_same_bytes(message: bytes) -> None:
    query = parse_query(message)
    addresses = [ip_address("10.0.0.2"), ip_address("10.0.0.3"), ip_address("fd00::2")]
    ours = encode(query, NOERROR, [Record(1 if each.version == 4 else 28, each) for each in addresses], apex="docker")
    theirs = DNSRecord.parse(message).reply(ra=0, aa=1)
    theirs.header.ad = 0  # dnslib repeats it, though it would claim a validation (RFC 4035 §3.2.3)
    for each in addresses:
        rdata = A(str(each)) if each.version == 4 else AAAA(str(each))
        theirs.add_answer(RR(theirs.q.qname, QTYPE.A if each.version == 4 else QTYPE.AAAA, ttl=1, rdata=rdata))
    if query.edns is not None:
        theirs.add_ar(EDNS0("", flags="do" if query.edns.dnssec_ok else "", udp_len=1232))
    assert ours == bytes(theirs.pack())
