"""TCP, UDP and ICMP as a gateway reads and answers them (RFC 768, 792, 1122, 1812, 4443, 8200, 9293)."""

from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.failure import Failure
from dconnect.tunnel.wire import icmp, packets, tcp, udp
from dconnect.tunnel.wire.packets import parse
from kit import packets as gold
from kit.packets import A4, A6, B4, B6, named


def _damaged(packet: bytes) -> list[bytes]:
    """With one bit changed, in each byte behind the IP header."""
    header = 20 if packet[0] >> 4 == 4 else 40
    return [packet[:at] + bytes((packet[at] ^ 1,)) + packet[at + 1 :] for at in range(header, len(packet))]


def test_rfc9293_s3_1_a_segment_is_read() -> None:
    assert tcp.parse(parse(gold.SYN4)) == (40000, 80, 1000, 0, tcp.SYN, 1)
    assert tcp.parse(parse(gold.SYN6)) == (40000, 80, 0xFFFFFFFF, 0, tcp.SYN, 1)
    assert tcp.parse(parse(gold.DATA4)) == (40000, 80, 1001, 5000, tcp.PSH | tcp.ACK, 5)


@pytest.mark.parametrize("packet", [gold.SYN4, gold.SYN6, gold.DATA4], ids=named)
def test_rfc9293_s3_1_must_3_a_segment_that_was_changed_is_discarded(packet: bytes) -> None:
    for damaged in _damaged(packet):
        with pytest.raises(MalformedMessage, match="TCP"):
            tcp.parse(parse(damaged))


def test_rfc9293_s3_1_the_data_offset_must_lie_within_the_segment() -> None:
    for offset in (0, 4, 7, 15):
        payload = gold.DATA4[20:32] + bytes((offset << 4,)) + gold.DATA4[33:]
        with pytest.raises(MalformedMessage, match="TCP header"):
            tcp.parse(parse(packets.build(A4, B4, packets.TCP, payload)))
    with pytest.raises(MalformedMessage, match="TCP header"):
        tcp.parse(parse(packets.build(A4, B4, packets.TCP, bytes(19))))


@pytest.mark.parametrize(
    ("packet", "answer"), [(gold.SYN4, gold.RST_OF_SYN4), (gold.SYN6, gold.RST_OF_SYN6)], ids=named
)
def test_rfc9293_s3_10_7_1_without_ack_the_reset_acknowledges_what_came(packet: bytes, answer: bytes) -> None:
    found = parse(packet)
    assert tcp.reset(found, tcp.parse(found)) == answer  # SYN6: modulo 2**32


def test_rfc9293_s3_10_7_1_with_ack_the_reset_has_its_number() -> None:
    found = parse(gold.DATA4)
    assert tcp.reset(found, tcp.parse(found)) == gold.RST_OF_DATA4


@pytest.mark.parametrize("packet", [gold.RST_OF_SYN4, gold.RST_OF_SYN6, gold.RST_OF_DATA4], ids=named)
def test_rfc9293_s3_10_7_1_a_reset_is_not_answered(packet: bytes) -> None:
    found = parse(packet)
    assert tcp.reset(found, tcp.parse(found)) is None


@pytest.mark.parametrize(("packet", "addresses"), [(gold.UDP4, (A4, B4)), (gold.UDP6, (A6, B6))], ids=named)
def test_rfc768_a_datagram_is_read_and_written(packet: bytes, addresses: tuple[bytes, bytes]) -> None:
    found = udp.parse(parse(packet))
    assert (found.source_port, found.destination_port, bytes(found.payload)) == (5353, 53, b"query")
    assert udp.packet((addresses[0], 5353), (addresses[1], 53), b"query") == packet


@pytest.mark.parametrize("packet", [gold.UDP4, gold.UDP6], ids=named)
def test_rfc1122_s4_1_3_4_a_datagram_that_was_changed_is_discarded(packet: bytes) -> None:
    for damaged in _damaged(packet):
        with pytest.raises(MalformedMessage, match="UDP"):
            udp.parse(parse(damaged))


def test_rfc768_over_ipv4_there_may_be_no_checksum() -> None:
    assert bytes(udp.parse(parse(gold.UDP4_UNSUMMED)).payload) == b"query"


def test_rfc8200_s8_1_over_ipv6_there_must_be_one() -> None:
    with pytest.raises(MalformedMessage, match="no checksum"):
        udp.parse(parse(gold.UDP6_UNSUMMED))


@pytest.mark.parametrize(("source", "destination"), [(A4, B4), (A6, B6)], ids=named)
def test_rfc768_a_checksum_of_zero_is_sent_as_ones(source: bytes, destination: bytes) -> None:
    plain = udp.packet((source, 1), (destination, 2), bytes(2))
    at = len(plain) - 4
    made = udp.packet((source, 1), (destination, 2), plain[at : at + 2])  # so that its sum is all ones
    assert made[at : at + 2] == b"\xff\xff"
    assert udp.parse(parse(made)).payload == plain[at : at + 2]


