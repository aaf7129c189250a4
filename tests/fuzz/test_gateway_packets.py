"""Whatever a host sends, the gateway neither fails nor lets anything but a judged host's TCP into the kernel."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.core.failure import Failure
from dconnect.tunnel.wire import icmp, tcp, udp
from dconnect.tunnel.wire.fragments import split
from dconnect.tunnel.wire.packets import SYN, TCP, build, flow
from kit.gateway import HOST, HOST6, OWN, PLAN, WEB, WEB6, Stage, run, segment

ECHO = icmp.Echo(True, 1, 1, memoryview(b"data"))
SEEDS = (
    *(segment(HOST, WEB, (4000, 80), flags, b"data") for flags in (tcp.SYN, tcp.ACK, tcp.RST, tcp.SYN | tcp.ACK)),
    segment(HOST6, WEB6, (4000, 80), tcp.SYN),
    segment(HOST, OWN, (4000, 53), tcp.SYN),
    udp.packet((HOST, 4000), (WEB, 7), b"data"),
    udp.packet((HOST6, 4000), (WEB6, 7), b"data"),
    udp.packet((HOST, 4000), (OWN, 53), b"data"),
    icmp.echo_packet(HOST, WEB, ECHO),
    icmp.echo_packet(HOST6, PLAN.own6.packed, ECHO),
    build(HOST, WEB, 132, bytes(12)),
    *split(udp.packet((HOST, 4000), (WEB, 7), bytes(3000)), 1280, 7),
    *split(segment(HOST6, WEB6, (4000, 80), tcp.SYN, bytes(3000)), 1280, 7),
)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """One of the seeds with a few bytes changed, or anything."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    packet = bytearray(draw(st.sampled_from(SEEDS)))
    for at in draw(st.lists(st.integers(0, len(packet) - 1), max_size=4)):
        packet[at] = draw(st.integers(0, 255))
    return bytes(packet[: draw(st.integers(0, len(packet)))] if draw(st.booleans()) else packet)


@settings(max_examples=200, deadline=None)
@given(st.lists(packets(), max_size=12), st.sampled_from([None, *Failure]))
def test_no_packet_of_a_host_does_harm(sent: list[bytes], failure: Failure | None) -> None:
    async def scenario(stage: Stage) -> None:
        if failure is not None:
            stage.ways.refusals = dict.fromkeys(range(1 << 16), failure)
        host = await stage.host()
        await host.send(*sent)
        last = segment(HOST, WEB, (1, 2), tcp.ACK, b"the last one")
        await host.send(last)
        while (packet := await stage.admitted()) != last:
            kind, key = flow(memoryview(packet))
            assert key.startswith((HOST, HOST6))
            assert kind == TCP if failure is not None else kind in (TCP, SYN)
        for _ in range(5):  # what was begun goes on
            await asyncio.sleep(0)

    run(scenario)
