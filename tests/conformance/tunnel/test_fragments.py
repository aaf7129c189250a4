"""Reassembly and fragmentation (RFC 791 §3.2, 1122, 5722, 6946, 7112, 8200 §4.5)."""

from __future__ import annotations

import itertools

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import REASSEMBLY_BYTES, REASSEMBLY_DATAGRAMS, REASSEMBLY_SECONDS
from dconnect.tunnel.wire import packets, udp
from dconnect.tunnel.wire.checksum import checksum
from dconnect.tunnel.wire.fragments import Reassembly, split
from dconnect.tunnel.wire.packets import parse
from kit import packets as gold
from kit.packets import A4, A6, B4, B6, named

BOTH = [(gold.PARTS4, gold.WHOLE4), (gold.PARTS6, gold.WHOLE6)]


def _part4(offset: int, payload: bytes, *, more: bool = True, identification: int = 77, protocol: int = 17) -> bytes:
    header = bytearray(packets.build(A4, B4, protocol, payload)[:20])
    header[4:6] = identification.to_bytes(2)
    header[6:8] = (more << 13 | offset // 8).to_bytes(2)
    header[10:12] = b"\0\0"
    header[10:12] = checksum(header).to_bytes(2)
    return bytes(header) + payload


def _part6(offset: int, payload: bytes, *, more: bool = True, kind: int = 17, before: bytes = b"") -> bytes:
    header = bytes((kind, 0)) + (offset | more).to_bytes(2) + b"\xde\xad\xbe\xef"
    first = packets.DESTINATION_OPTIONS if before else packets.FRAGMENT_HEADER
    return packets.build(A6, B6, first, before + header + payload)


@pytest.mark.parametrize(("parts", "whole"), BOTH, ids=named)
def test_rfc791_s3_2_rfc8200_s4_5_fragments_in_any_order_make_the_datagram(
    parts: tuple[bytes, ...], whole: bytes
) -> None:
    for order in itertools.permutations(parts):
        table = Reassembly()
        made = [table.add(parse(part), 0.0) for part in order]
        assert made == [*[None] * (len(parts) - 1), whole]
        assert (len(table), table.held) == (0, 0)
        assert bytes(udp.parse(parse(whole)).payload)  # its checksum is right


def test_rfc791_s3_2_datagrams_are_told_apart_by_addresses_protocol_and_id() -> None:
    table = Reassembly()
    first = _part4(0, bytes(16))
    assert table.add(parse(first), 0.0) is None
    for other in (
        _part4(16, bytes(8), more=False, identification=78),
        _part4(16, bytes(8), more=False, protocol=6),
    ):
        assert table.add(parse(other), 0.0) is None
    assert len(table) == 3
    assert table.add(parse(_part4(16, bytes(8), more=False)), 0.0) is not None


def test_rfc8200_s4_5_of_the_next_headers_the_first_fragments_counts() -> None:
    table = Reassembly()
    assert table.add(parse(_part6(16, bytes(8), more=False, kind=99)), 0.0) is None
    made = table.add(parse(_part6(0, bytes(16))), 0.0)
    assert made is not None
    assert parse(made).protocol == packets.UDP


@pytest.mark.parametrize("length", [1, 7, 9, 15])
def test_rfc8200_s4_5_a_fragment_before_the_last_has_a_multiple_of_8_bytes(length: int) -> None:
    for part in (_part4(0, bytes(length)), _part6(0, bytes(length))):
        with pytest.raises(MalformedMessage, match="multiple of 8"):
            parse(part)
    assert parse(_part4(8, bytes(length), more=False)).part is not None


def test_rfc8200_s4_5_a_fragment_that_ends_beyond_the_largest_packet_is_discarded() -> None:
    for part in (_part4(65_528, bytes(8), more=False), _part6(65_528, bytes(8), more=False)):
        with pytest.raises(MalformedMessage, match="beyond"):
            parse(part)


def test_fragments_that_are_together_more_than_a_packet_holds_are_discarded() -> None:
    last = _part4(65_512, bytes(16), more=False)  # with the header 65,548
    table = Reassembly()
    for offset in range(0, 65_512, 8 * 1024):
        table.add(parse(_part4(offset, bytes(min(8 * 1024, 65_512 - offset)))), 0.0)
    with pytest.raises(MalformedMessage, match="more than a packet"):
        table.add(parse(last), 0.0)
    assert (len(table), table.held) == (0, 0)
    pad = bytes((packets.FRAGMENT_HEADER, 0, 1, 4, 0, 0, 0, 0))
    table.add(parse(_part6(65_520, bytes(15), more=False)), 0.0)
    for offset in range(8 * 1024, 65_520, 8 * 1024):
        table.add(parse(_part6(offset, bytes(min(8 * 1024, 65_520 - offset)))), 0.0)
    with pytest.raises(MalformedMessage, match="more than a packet"):
        table.add(parse(_part6(0, bytes(8 * 1024), before=pad)), 0.0)


@pytest.mark.parametrize(("start", "length", "more"), [(8, 8, True), (0, 24, True), (16, 16, True), (8, 24, False)])
def test_rfc5722_s4_overlapping_fragments_are_discarded_with_all_that_come_later(
    start: int, length: int, more: bool
) -> None:
    table = Reassembly()
    assert table.add(parse(_part4(8, bytes(16))), 0.0) is None
    with pytest.raises(MalformedMessage, match="overlap"):
        table.add(parse(_part4(start, bytes(length), more=more)), 0.0)
    assert table.held == 0
    for part in (_part4(0, bytes(8)), _part4(8, bytes(16)), _part4(24, bytes(8), more=False)):
        assert table.add(parse(part), 0.0) is None
    assert table.held == 0
    table.add(parse(_part4(0, bytes(8))), REASSEMBLY_SECONDS)  # another datagram by then
    assert table.add(parse(_part4(8, bytes(8), more=False)), REASSEMBLY_SECONDS) is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_part4(16, bytes(8), more=False), _part4(24, bytes(8))),
        (_part4(16, bytes(8), more=False), _part4(24, bytes(8), more=False)),
        (_part4(16, bytes(8), more=False), _part4(8, bytes(8), more=False)),
        (_part4(24, bytes(8)), _part4(8, bytes(8), more=False)),
        (_part4(16, bytes(8), more=False), _part4(16, bytes(8))),
        (_part4(16, bytes(8)), _part4(16, bytes(8), more=False)),
    ],
    ids=named,
)
def test_fragments_that_disagree_about_the_end_are_discarded(first: bytes, second: bytes) -> None:
    table = Reassembly()
    assert table.add(parse(first), 0.0) is None
    with pytest.raises(MalformedMessage):
        table.add(parse(second), 0.0)
    assert table.held == 0