def test_rfc768_the_length_must_lie_within_the_packet() -> None:
    for length in (0, 7, 14, 0xFFFF):
        payload = gold.UDP4_UNSUMMED[20:24] + length.to_bytes(2) + gold.UDP4_UNSUMMED[26:]
        with pytest.raises(MalformedMessage, match="UDP"):
            udp.parse(parse(packets.build(A4, B4, packets.UDP, payload)))
    with pytest.raises(MalformedMessage, match="UDP"):
        udp.parse(parse(packets.build(A4, B4, packets.UDP, bytes(7))))


def test_rfc9868_s7_what_lies_behind_the_length_is_ignored() -> None:
    assert bytes(udp.parse(parse(gold.UDP_SURPLUS4)).payload) == b"query"


@pytest.mark.parametrize(("source", "destination", "most"), [(A4, B4, 65_507), (A6, B6, 65_527)])
def test_rfc768_the_largest_datagram(source: bytes, destination: bytes, most: int) -> None:
    made = udp.packet((source, 1), (destination, 2), bytes(most))
    assert len(udp.parse(parse(made)).payload) == most
    with pytest.raises(ValueError, match=r"6\d{4}"):
        udp.packet((source, 1), (destination, 2), bytes(most + 1))


ECHOES = [
    (gold.PING4, A4, B4, True),
    (gold.PONG4, B4, A4, False),
    (gold.PING6, A6, B6, True),
    (gold.PONG6, B6, A6, False),
]


@pytest.mark.parametrize(("packet", "source", "destination", "is_request"), ECHOES, ids=named)
def test_rfc792_rfc4443_s4_echoes_are_read_and_written(
    packet: bytes, source: bytes, destination: bytes, is_request: bool
) -> None:
    found = icmp.parse_echo(parse(packet))
    assert found == icmp.Echo(is_request, 7, 9, memoryview(b"abcdefgh"))
    assert found is not None
    assert icmp.echo_packet(source, destination, found) == packet


@pytest.mark.parametrize("packet", [gold.PING4, gold.PONG6], ids=named)
def test_rfc4443_s2_3_an_echo_that_was_changed_is_discarded(packet: bytes) -> None:
    for damaged in _damaged(packet):
        with pytest.raises(MalformedMessage, match="ICMP"):
            icmp.parse_echo(parse(damaged))


def test_a_message_that_is_no_echo_is_none() -> None:
    for packet in (gold.PORT4, gold.PORT6, gold.ERROR4, gold.REDIRECT6):
        assert icmp.parse_echo(parse(packet)) is None


def test_an_echo_that_ends_within_its_header_is_malformed() -> None:
    for size in range(8):
        with pytest.raises(MalformedMessage, match="ICMP"):
            icmp.parse_echo(parse(packets.build(A4, B4, packets.ICMP, bytes(size))))


def test_rfc792_an_echo_reply_of_zeros_has_a_checksum_that_receivers_take() -> None:
    made = icmp.echo_packet(B4, A4, icmp.Echo(False, 0, 0, memoryview(b"")))
    assert made[20:] == b"\0\0\xff\xff\0\0\0\0"


@pytest.mark.parametrize(
    ("packet", "code", "source", "answer"),
    [
        (gold.UDP4, icmp.PORT, None, gold.PORT4),
        (gold.UDP4, icmp.PROHIBITED, bytes((10, 0, 0, 2)), gold.PROHIBITED4),
        (gold.UDP6, icmp.PORT, None, gold.PORT6),
        (gold.UDP6, icmp.HOST, None, gold.HOST6),
        (gold.UDP6, icmp.PROTOCOL, None, gold.PROTOCOL6),
    ],
    ids=named,
)
def test_rfc792_rfc4443_s3_1_unreachable(packet: bytes, code: int, source: bytes | None, answer: bytes) -> None:
    assert icmp.unreachable(parse(packet), code, source) == answer


def test_rfc4443_s3_4_the_pointer_names_the_unknown_next_header() -> None:
    made = icmp.unreachable(parse(gold.UDP6_EXTENDED), icmp.PROTOCOL)
    assert made is not None
    assert made[40:42] == b"\x04\x01"
    assert made[44:48] == (56).to_bytes(4)
    assert gold.UDP6_EXTENDED[56] == packets.UDP


@pytest.mark.parametrize("failure", [failure for failure in Failure if failure.value.icmp is not None])
def test_every_failure_that_is_told_by_icmp_can_be_told_in_both_versions(failure: Failure) -> None:
    told = failure.value.icmp
    assert told is not None
    four, six = (icmp.unreachable(parse(packet), told[1]) for packet in (gold.UDP4, gold.UDP6))
    assert four is not None
    assert six is not None
    assert tuple(four[20:22]) == told
    assert six[40] == 1


