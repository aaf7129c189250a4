"""The gateway's links and its device: who gets which packet, and what ends a link."""

from __future__ import annotations

import asyncio
import itertools
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from dconnect.core.limits import LINKS, PACKET_BYTES
from dconnect.tunnel.wire import frames, tcp, udp
from dconnect.tunnel.wire.messages import Hello
from dconnect.tunnel.wire.packets import build
from kit.gateway import HOST, HOST6, MTU, OWN, PLAN, WEB, WEB6, Stage, run, segment

HELLO = frames.frame(frames.HELLO, Hello(MTU).encode())


def test_a_host_is_answered_and_told_its_addresses_the_subnets_and_where_names_are() -> None:
    async def scenario(stage: Stage) -> None:
        stage.gateway.publish([ip_network("172.18.0.0/16"), ip_network("fd00:dc::/64")])
        host = stage.link()
        await host.say(HELLO)
        config = await host.config()
        assert host.head.split(b"\r\n")[0] == b"HTTP/1.1 101 Switching Protocols"
        assert b"Upgrade: dconnect-link/1" in host.head
        assert config.mtu == PACKET_BYTES
        assert config.addresses == (IPv4Interface("10.213.0.2/24"), IPv6Interface("fd3b::2/64"))
        assert config.subnets == (ip_network("172.18.0.0/16"), ip_network("fd00:dc::/64"))
        assert config.dns == (ip_address("10.213.0.1"), ip_address("fd3b::1"))

    run(scenario)


def test_frames_right_behind_the_request_are_not_lost() -> None:
    async def scenario(stage: Stage) -> None:
        packet = segment(HOST, WEB, (4000, 80), tcp.ACK, b"early")
        host = stage.link(early=HELLO + frames.frame(frames.PACKET, packet)[:30])
        await host.config()
        await host.say(frames.frame(frames.PACKET, packet)[30:])
        assert await stage.admitted() == packet

    run(scenario)


def test_subnets_are_told_again_when_they_change_and_only_then() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        stage.gateway.publish([])
        stage.gateway.publish([ip_network("172.29.0.0/16")])
        assert (await host.config()).subnets == (ip_network("172.29.0.0/16"),)

    run(scenario)


def test_nobody_is_told_of_subnets_before_they_are_known() -> None:
    async def scenario(stage: Stage) -> None:
        stage.gateway._subnets = None
        host = stage.link(early=HELLO)
        await host.say(frames.frame(frames.PING, bytes(8)))
        assert (await host.frame())[0] == frames.PONG
        stage.gateway.publish([])
        await host.config()

    run(scenario)


def test_each_link_has_an_address_of_its_own_and_the_first_free_one() -> None:
    async def scenario(stage: Stage) -> None:
        hosts = []
        for number in (2, 3, 4):
            hosts.append(host := stage.link(early=HELLO))
            assert (await host.config()).addresses[0].ip == PLAN.subnet4[number]
        hosts[1].sock.close()
        await stage.until(lambda: stage.gateway.counters.links == 2)
        assert (await stage.link(early=HELLO).config()).addresses[0].ip == PLAN.subnet4[3]

    run(scenario)


def test_a_host_that_comes_back_gets_its_address_again_even_from_its_own_dead_link() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.host()
        old = await stage.host()
        new = await stage.host(address=PLAN.subnet4[3])
        assert (frames.BYE, b"the host opened another link") in await old.rest()
        packet = segment(WEB, PLAN.subnet4[3].packed, (80, 4000), tcp.ACK)
        stage.device.write(packet)
        assert await new.packet() == packet

    run(scenario)


def test_a_host_does_not_get_an_address_that_another_host_has() -> None:
    async def scenario(stage: Stage) -> None:
        first = stage.link(early=frames.frame(frames.HELLO, Hello(MTU, host="one").encode()))
        address = (await first.config()).addresses[0].ip
        second = stage.link(early=frames.frame(frames.HELLO, Hello(MTU, address=address, host="two").encode()))
        assert (await second.config()).addresses[0].ip != address
        packet = segment(WEB, address.packed, (80, 4000), tcp.ACK)
        stage.device.write(packet)
        assert await first.packet() == packet

    run(scenario)