@pytest.mark.parametrize(("parts", "whole"), BOTH, ids=named)
def test_rfc8200_s4_5_exact_duplicates_are_dropped(parts: tuple[bytes, ...], whole: bytes) -> None:
    table = Reassembly()
    for part in parts[:-1]:
        assert table.add(parse(part), 0.0) is None
        assert table.add(parse(part), 0.0) is None
    assert table.add(parse(parts[-1]), 0.0) == whole


def test_rfc7112_s5_the_first_fragment_has_the_upper_layers_header_whole() -> None:
    for part in (_part4(0, bytes(16), protocol=6), _part6(0, bytes(16), kind=6)):
        with pytest.raises(MalformedMessage, match="first fragment"):
            Reassembly().add(parse(part), 0.0)
    assert Reassembly().add(parse(_part4(0, bytes(24), protocol=6)), 0.0) is None


def test_rfc8200_s4_5_rfc1122_s3_3_2_60_seconds_after_its_first_fragment_a_datagram_is_given_up() -> None:
    for late, whole in ((59.9, True), (60.0, False)):
        table = Reassembly()
        assert table.add(parse(gold.PARTS4[1]), 100.0) is None
        assert table.add(parse(gold.PARTS4[0]), 130.0) is None
        assert (table.add(parse(gold.PARTS4[2]), 100.0 + late) is not None) == whole


def test_datagrams_under_way_are_bounded_and_the_oldest_makes_room() -> None:
    table = Reassembly()
    for identification in range(REASSEMBLY_DATAGRAMS + 1):
        table.add(parse(_part4(0, bytes(8), identification=identification)), 0.0)
    assert len(table) == REASSEMBLY_DATAGRAMS
    assert table.add(parse(_part4(8, b"", more=False, identification=1)), 0.0) is not None
    assert table.add(parse(_part4(8, b"", more=False, identification=0)), 0.0) is None


def test_bytes_held_are_bounded_small_pieces_too() -> None:
    table = Reassembly()
    for identification in range(REASSEMBLY_DATAGRAMS):
        for offset in (0, 32_000):
            table.add(parse(_part4(offset, bytes(32_000), identification=identification)), 0.0)
            assert table.held <= REASSEMBLY_BYTES
    for identification in range(100, 105):
        for offset in range(0, 65_512, 8):
            table.add(parse(_part4(offset, bytes(8), identification=identification)), 0.0)
    assert table.held <= REASSEMBLY_BYTES
    assert len(table) < REASSEMBLY_DATAGRAMS
    table.add(parse(_part4(0, bytes(8))), REASSEMBLY_SECONDS)
    assert table.held < 1000


def test_what_is_no_fragment_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="no fragment"):
        Reassembly().add(parse(gold.UDP4), 0.0)


def test_rfc791_s3_2_an_ipv4_datagram_is_split_as_others_split_it() -> None:
    made = split(udp.packet((A4, 5353), (B4, 53), bytes(2000)), 1280, 4660)
    assert [len(part) for part in made] == [1276, 772]
    assert made[0][:28].hex() == "450004fc1234200040118da90a000001ac11000214e9003507d8250c"  # scapy 2.5.0
    assert made[1][:28].hex() == "450003041234009d4011af040a000001ac1100020000000000000000"


def test_rfc8200_s4_5_an_ipv6_datagram_is_split_as_others_split_it() -> None:
    made = split(udp.packet((A6, 5353), (B6, 53), bytes(2000)), 1280, 0x12345678)
    assert [len(part) for part in made] == [1280, 824]
    addresses = (A6 + B6).hex()
    assert made[0][:56].hex() == f"6000000004d82c40{addresses}110000011234567814e9003507d8e104"  # scapy 2.5.0
    assert made[1][:56].hex() == f"6000000003102c40{addresses}110004d0123456780000000000000000"


@pytest.mark.parametrize(("source", "destination"), [(A4, B4), (A6, B6)], ids=named)
def test_what_fits_is_not_split(source: bytes, destination: bytes) -> None:
    header = 28 if source == A4 else 48
    fitting = udp.packet((source, 1), (destination, 2), bytes(1500 - header))
    assert split(fitting, 1500, 1) == [fitting]
    assert len(split(udp.packet((source, 1), (destination, 2), bytes(1501 - header)), 1500, 1)) == 2
    with pytest.raises(ValueError, match="1279"):
        split(fitting, 1279, 1)
