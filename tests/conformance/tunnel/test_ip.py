"""IPv4 and IPv6 as a receiver must take them (RFC 791, 1071, 1122, 7126, 8200)."""

from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.tunnel.wire import packets, udp
from dconnect.tunnel.wire.checksum import checksum, is_sound, pseudo_header
from kit import packets as gold
from kit.packets import A4, A6, B4, B6


def _changed(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes((value,)) + packet[at + 1 :]


def test_rfc1071_s3_the_example() -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert checksum(data) == 0xFFFF - 0xDDF2
    assert is_sound(data, (0xFFFF - 0xDDF2).to_bytes(2))


@pytest.mark.parametrize("size", [1, 2, 3, 2047, 2048, 2049, 4097, 65_535])
def test_rfc1071_s1_the_sum_is_of_16_bit_words_with_the_carries_and_a_zero_behind_an_odd_byte(size: int) -> None:
    data = (bytes(range(1, 252)) * 262)[:size]
    total = sum(data[at] << 8 | (data[at + 1] if at + 1 < size else 0) for at in range(0, size, 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == total ^ 0xFFFF
    assert checksum(b"", data[: size // 4 * 2], data[size // 4 * 2 :]) == total ^ 0xFFFF


def test_rfc1071_s1_of_the_two_zeros_only_the_sum_of_zeros_is_the_positive_one() -> None:
    assert checksum(bytes(8)) == 0xFFFF
    assert checksum(b"\xff\xff") == 0
    assert checksum(bytes(7) + b"\x01\xff\xfe") == 0
    assert not is_sound(bytes(8))


def test_rfc791_s3_1_header_length_in_words_with_options() -> None:
    found = packets.parse(gold.UDP4_OPTIONS)
    assert (found.source, found.destination, found.protocol) == (A4, B4, packets.UDP)
    assert bytes(udp.parse(found).payload) == b"query"


def test_rfc791_s3_1_total_length_counts_header_and_data() -> None:
    assert packets.build(A4, B4, 17, bytes(5))[2:4] == (25).to_bytes(2)
    for length in (32, 34):
        with pytest.raises(MalformedMessage, match="33 bytes"):
            packets.parse(_changed(gold.UDP4, 3, length))


def test_rfc791_s3_1_options_must_fit_the_header() -> None:
    end, nop = 0, 1
    for options in ((7, 1, 0, 0), (7, 5, 0, 0), (nop, nop, nop, 7), (7, 0, 0, 0)):
        with pytest.raises(MalformedMessage, match="option"):
            packets.parse(_with_options(bytes(options)))
    for options in ((end, 7, 9, 9), (nop, nop, nop, end), (nop, nop, nop, nop), (148, 4, 0, 0)):
        assert packets.parse(_with_options(bytes(options))).protocol == packets.UDP


def _with_options(options: bytes) -> bytes:
    plain = gold.UDP4
    header = bytearray(plain[:20] + options)
    header[0] = 0x45 + len(options) // 4
    header[2:4] = (len(plain) + len(options)).to_bytes(2)
    header[10:12] = b"\0\0"
    header[10:12] = checksum(header).to_bytes(2)
    return bytes(header) + plain[20:]


def test_rfc1122_s3_2_1_2_a_header_with_a_wrong_checksum_is_discarded() -> None:
    for at in (1, 4, 8, 9, 10, 12, 19):
        with pytest.raises(MalformedMessage, match="checksum"):
            packets.parse(_changed(gold.UDP4, at, gold.UDP4[at] ^ 1))


def test_rfc6864_s4_1_what_we_send_is_atomic() -> None:
    assert packets.build(A4, B4, 17, b"")[4:8] == b"\0\0\x40\0"


def test_rfc7126_s4_3_source_routes_are_not_followed() -> None:
    with pytest.raises(MalformedMessage, match="route"):
        packets.parse(gold.ROUTED4)
    with pytest.raises(MalformedMessage, match="route"):
        packets.parse(gold.ROUTED4.replace(b"\x83\x07", b"\x89\x07").replace(*_sum_of(gold.ROUTED4, 0x0600)))


def _sum_of(packet: bytes, more: int) -> tuple[bytes, bytes]:
    """The header's checksum, and the one that it has when a word grows by ``more``."""
    old = int.from_bytes(packet[10:12])
    new = old - more if old >= more else old - more + 0xFFFF
    return packet[8:12], packet[8:10] + new.to_bytes(2)


def test_rfc8200_s3_payload_length_counts_what_follows_the_header() -> None:
    assert packets.build(A6, B6, 17, bytes(5))[4:6] == (5).to_bytes(2)
    for length in (12, 14):
        with pytest.raises(MalformedMessage, match="53 bytes"):
            packets.parse(_changed(gold.UDP6, 5, length))


def test_rfc8200_s4_extension_headers_are_walked_in_turn() -> None:
    found = packets.parse(gold.UDP6_EXTENDED)
    assert (found.source, found.destination, found.protocol) == (A6, B6, packets.UDP)
    assert bytes(udp.parse(found).payload) == b"query"
    assert found.named_at == 56  # in the third


def test_rfc8200_s4_1_hop_by_hop_stands_first_or_not_at_all() -> None:
    with pytest.raises(MalformedMessage, match="hop-by-hop"):
        packets.parse(gold.LATE_HOP_BY_HOP6)


def test_rfc8200_s4_2_an_unknown_option_whose_first_bits_are_not_00_discards_the_packet() -> None:
    with pytest.raises(MalformedMessage, match="option 190"):
        packets.parse(gold.UNKNOWN_OPTION6)
    for action in (0x40, 0x80, 0xC0):
        with pytest.raises(MalformedMessage, match="option"):
            packets.parse(gold.UNKNOWN_OPTION6.replace(b"\xbe\x02", bytes((action | 0x1E, 2))))
    assert packets.parse(gold.UNKNOWN_OPTION6.replace(b"\xbe\x02", b"\x1e\x02")).protocol == packets.UDP


def test_rfc8200_s4_2_options_must_fit_their_header() -> None:
    for options in (b"\x1e\x05\0\0\0\0", b"\0\0\0\0\0\x1e", b"\x01\x03\0\0\0\x01"):
        with pytest.raises(MalformedMessage, match="option"):
            packets.parse(packets.build(A6, B6, packets.DESTINATION_OPTIONS, b"\x3b\0" + options))


def test_rfc8200_s4_3_an_extension_header_must_fit_the_packet() -> None:
    for kind in (packets.HOP_BY_HOP, packets.ROUTING, packets.DESTINATION_OPTIONS):
        for payload in (b"", b"\x3b\0\x01\x04\0\0\0", b"\x3b\x01\x01\x04\0\0\0\0"):
            with pytest.raises(MalformedMessage, match="extension header"):
                packets.parse(packets.build(A6, B6, kind, payload))


def test_rfc8200_s4_4_a_route_that_is_not_at_its_end_is_not_followed() -> None:
    with pytest.raises(MalformedMessage, match="route"):
        packets.parse(gold.ROUTED6)
    assert bytes(udp.parse(packets.parse(gold.ROUTED6_DONE)).payload) == b"query"


def test_rfc8200_s4_7_no_next_header_is_a_protocol_like_others() -> None:
    assert packets.parse(packets.build(A6, B6, 59, b"")).protocol == 59


def test_rfc8200_s8_1_the_pseudo_header() -> None:
    assert pseudo_header(A6, B6, 17, 13) == A6 + B6 + bytes((0, 0, 0, 13, 0, 0, 0, 17))
    assert pseudo_header(A4, B4, 17, 13) == A4 + B4 + bytes((0, 17, 0, 13))


def test_rfc2675_s3_jumbograms_are_refused() -> None:
    with pytest.raises(MalformedMessage):
        packets.parse(gold.JUMBO6)


def test_extension_headers_are_bounded() -> None:
    assert packets.parse(gold.EIGHT_HEADERS6).protocol == packets.UDP
    with pytest.raises(MalformedMessage, match="more than 8"):
        packets.parse(gold.NINE_HEADERS6)


def test_rfc6946_a_fragment_that_is_all_of_its_datagram_is_none() -> None:
    assert packets.parse(gold.UDP6_EXTENDED).part is None
