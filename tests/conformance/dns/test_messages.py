"""Messages: RFC 1035, 2181, 3225, 4343, 5936, 6891, 7766, 7873, 8906, 9619.

Queries are dig's bytes, changed where a clause needs it; answers are read by dnslib or by their offsets.
"""

from __future__ import annotations

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from kit.dns import asked, query, respond, serving
from kit.inventories import container, endpoint

WEB = container("web", endpoint("n", "10.0.0.2"))
BIG = container("big", *(endpoint(f"n{number}", f"10.1.{number}.2") for number in range(100)))
FEW = container("few", *(endpoint(f"n{number}", f"10.1.{number}.2") for number in range(40)))
"""40 addresses: 12 + 16 + 40 × 16 = 668 bytes, between the two limits of UDP."""

PLAIN = bytes.fromhex("6a68012000010000000000000377656206646f636b65720000010001")  # dig web.docker A +noedns
EDNS = bytes.fromhex("293e012000010000000000010377656206646f636b6572000001000100002904d0000000000000")  # +nocookie
QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010


def answered(message: bytes, *, stream: bool = False) -> bytes:
    answer = respond(serving(WEB, BIG, FEW), message, stream=stream)
    assert answer is not None
    return answer


def flags(message: bytes) -> int:
    return int.from_bytes(message[2:4], "big")


def with_flags(value: int) -> bytes:
    return PLAIN[:2] + value.to_bytes(2, "big") + PLAIN[4:]


# -- RFC 1035 --------------------------------------------------------------------------------


@pytest.mark.parametrize("ident", [0, 1, 0x8000, 0xFFFF])
def test_rfc1035_s4_1_1_the_id_is_copied(ident: int) -> None:
    resolver = serving(WEB)
    message = ident.to_bytes(2, "big") + PLAIN[2:]
    for _ in range(2):  # from the zone, and from the cache
        assert asked(resolver, message).header.id == ident


def test_rfc1035_s4_1_1_an_answer_has_qr_and_aa_and_no_ra() -> None:
    assert flags(answered(with_flags(0))) == QR | AA


def test_rfc1035_s4_1_1_rd_is_copied() -> None:
    assert flags(answered(with_flags(RD))) == QR | AA | RD


def test_rfc1035_s4_1_1_z_is_zero_in_answers_and_ignored_in_queries() -> None:
    assert flags(answered(with_flags(RD | Z | AA | TC | RA | 5))) == QR | AA | RD


def test_rfc1035_s4_1_1_a_response_is_not_answered() -> None:
    assert serving(WEB).respond(with_flags(QR)) is None


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
def test_rfc1035_s4_1_1_other_opcodes_are_not_implemented(opcode: int) -> None:
    assert flags(answered(with_flags(opcode << 11 | RD))) == QR | opcode << 11 | RD | RCODE.NOTIMP


def test_rfc1035_s4_1_1_an_unreadable_query_is_formerr() -> None:
    assert answered(PLAIN[:-3]) == PLAIN[:2] + (QR | RD | RCODE.FORMERR).to_bytes(2, "big") + bytes(8)


@pytest.mark.parametrize("message", [PLAIN, EDNS, PLAIN.replace(b"web", b"no!"), PLAIN.replace(b"docker", b"orange")])
def test_rfc1035_s4_1_2_the_question_is_repeated(message: bytes) -> None:
    answer = answered(message)
    assert answer[4:6] == b"\0\1"
    assert answer[12:28] == message[12:28]


def test_rfc1035_s3_2_4_class_ch_is_refused() -> None:
    assert flags(answered(PLAIN[:-2] + b"\0\3")) == QR | RD | RCODE.REFUSED


@pytest.mark.parametrize("qclass", [0, 2, 4, 254, 255, 0xFFFF])
def test_rfc1035_s3_2_5_other_classes_are_refused(qclass: int) -> None:
    assert flags(answered(PLAIN[:-2] + qclass.to_bytes(2, "big"))) == QR | RD | RCODE.REFUSED