def test_rfc4443_s3_1_the_codes() -> None:
    said = {}
    for name in ("NETWORK", "HOST", "HOST_UNKNOWN", "PORT", "PROHIBITED"):
        made = icmp.unreachable(parse(gold.UDP6), getattr(icmp, name))
        assert made is not None
        said[name] = (made[40], made[41])
    assert said == {"NETWORK": (1, 0), "PROHIBITED": (1, 1), "HOST": (1, 3), "HOST_UNKNOWN": (1, 3), "PORT": (1, 4)}


def test_rfc792_rfc4443_s3_3_time_exceeded_in_transit() -> None:
    four, six = (icmp.unreachable(parse(packet), icmp.EXPIRED) for packet in (gold.UDP4, gold.UDP6))
    assert four is not None
    assert six is not None
    assert (four[20], four[21], four[24:]) == (11, 0, bytes(4) + gold.UDP4)
    assert (six[40], six[41], six[44:]) == (3, 0, bytes(4) + gold.UDP6)


def test_rfc1812_s4_3_2_3_as_much_is_quoted_as_fits_into_576_bytes() -> None:
    packet = udp.packet((A4, 1), (B4, 2), bytes(1400))
    made = icmp.unreachable(parse(packet), icmp.PORT)
    assert made is not None
    assert len(made) == 576
    assert made[28:] == packet[:548]
    assert icmp.parse_echo(parse(made)) is None  # its checksum is right


def test_rfc4443_s2_4_c_as_much_is_quoted_as_fits_into_1280_bytes() -> None:
    packet = udp.packet((A6, 1), (B6, 2), bytes(1400))
    made = icmp.unreachable(parse(packet), icmp.PORT)
    assert made is not None
    assert len(made) == 1280
    assert made[48:] == packet[:1232]
    assert icmp.parse_echo(parse(made)) is None


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_rfc1122_s3_2_2_an_icmp_error_is_not_answered(kind: int) -> None:
    message = bytes((kind,)) + gold.ERROR4[21:]
    assert icmp.unreachable(parse(packets.build(A4, B4, packets.ICMP, message)), icmp.HOST) is None
    assert icmp.unreachable(parse(gold.PING4), icmp.HOST) is not None


def test_rfc4443_s2_4_e_1_and_2_an_icmpv6_error_or_redirect_is_not_answered() -> None:
    for kind in (1, 2, 3, 4, 100, 127, 137):
        message = bytes((kind,)) + gold.ERROR6[41:]
        assert icmp.unreachable(parse(packets.build(A6, B6, packets.ICMP6, message)), icmp.HOST) is None
    assert icmp.unreachable(parse(gold.ERROR6), icmp.HOST) is None
    assert icmp.unreachable(parse(gold.REDIRECT6), icmp.HOST) is None
    assert icmp.unreachable(parse(gold.PING6), icmp.HOST) is not None


NOT_BETWEEN_HOSTS = [
    (A4, bytes((255, 255, 255, 255))),
    (A4, bytes((224, 0, 0, 251))),
    (bytes(4), B4),
    (bytes((0, 0, 0, 9)), B4),
    (bytes((127, 0, 0, 1)), B4),
    (bytes((224, 0, 0, 1)), B4),
    (bytes((240, 0, 0, 1)), B4),
    (bytes((255, 255, 255, 255)), B4),
    (A6, b"\xff\x02" + bytes(13) + b"\xfb"),
    (bytes(16), B6),
    (b"\xff\x02" + bytes(13) + b"\x01", B6),
]


@pytest.mark.parametrize(("source", "destination"), NOT_BETWEEN_HOSTS, ids=named)
def test_rfc1122_s3_2_2_rfc4443_s2_4_e_what_is_not_between_two_hosts_is_not_answered(
    source: bytes, destination: bytes
) -> None:
    assert icmp.unreachable(parse(udp.packet((source, 1), (destination, 2), b"")), icmp.PORT) is None


@pytest.mark.parametrize(("source", "destination"), NOT_BETWEEN_HOSTS, ids=named)
def test_rfc9293_s3_9_2_3_must_57_a_syn_that_is_not_between_two_hosts_is_not_answered(
    source: bytes, destination: bytes
) -> None:
    found = parse(packets.build(source, destination, packets.TCP, bytes(20)))
    assert tcp.reset(found, tcp.Segment(40000, 80, 1000, 0, tcp.SYN, 1)) is None


@pytest.mark.parametrize("parts", [gold.PARTS4, gold.PARTS6], ids=named)
def test_rfc1122_s3_2_2_only_the_first_fragment_is_answered(parts: tuple[bytes, ...]) -> None:
    assert icmp.unreachable(parse(parts[0]), icmp.HOST) is not None
    for part in parts[1:]:
        assert icmp.unreachable(parse(part), icmp.HOST) is None
