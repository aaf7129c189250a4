"""Random frames and packets: read or malformed; what is built is read back; reassembly does as its twin."""

from __future__ import annotations

from itertools import count
from json import dumps
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.core.errors import MalformedMessage
from dconnect.tunnel.wire import frames, icmp, packets, tcp, udp
from dconnect.tunnel.wire.checksum import checksum
from dconnect.tunnel.wire.fragments import Reassembly, split
from dconnect.tunnel.wire.messages import Config, Hello
from dconnect.tunnel.wire.packets import FRAGMENT, ICMP, ICMP6, SYN, TCP, UDP, Packet, flow, parse
from kit import packets as gold
from kit.packets import A4, A6, B4, B6

SEEDS = [value for value in vars(gold).values() if isinstance(value, bytes) and len(value) > 16]
SEEDS += [*gold.PARTS4, *gold.PARTS6]
changes = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4)


def _mutated(seed: bytes, altered: list[tuple[int, int]], cut: int, *, repaired: bool) -> bytes:
    made = bytearray(seed)
    for at, value in altered:
        made[at % len(made)] = value
    made = made[: len(made) - cut]
    if repaired and len(made) >= 20 and made[0] >> 4 == 4:
        made[2:4] = len(made).to_bytes(2)
        header = max(20, min(len(made), (made[0] & 15) * 4))
        made[10:12] = b"\0\0"
        made[10:12] = checksum(made[:header]).to_bytes(2)
    elif repaired and len(made) >= 40:
        made[4:6] = (len(made) - 40).to_bytes(2)
    return bytes(made)


wild = st.one_of(
    st.binary(max_size=120),
    st.builds(_mutated, st.sampled_from(SEEDS), changes, st.integers(0, 30), repaired=st.booleans()),
)


def _read(packet: Packet) -> None:
    """Everything that a gateway does with a packet."""
    try:
        if packet.part is None and packet.protocol == TCP:
            segment = tcp.parse(packet)
            assert tcp.reset(packet, segment) is None or not segment.flags & tcp.RST
        elif packet.part is None and packet.protocol == UDP:
            assert len(udp.parse(packet).payload) <= len(packet.payload) - 8
        elif packet.part is None and packet.protocol in {ICMP, ICMP6}:
            icmp.parse_echo(packet)
    except MalformedMessage:
        pass
    made = icmp.unreachable(packet, icmp.PORT)
    if made is not None:
        told = parse(made)
        assert (told.source, told.destination) == (packet.destination, packet.source)
        assert bytes(told.payload[8:]) == bytes(packet.raw[: len(told.payload) - 8])
        assert icmp.parse_echo(told) is None


@given(wild)
@settings(max_examples=1500, deadline=None)
def test_a_packet_is_read_or_malformed(packet: bytes) -> None:
    try:
        found = parse(packet)
    except MalformedMessage:
        return
    assert len(found.source) == len(found.destination) == (4 if found.version == 4 else 16)
    assert found.payload.obj is packet
    _read(found)


@given(wild)
@settings(max_examples=1500, deadline=None)
def test_the_fast_look_at_a_packet_agrees_with_the_thorough_one(packet: bytes) -> None:
    try:
        kind, key = flow(memoryview(packet))
    except MalformedMessage:
        try:
            found = parse(packet)
        except MalformedMessage:
            return
        assert len(found.payload) < {TCP: 20, UDP: 8}[found.protocol]
        return
    try:
        found = parse(packet)
    except MalformedMessage:  # only what the fast look never verifies
        assert packet[0] == 0x45
        assert checksum(packet[:20])
        return
    if found.part is not None:
        assert (kind, key) == (FRAGMENT, b"")
    elif found.protocol in {TCP, UDP}:
        assert key == found.source + found.destination + bytes(found.payload[:4])
        begins = found.protocol == TCP and found.payload[13] & 0x17 == 2
        assert kind == (SYN if begins else found.protocol)
    else:
        assert (kind, key) == (found.protocol, b"")


ends = st.sampled_from([(A4, B4), (B4, A4), (A6, B6), (B6, A6)])
ports = st.integers(0, 65_535)


@given(ends, ports, ports, st.binary(max_size=3000))
@settings(max_examples=300, deadline=None)
def test_a_datagram_is_read_back(where: tuple[bytes, bytes], from_port: int, to_port: int, payload: bytes) -> None:
    found = parse(udp.packet((where[0], from_port), (where[1], to_port), payload))
    assert (found.source, found.destination) == where
    assert udp.parse(found) == udp.Datagram(from_port, to_port, memoryview(payload))


@given(ends, st.booleans(), ports, ports, st.binary(max_size=3000))
@settings(max_examples=300, deadline=None)
def test_an_echo_is_read_back(where: tuple[bytes, bytes], asks: bool, number: int, turn: int, data: bytes) -> None:
    echo = icmp.Echo(asks, number, turn, memoryview(data))
    assert icmp.parse_echo(parse(icmp.echo_packet(*where, echo))) == echo


@given(
    ends,
    ports,
    ports,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.binary(max_size=99),
)
@settings(max_examples=300, deadline=None)
def test_a_reset_is_one_that_its_receiver_takes(
    where: tuple[bytes, bytes], from_port: int, to_port: int, sequence: int, number: int, flags: int, data: bytes
) -> None:
    """RFC 9293 §3.10.7.3, §3.10.7.4: in SYN-SENT it must acknowledge the SYN, later have the number awaited."""
    header = b"".join(
        (from_port.to_bytes(2), to_port.to_bytes(2), sequence.to_bytes(4), number.to_bytes(4), bytes((0x50, flags)))
    ) + bytes(6)
    packet = parse(packets.build(*where, TCP, header + data))
    length = len(data) + bool(flags & tcp.SYN) + bool(flags & tcp.FIN)
    made = tcp.reset(packet, tcp.Segment(from_port, to_port, sequence, number, flags, length))
    if flags & tcp.RST:
        assert made is None
        return
    assert made is not None
    answer = tcp.parse(parse(made))
    assert (answer.source_port, answer.destination_port, answer.length) == (to_port, from_port, 0)
    if flags & tcp.ACK:
        assert (answer.flags, answer.sequence) == (tcp.RST, number)
    else:
        assert (answer.flags, answer.acknowledgment) == (tcp.RST | tcp.ACK, (sequence + length) % 2**32)