def test_rfc1035_s2_3_4_labels_and_names_end_at_63_and_255_octets() -> None:
    longest = b"".join(b"\x3f" + b"a" * 63 for _ in range(3)) + b"\x3d" + b"a" * 61
    assert flags(answered(PLAIN[:12] + longest + b"\0\0\1\0\1")) & 15 == RCODE.REFUSED  # readable, and not ours
    longer = longest.replace(b"\x3d", b"\x3ea")
    assert flags(answered(PLAIN[:12] + longer + b"\0\0\1\0\1")) & 15 == RCODE.FORMERR


@pytest.mark.parametrize("target", [12, 16, 0, 40])
def test_rfc1035_s4_1_4_a_pointer_in_the_question_points_at_nothing_prior(target: int) -> None:
    name = b"\x03web" + (0xC000 | target).to_bytes(2, "big")
    assert flags(answered(PLAIN[:12] + name + b"\0\1\0\1")) & 15 == RCODE.FORMERR


def test_rfc1035_s4_2_1_udp_without_edns_carries_512_octets() -> None:
    answer = answered(PLAIN.replace(b"web", b"few"))
    assert len(answer) <= 512
    assert flags(answer) & TC


def test_rfc1035_s4_2_2_tcp_carries_more() -> None:
    answer = answered(PLAIN.replace(b"web", b"big"), stream=True)
    assert not flags(answer) & TC
    assert len(DNSRecord.parse(answer).rr) == 100


@pytest.mark.parametrize("qtype", ["AXFR", "IXFR"])
def test_rfc5936_s2_2_1_zone_transfers_are_refused(qtype: str) -> None:
    assert asked(serving(WEB), query("docker", qtype), stream=True).header.rcode == RCODE.REFUSED


# -- RFC 2181, 3225, 4343, 9619 --------------------------------------------------------------


def test_rfc2181_s9_a_truncated_answer_has_no_partial_records() -> None:
    record = DNSRecord.parse(answered(PLAIN.replace(b"web", b"big")))
    assert (record.header.tc, record.rr, record.auth) == (1, [], [])


def test_rfc2181_s11_labels_of_any_octets_are_names_and_not_errors() -> None:
    assert flags(answered(PLAIN.replace(b"web", b"\xff\0\x80"))) & 15 == RCODE.NXDOMAIN


def test_rfc3225_s3_the_do_bit_is_copied() -> None:
    dnssec = bytes.fromhex("8a02012000010000000000010377656206646f636b657200000100010000291000000080000000")
    assert DNSRecord.parse(answered(dnssec)).ar[0].edns_do == 1
    assert DNSRecord.parse(answered(EDNS)).ar[0].edns_do == 0


def test_rfc4035_s3_2_3_ad_is_never_set() -> None:
    assert not flags(answered(with_flags(RD | AD | CD))) & AD


@pytest.mark.parametrize("spelling", [b"WEB", b"wEb", b"Web"])
def test_rfc4343_s3_names_match_in_any_case(spelling: bytes) -> None:
    record = DNSRecord.parse(answered(PLAIN.replace(b"web", spelling)))
    assert [str(each.rdata) for each in record.rr] == ["10.0.0.2"]


def test_rfc4343_s4_1_the_questions_case_is_preserved_in_the_answer() -> None:
    record = DNSRecord.parse(answered(PLAIN.replace(b"web", b"wEb")))
    assert record.q.qname.label[0] == record.rr[0].rname.label[0] == b"wEb"


def test_rfc7873_s5_4_no_question_is_formerr_where_cookies_are_not_implemented() -> None:
    header_only = bytes.fromhex("7df401200000000000000000")  # dig +header-only
    assert flags(answered(header_only)) & 15 == RCODE.FORMERR


@pytest.mark.parametrize("count", [2, 0xFFFF])
def test_rfc9619_s4_several_questions_are_formerr(count: int) -> None:
    message = PLAIN[:4] + count.to_bytes(2, "big") + PLAIN[6:] + PLAIN[12:]
    assert flags(answered(message)) & 15 == RCODE.FORMERR