def test_new_hosts_begin_their_search_for_an_address_at_different_places() -> None:
    """So an agent that was restarted gives nobody the address of a host that is about to come back."""
    given = {PLAN.choose({}, f"host {number}", None) for number in range(50)}
    assert len(given) > 40
    assert given <= set(range(2, 255))
    number = PLAN.choose({}, "one", None)
    assert number is not None
    assert PLAN.choose({number: "two"}, "one", None) == (number + 1 if number < 254 else 2)
    assert PLAN.choose(dict.fromkeys(range(2, 255), "two"), "one", None) is None


@pytest.mark.parametrize("address", ["10.213.0.1", "10.213.0.0", "10.213.0.255", "10.99.0.2", "fd3b::9"])
def test_an_address_that_is_no_links_is_not_given(address: str) -> None:
    async def scenario(stage: Stage) -> None:
        host = stage.link(early=frames.frame(frames.HELLO, Hello(MTU, address=ip_address(address)).encode()))
        assert (await host.config()).addresses[0].ip == PLAN.subnet4[2]

    run(scenario)


def test_links_are_bounded() -> None:
    async def scenario(stage: Stage) -> None:
        hosts = [stage.link() for _ in range(LINKS)]
        one_more = stage.link()
        answer = await asyncio.get_running_loop().sock_recv(one_more.sock, 4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert stage.ways.sessions[-1].outcome == "not_ready"
        assert len(hosts) == LINKS

    run(scenario)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x09\x00\x00\x00", "unknown kind 9"),
        (b"\x01\x01\x00\x00", "65536 bytes"),
        (HELLO, "says hello twice"),
        (frames.frame(frames.CONFIG, b"{}"), "something else before it"),
        (frames.frame(frames.HELLO, b"{}") + HELLO, "hello"),
    ],
)
def test_a_frame_that_cannot_be_ends_the_link_with_the_reason(data: bytes, reason: str) -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.say(data)
        kind, said = (await host.rest())[-1]
        assert kind == frames.BYE
        assert reason in said.decode()
        assert stage.ways.sessions[-1].outcome == "malformed"
        assert stage.gateway.counters.links == 0

    run(scenario)


def test_packets_before_hello_end_the_link() -> None:
    async def scenario(stage: Stage) -> None:
        host = stage.link(early=frames.frame(frames.PACKET, segment(HOST, WEB, (4000, 80), tcp.ACK)))
        assert (await host.rest())[-1][0] == frames.BYE
        assert not stage.gateway.counters.dropped

    run(scenario)


def test_bye_ends_the_link_with_its_reason() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.say(frames.bye("going to sleep"))
        await host.rest()
        session = stage.ways.sessions[-1]
        assert (session.outcome, session.detail) == ("ok", "going to sleep")

    run(scenario)


def test_a_ping_comes_back_with_its_eight_bytes() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.say(frames.frame(frames.PING, b"12345678"))
        assert await host.frame() == (frames.PONG, b"12345678")

    run(scenario)


@pytest.mark.parametrize(
    "packet",
    [
        segment(b"\x0a\xd5\x00\x03", WEB, (4000, 80), tcp.ACK),
        segment(b"\x0a\xd5\x00\x03", WEB, (4000, 80), tcp.SYN),
        segment(ip_address("ad5:2::").packed, WEB6, (4000, 80), tcp.ACK),  # begins with the host's four bytes
        udp.packet((WEB, 7), (HOST, 7), b"reflected"),
        build(b"\x0a\xd5\x00\x03", WEB, 1, b"\x08\x00\xf7\xff" + bytes(4)),
    ],
    ids=["TCP", "SYN", "IPv6", "UDP", "ping"],
)
def test_no_packet_comes_from_another_address_than_the_links_own(packet: bytes) -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        right = segment(HOST, WEB, (4000, 80), tcp.ACK)
        await host.send(packet, right)
        assert await stage.admitted() == right
        assert stage.dropped == {"source": 1}
        assert not stage.ways.asked

    run(scenario)


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x00" * 60, segment(HOST, WEB, (1, 2), tcp.ACK)[:-1]], ids=len)
def test_what_is_no_packet_is_counted_and_goes_nowhere(packet: bytes) -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        right = segment(HOST, WEB, (4000, 80), tcp.ACK)
        await host.send(packet, right)
        assert await stage.admitted() == right
        assert stage.dropped == {"malformed": 1}

    run(scenario)