some_frames = st.lists(
    st.one_of(
        st.tuples(st.just(frames.PACKET), st.binary(max_size=200)),
        st.tuples(st.sampled_from([frames.HELLO, frames.CONFIG]), st.binary(max_size=100)),
        st.tuples(st.sampled_from([frames.PING, frames.PONG]), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just(frames.BYE), st.binary(max_size=100)),
    ),
    max_size=8,
)


@given(some_frames, st.lists(st.integers(1, 60), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_frames_are_found_however_they_are_cut(sent: list[tuple[int, bytes]], sizes: list[int]) -> None:
    stream = b"".join(frames.frame(kind, payload) for kind, payload in sent)
    buffer, found, at = bytearray(), [], 0
    for turn in count():
        step = sizes[turn % len(sizes)]
        buffer += stream[at : at + step]
        at += step
        whole, consumed = frames.walk(buffer)
        found += [(kind, bytes(buffer[start:end])) for kind, start, end in whole]
        del buffer[:consumed]
        if at >= len(stream):
            break
    assert found == sent
    assert not buffer


@given(st.binary(max_size=400))
@settings(max_examples=500, deadline=None)
def test_frames_are_found_or_malformed(received: bytes) -> None:
    try:
        found, consumed = frames.walk(received)
    except MalformedMessage:
        return
    assert consumed <= len(received)
    again = b"".join(frames.frame(kind, received[start:end]) for kind, start, end in found)
    assert again == received[:consumed]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["version", "token", "mtu", "features", "addresses", "subnets", "dns"])


@given(st.one_of(st.binary(max_size=200), st.dictionaries(keys, values).map(lambda told: dumps(told).encode())))
@settings(max_examples=500, deadline=None)
def test_what_the_other_end_tells_of_itself_is_read_or_malformed(payload: bytes) -> None:
    for read in (Hello.parse, Config.parse, frames.parse_bye):
        try:
            read(payload)
        except MalformedMessage:
            continue


class _Twin:
    """Reassembly as one would write it without a thought for speed: a byte is there or not."""

    def __init__(self) -> None:
        self.payload: dict[int, int] = {}
        self.seen: set[tuple[int, bytes, bool]] = set()
        self.end: int | None = None
        self.refused = False

    def add(self, offset: int, data: bytes, more: bool) -> bytes | None:
        if self.refused or (offset, data, more) in self.seen:
            return None
        here = range(offset, offset + len(data))
        ends = [end for end in (self.end, None if more else here.stop) if end is not None]
        after = {*self.payload, *here}
        if (
            any(at in self.payload for at in here)
            or len(ends) == 2
            or (ends and after and max(after) >= ends[0])
            or (offset == 0 and len(data) < 8)
        ):
            self.refused = True
            return None
        self.seen.add((offset, data, more))
        self.payload.update(zip(here, data, strict=True))
        self.end = ends[0] if ends else None
        if self.end is not None and len(self.payload) == self.end:
            whole = bytes(self.payload[at] for at in range(self.end))
            self.__init__()  # type: ignore[misc] # as if it had never been
            return whole
        return None


pieces = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans(), st.integers(0, 1)).filter(
        lambda p: p[1] or not p[2]
    ),
    max_size=12,
)


@given(st.booleans(), pieces)
@settings(max_examples=1000, deadline=None)
def test_reassembly_does_as_its_twin(four: bool, sent: list[tuple[int, int, bool, int]]) -> None:
    table, twin = Reassembly(), _Twin()
    source, destination = (A4, B4) if four else (A6, B6)
    for slot, words, more, fill in sent:
        data = bytes((fill,)) * (8 * words)
        if not (slot or more):
            continue  # no fragment
        part = packets.Part(7, slot * 8, more, 20 if four else 40)
        header = packets.build(source, destination, 99, b"")
        packet = parse(header + b"")._replace(payload=memoryview(data), part=part, raw=memoryview(header))
        expected = twin.add(slot * 8, data, more)
        try:
            made = table.add(packet, 0.0)
        except MalformedMessage:
            assert twin.refused
            continue
        assert (made is None) == (expected is None)
        if made is not None:
            assert bytes(parse(made).payload) == expected


@given(ends, st.integers(1280, 9000), st.integers(0, 65_507), st.integers(0, 65_535), st.randoms())
@settings(max_examples=100, deadline=None)
def test_what_is_split_is_put_together(
    where: tuple[bytes, bytes], mtu: int, size: int, identification: int, order: Random
) -> None:
    packet = udp.packet((where[0], 1), (where[1], 2), bytes(size))
    parts = split(packet, mtu, identification)
    assert all(len(part) <= mtu for part in parts)
    order.shuffle(parts)
    table = Reassembly()
    if len(parts) == 1:
        assert parts == [packet]
        return
    made = [table.add(parse(part), 0.0) for part in parts]
    assert made[:-1] == [None] * (len(parts) - 1)
    whole = made[-1]
    assert whole is not None
    assert udp.parse(parse(whole)).payload == bytes(size)