# -- RFC 6891 --------------------------------------------------------------------------------


def rcode_with_opt(answer: bytes) -> int:
    record = DNSRecord.parse(answer)
    assert [each.rtype for each in record.ar] == [QTYPE.OPT]
    return int(record.ar[0].edns_rcode << 4 | record.header.rcode)


@pytest.mark.parametrize("name", [b"web", b"n0!", b"big"])
def test_rfc6891_s6_1_1_an_answer_has_opt_if_the_query_had(name: bytes) -> None:
    with_opt, without = (DNSRecord.parse(answered(each.replace(b"web", name))) for each in (EDNS, PLAIN))
    assert [each.rtype for each in with_opt.ar] == [QTYPE.OPT]
    assert without.ar == []


def test_rfc6891_s6_1_1_two_opt_are_formerr() -> None:
    assert flags(answered(EDNS[:11] + b"\2" + EDNS[12:] + EDNS[28:])) & 15 == RCODE.FORMERR


def test_rfc6891_s6_1_2_unknown_options_are_ignored() -> None:
    message = bytes.fromhex(  # dig +nocookie +ednsopt=65001:beef
        "016a012000010000000000010377656206646f636b6572000001000100002904d0000000000006fde90002beef"
    )
    record = DNSRecord.parse(answered(message))
    assert [str(each.rdata) for each in record.rr] == ["10.0.0.2"]
    assert record.ar[0].rdata == []


@pytest.mark.parametrize("version", [1, 2, 255])
def test_rfc6891_s6_1_3_higher_versions_are_badvers(version: int) -> None:
    answer = answered(EDNS[:-5] + bytes([version]) + EDNS[-4:])
    assert rcode_with_opt(answer) == 16
    assert DNSRecord.parse(answer).ar[0].edns_ver == 0
    assert DNSRecord.parse(answer).rr == []


def test_rfc6891_s6_2_3_sizes_below_512_mean_512() -> None:
    small = container("small", *(endpoint(f"n{number}", f"10.1.{number}.2") for number in range(25)))
    message = EDNS.replace(b"web", b"small").replace(b"\x03small", b"\x05small").replace(b"\x04\xd0", b"\0\x10")
    answer = respond(serving(small), message)
    assert answer is not None
    assert 16 < len(answer) <= 512
    assert not flags(answer) & TC


def test_rfc6891_s6_2_4_a_larger_size_is_used_up_to_ours() -> None:
    few, big = (answered(EDNS.replace(b"web", name).replace(b"\x04\xd0", b"\xff\xff")) for name in (b"few", b"big"))
    assert len(DNSRecord.parse(few).rr) == 40
    assert flags(big) & TC


def test_rfc6891_s6_1_1_a_refusal_has_opt_too() -> None:
    assert rcode_with_opt(answered(EDNS.replace(b"docker", b"orange"))) == RCODE.REFUSED


# -- RFC 7766, 8906 --------------------------------------------------------------------------


def test_rfc7766_s5_tcp_answers_what_udp_truncated() -> None:
    resolver = serving(BIG)
    message = query("big.docker")
    assert asked(resolver, message).header.tc
    assert not asked(resolver, message, stream=True).header.tc


def test_rfc8906_s3_1_2_unknown_types_are_nodata() -> None:
    record = asked(serving(WEB), PLAIN[:-4] + b"\x03\xe8\0\1")  # TYPE1000
    assert (record.header.rcode, record.rr, [each.rtype for each in record.auth]) == (RCODE.NOERROR, [], [QTYPE.SOA])


def test_rfc8906_s3_1_4_unknown_opcodes_are_answered() -> None:
    assert asked(serving(WEB), with_flags(15 << 11)).header.rcode == RCODE.NOTIMP


def test_rfc8906_s3_2_unknown_edns_versions_and_options_are_answered() -> None:
    everything = bytes.fromhex("0000290fff00018000000afde90006112233445566")
    assert rcode_with_opt(answered(EDNS[:28] + everything)) == 16