def test_the_kernels_packets_go_to_the_link_that_has_the_address() -> None:
    async def scenario(stage: Stage) -> None:
        first, second = await stage.host(), await stage.host()
        here, there = (segment(WEB, PLAN.subnet4[n].packed, (80, 4000), tcp.ACK, bytes((n,))) for n in (2, 3))
        six = segment(WEB6, PLAN.subnet6[3].packed, (80, 4000), tcp.ACK)
        nowhere = segment(WEB, PLAN.subnet4[9].packed, (80, 4000), tcp.ACK)
        for packet in (here, there, nowhere, six, here):
            stage.device.write(packet)
        assert [await first.packet(), await first.packet()] == [here, here]
        assert [await second.packet(), await second.packet()] == [there, six]
        assert stage.dropped == {"no_link": 1}

    run(scenario)


def test_after_so_many_bytes_of_large_packets_the_links_have_their_turn() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.host()
        large = segment(WEB, PLAN.subnet4[2].packed, (80, 4000), tcp.ACK, bytes(60_000))
        for _ in range(6):
            stage.device.write(large)
        while not (carried := stage.gateway.counted()["packets"]["down"]):  # noqa: ASYNC110 - each turn is looked at
            await asyncio.sleep(0)
        assert carried == 5  # the first number of them that are 256 KiB

    run(scenario)


async def flood(stage: Stage, number: int, count: int) -> int:
    """Bulk for a link whose host does not read; how many packets the device took."""
    bulk = [segment(WEB, PLAN.subnet4[number].packed, (80, n), tcp.ACK, bytes(60_000)) for n in range(16)]
    taken = idle = 0
    for packet in itertools.islice(itertools.cycle(bulk), count):
        try:
            stage.device.write(packet)
            taken, idle = taken + 1, 0
        except BlockingIOError:
            idle += 1
            if idle > 100:
                break
        await asyncio.sleep(0)
    return taken


def test_a_host_that_does_not_read_holds_up_no_other() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.host()
        second = await stage.host()
        await flood(stage, 2, 400)
        assert stage.dropped.get("full", 0) > 0
        packet = segment(WEB, PLAN.subnet4[3].packed, (80, 4000), tcp.ACK)
        while True:
            try:
                stage.device.write(packet)
                break
            except BlockingIOError:
                await asyncio.sleep(0)
        assert await second.packet() == packet

    run(scenario)


def test_a_single_host_that_does_not_read_makes_the_device_wait_and_loses_nothing() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        sent = await flood(stage, 2, 400)
        assert sent < 400
        assert not stage.dropped
        assert [len(await host.packet()) for _ in range(sent)] == [60_040] * sent

    run(scenario)


def test_the_tunnels_own_pings_find_room_behind_bulk() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        sent = await flood(stage, 2, 400)
        message = b"\x08\x00\xe5\xca\x12\x34\x00\x01"
        await host.send(build(HOST, OWN, 1, message))
        await stage.until(lambda: stage.gateway.counted()["packets"]["up"] == 1)
        packets = [await host.packet() for _ in range(sent)]
        at = next(n for n, packet in enumerate(packets) if len(packet) < 100)
        assert at < sent // 2
        assert not stage.dropped

    run(scenario)


def test_what_was_carried_is_counted_also_when_the_link_is_gone() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        packet = segment(HOST, WEB, (4000, 80), tcp.ACK)
        await host.send(packet, packet)
        await stage.admitted()
        stage.device.write(segment(WEB, HOST, (80, 4000), tcp.ACK))
        await host.packet()
        host.sock.close()
        await stage.until(lambda: stage.gateway.counters.links == 0)
        counted = stage.gateway.counted()
        assert counted["packets"] == {"up": 2, "down": 1}
        assert counted["bytes"] == {"up": 80, "down": 40}
        assert counted["links_opened"] == 1

    run(scenario)


def test_ipv6_goes_the_same_way() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        packet = segment(HOST6, WEB6, (4000, 80), tcp.ACK)
        await host.send(packet)
        assert await stage.admitted() == packet

    run(scenario)
