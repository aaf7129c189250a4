from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.tunnel.wire import packets
from dconnect.tunnel.wire.packets import FRAGMENT, ICMP, ICMP6, SYN, TCP, UDP, flow
from kit import packets as gold
from kit.packets import A4, A6, B4, B6, named

PORTS = bytes.fromhex("9c400050")  # 40000 → 80
DNS_PORTS = bytes.fromhex("14e90035")  # 5353 → 53


def _flow(packet: bytes) -> tuple[int, bytes]:
    return flow(memoryview(packet))


def _flagged(packet: bytes, flags: int) -> bytes:
    at = 33 if packet[0] >> 4 == 4 else 53
    return packet[:at] + bytes((flags,)) + packet[at + 1 :]


@pytest.mark.parametrize(
    ("packet", "kind", "key"),
    [
        (gold.SYN4, SYN, A4 + B4 + PORTS),
        (gold.SYN6, SYN, A6 + B6 + PORTS),
        (gold.DATA4, TCP, A4 + B4 + PORTS),
        (gold.RST_OF_SYN4, TCP, B4 + A4 + bytes.fromhex("00509c40")),
        (gold.UDP4, UDP, A4 + B4 + DNS_PORTS),
        (gold.UDP6, UDP, A6 + B6 + DNS_PORTS),
        (gold.UDP4_OPTIONS, UDP, A4 + B4 + DNS_PORTS),
        (gold.UDP6_EXTENDED, UDP, A6 + B6 + DNS_PORTS),
        (gold.EIGHT_HEADERS6, UDP, A6 + B6 + DNS_PORTS),
        (gold.PING4, ICMP, b""),
        (gold.PING6, ICMP6, b""),
        (gold.PARTS4[0], FRAGMENT, b""),
        (gold.PARTS4[1], FRAGMENT, b""),
        (gold.PARTS6[0], FRAGMENT, b""),
        (gold.PARTS6[1], FRAGMENT, b""),
    ],
    ids=named,
)
def test_a_packet_is_told_by_its_kind_and_flow(packet: bytes, kind: int, key: bytes) -> None:
    assert _flow(packet) == (kind, key)


@pytest.mark.parametrize("packet", [gold.SYN4, gold.SYN6], ids=named)
def test_only_a_syn_without_ack_rst_and_fin_begins_a_connection(packet: bytes) -> None:
    for flags in range(256):
        kind, _ = _flow(_flagged(packet, flags))
        assert kind == (SYN if flags & 2 and not flags & 0x15 else TCP)


def test_short_and_long_datagrams_of_one_flow_have_one_key() -> None:
    for source, destination in ((A4, B4), (A6, B6)):
        keys = {
            _flow(packets.build(source, destination, UDP, DNS_PORTS + (8 + size).to_bytes(2) + bytes(2 + size)))
            for size in range(40)
        }
        assert keys == {(UDP, source + destination + DNS_PORTS)}


def test_a_connections_first_segment_with_options_before_it_is_still_a_syn() -> None:
    segment = gold.SYN6[40:]
    options = bytes((TCP, 0, 1, 4, 0, 0, 0, 0))
    assert _flow(packets.build(A6, B6, packets.DESTINATION_OPTIONS, options + segment)) == (SYN, A6 + B6 + PORTS)


@pytest.mark.parametrize(
    "packet", [gold.SYN4, gold.SYN6, gold.DATA4, gold.UDP4, gold.UDP6, gold.UDP6_EXTENDED], ids=named
)
def test_a_packet_that_was_cut_or_lengthened_is_malformed(packet: bytes) -> None:
    for cut in range(len(packet)):
        with pytest.raises(MalformedMessage):
            _flow(packet[:cut])
        with pytest.raises(MalformedMessage):
            packets.parse(packet[:cut])
    with pytest.raises(MalformedMessage):
        _flow(packet + b"\0")


@pytest.mark.parametrize("first", [0x00, 0x15, 0x44, 0x55, 0x75, 0xF0])
def test_another_version_or_no_room_for_the_header_is_malformed(first: int) -> None:
    with pytest.raises(MalformedMessage):
        _flow(bytes((first,)) + gold.SYN4[1:])


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_header_of_the_upper_layer_that_is_cut_has_no_flow(protocol: int) -> None:
    for size in range(20 if protocol == TCP else 8):
        for source, destination in ((A4, B4), (A6, B6)):
            with pytest.raises(MalformedMessage):
                _flow(packets.build(source, destination, protocol, bytes(size)))


def test_what_is_built_is_taken_apart() -> None:
    for source, destination in ((A4, B4), (A6, B6)):
        found = packets.parse(packets.build(source, destination, 99, b"payload"))
        assert (found.source, found.destination, found.protocol, found.part) == (source, destination, 99, None)
        assert bytes(found.payload) == b"payload"


def test_a_packet_larger_than_can_be_is_not_built() -> None:
    assert len(packets.build(A4, B4, UDP, bytes(65_515))) == 65_535
    assert len(packets.build(A6, B6, UDP, bytes(65_535))) == 65_575
    with pytest.raises(ValueError, match="65516"):
        packets.build(A4, B4, UDP, bytes(65_516))
    with pytest.raises(ValueError, match="65536"):
        packets.build(A6, B6, UDP, bytes(65_536))
