"""What the gateway makes of a host's connections, datagrams and pings."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from ipaddress import ip_address

import pytest

from dconnect.core.failure import Failure
from dconnect.tunnel.gateway import flows as gateway_flows
from dconnect.tunnel.gateway import listeners
from dconnect.tunnel.gateway import tcp as gateway_tcp
from dconnect.tunnel.gateway import udp as gateway_udp
from dconnect.tunnel.wire import icmp, tcp, udp
from dconnect.tunnel.wire.fragments import Reassembly, split
from dconnect.tunnel.wire.packets import ICMP, UDP, build, parse, with_hops
from kit.gateway import HOST, HOST6, OWN, PLAN, WEB, WEB6, Stage, run, segment

SYN = segment(HOST, WEB, (4000, 80), tcp.SYN)
SYN6 = segment(HOST6, WEB6, (4000, 80), tcp.SYN)
PEER, LOCAL = ("10.213.0.2", 4000), ("172.18.0.3", 80)


# -- TCP ----------------------------------------------------------------------------------------


def test_a_syn_is_held_until_the_destination_has_said_yes() -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.gate.clear()
        host = await stage.host()
        await host.send(SYN)
        await stage.until(lambda: stage.ways.asked == [("172.18.0.3", 80)])
        with pytest.raises(BlockingIOError):
            stage.device.read_into(bytearray(100))
        stage.ways.gate.set()
        assert await stage.admitted() == SYN
        assert (4, 80) in stage.listeners, "someone listens by then"

    run(scenario)


def test_a_syn_that_comes_again_is_dropped_while_held_and_let_through_afterwards() -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.gate.clear()
        host = await stage.host()
        await host.send(SYN, SYN, SYN)
        await stage.until(lambda: stage.dropped == {"held": 2})
        stage.ways.gate.set()
        assert await stage.admitted() == SYN
        await host.send(SYN)
        assert await stage.admitted() == SYN
        assert stage.ways.asked == [("172.18.0.3", 80)], "dialed once"

    run(scenario)


def test_an_accepted_connection_and_the_dialed_one_go_to_a_worker_together() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(SYN)
        await stage.admitted()
        stage.listeners[4, 80].connect_from(PEER, LOCAL)
        await stage.until(lambda: bool(stage.ways.relayed))
        client, upstream, session = stage.ways.relayed[0]
        assert client.getsockname() == LOCAL
        upstream.send(b"hello")
        assert stage.ways.far[0].recv(5) == b"hello"
        assert (session.peer, session.target, session.front) == ("10.213.0.2:4000", "172.18.0.3:80", "tunnel")
        await host.send(SYN)  # later, from the same port: another connection
        await stage.until(lambda: len(stage.ways.asked) == 2)

    run(scenario)


def test_accepted_connections_are_not_probed_all_at_once() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        for port in range(4000, 4005):
            await host.send(segment(HOST, WEB, (port, 80), tcp.SYN))
            await stage.admitted()
            stage.listeners[4, 80].connect_from(("10.213.0.2", port), LOCAL)
        await stage.until(lambda: len(stage.ways.relayed) == 5)
        clients = [client for client, _, _ in stage.ways.relayed]
        assert len({each.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) for each in clients}) == 5

    run(scenario)


def test_ipv6_connections_are_paired_too() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(SYN6)
        assert await stage.admitted() == SYN6
        stage.listeners[6, 80].connect_from(("fd3b::2", 4000), ("fd00:dc::3", 80))
        await stage.until(lambda: bool(stage.ways.relayed))
        assert stage.ways.relayed[0][2].peer == "[fd3b::2]:4000"

    run(scenario)


@pytest.mark.parametrize("peer", [("10.213.0.2", 4001), ("172.18.0.9", 4000)])
def test_a_connection_that_nobody_dialed_for_is_cut(peer: tuple[str, int]) -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(SYN)
        await stage.admitted()
        listener = stage.listeners[4, 80]
        listener.connect_from(peer, LOCAL)
        stranger = listener.waiting[0]
        await stage.until(lambda: stranger.fileno() < 0)
        assert not stage.ways.relayed

    run(scenario)


def test_a_connection_that_no_worker_takes_is_cut_on_both_sides_and_told() -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.takes_relays = False
        host = await stage.host()
        await host.send(SYN)
        await stage.admitted()
        listener = stage.listeners[4, 80]
        listener.connect_from(PEER, LOCAL)
        client = listener.waiting[0]
        await stage.until(lambda: bool(stage.ways.sessions))
        assert client.fileno() < 0
        assert stage.ways.far[0].recv(1) == b""
        assert stage.ways.sessions[0].outcome == "not_ready"

    run(scenario)


def test_a_refusal_is_a_rst_as_the_destination_would_send_it() -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.refusals[80] = Failure.REFUSED
        host = await stage.host()
        for syn in (SYN, SYN6):
            await host.send(syn)
            packet = parse(await host.packet())
            asked = parse(syn)
            assert (packet.source, packet.destination) == (asked.destination, asked.source)
            found = tcp.parse(packet)
            assert (found.source_port, found.destination_port) == (80, 4000)
            assert found.flags == tcp.RST | tcp.ACK
            assert found.acknowledgment == 1001  # RFC 9293 §3.5.2: SEG.SEQ + SEG.LEN
        assert [session.outcome for session in stage.ways.sessions] == ["refused", "refused"]
        with pytest.raises(BlockingIOError):
            stage.device.read_into(bytearray(100))

    run(scenario)


@pytest.mark.parametrize(
    ("failure", "code4", "code6"),
    [
        (Failure.HOST_UNREACHABLE, (3, 1), (1, 3)),
        (Failure.NETWORK_UNREACHABLE, (3, 0), (1, 0)),
        (Failure.POLICY, (3, 13), (1, 1)),
        (Failure.GENERAL, (3, 1), (1, 3)),
    ],
)
def test_other_failures_are_icmp_from_the_tunnels_own_end(
    failure: Failure, code4: tuple[int, int], code6: tuple[int, int]
) -> None:
    """RFC 792, RFC 1812 §5.2.7.1, RFC 4443 §3.1."""

    async def scenario(stage: Stage) -> None:
        stage.ways.refusals[80] = failure
        host = await stage.host()
        for syn, code, own, header in ((SYN, code4, OWN, 28), (SYN6, code6, PLAN.own6.packed, 48)):
            await host.send(syn)
            raw = await host.packet()
            packet = parse(raw)
            assert packet.source == own
            assert (packet.payload[0], packet.payload[1]) == code
            assert raw[header:] == syn

    run(scenario)


@pytest.mark.parametrize("failure", [Failure.TIMEOUT, Failure.NOT_READY])
def test_silence_stays_silence(failure: Failure) -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.refusals[80] = failure
        host = await stage.host()
        await host.send(SYN)
        await stage.until(lambda: bool(stage.ways.sessions))
        stage.ways.refusals[80] = Failure.REFUSED
        await host.send(SYN)  # it was forgotten: this one is dialed anew
        assert tcp.parse(parse(await host.packet())).flags & tcp.RST

    run(scenario)


def test_no_error_answers_a_syn_that_is_damaged() -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.refusals[80] = Failure.REFUSED
        host = await stage.host()
        await host.send(SYN[:-1] + b"\x01")
        await stage.until(lambda: stage.dropped == {"malformed": 1})

    run(scenario)


def test_what_is_for_many_is_dropped() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        for address in (b"\xe0\x00\x00\x01", b"\xef\x01\x02\x03", b"\xff" * 4, ip_address("ff02::1").packed):
            await host.send(segment(HOST if len(address) == 4 else HOST6, address, (4000, 80), tcp.SYN))
        await stage.until(lambda: stage.dropped == {"multicast": 4})
        await host.send(udp.packet((HOST, 5353), (b"\xe0\x00\x00\xfb", 5353), b"mDNS"))
        await stage.until(lambda: stage.dropped == {"multicast": 5})
        assert not stage.ways.asked

    run(scenario)


def test_at_the_tunnels_own_address_names_are_served_and_nothing_else() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        names = segment(HOST, OWN, (4000, 53), tcp.SYN)
        await host.send(names)
        assert await stage.admitted() == names
        await host.send(segment(HOST, OWN, (4000, 1080), tcp.SYN))
        assert tcp.parse(parse(await host.packet())).flags & tcp.RST
        assert stage.ways.asked == [("own dns", 53)]

    run(scenario)


def test_held_syns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_tcp, "TUNNEL_DIALS", 3)

    async def scenario(stage: Stage) -> None:
        stage.ways.gate.clear()
        host = await stage.host()
        await host.send(*(segment(HOST, WEB, (4000 + n, 80), tcp.SYN) for n in range(5)))
        await stage.until(lambda: stage.dropped == {"full": 2})
        stage.ways.gate.set()

    run(scenario)


def test_a_syn_that_was_let_through_in_vain_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_tcp, "TUNNEL_ACCEPT_SECONDS", 0.0)

    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(SYN)
        await stage.until(lambda: bool(stage.ways.sessions))
        assert stage.ways.sessions[0].outcome == "gone"
        assert stage.ways.far[0].recv(1) == b""

    run(scenario)


def test_listeners_are_bounded_and_the_one_not_used_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "TUNNEL_LISTENERS", 2)

    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        for port in (80, 81):
            await host.send(segment(HOST, WEB, (4000, port), tcp.SYN))
            await stage.admitted()
        stage.listeners[4, 81].connect_from(PEER, ("172.18.0.3", 81))
        await stage.until(lambda: bool(stage.ways.relayed))
        await host.send(segment(HOST, WEB, (4000, 82), tcp.SYN))
        await stage.admitted()
        assert stage.listeners[4, 81].fileno() < 0
        assert stage.listeners[4, 80].fileno() >= 0, "a connection is still to come"

    run(scenario)


# -- UDP ----------------------------------------------------------------------------------------


def test_datagrams_go_out_through_one_socket_for_each_flow_and_come_back_from_the_true_address() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        loop = asyncio.get_running_loop()
        for source, destination in ((HOST, WEB), (HOST6, WEB6)):
            await host.send(*(udp.packet((source, 4000), (destination, 7), word) for word in (b"one", b"two")))
            await stage.until(lambda: bool(stage.ways.far))
            far = stage.ways.far.pop()
            assert [await loop.sock_recv(far, 10), await loop.sock_recv(far, 10)] == [b"one", b"two"]
            far.send(b"answer")
            packet = parse(await host.packet())
            assert (packet.source, packet.destination) == (destination, source)
            assert tuple(udp.parse(packet)) == (7, 4000, b"answer")
            far.close()
        assert stage.gateway.counted()["flows"]["udp"] == 2

    run(scenario)


def test_what_is_larger_than_the_hosts_mtu_comes_in_fragments() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host(mtu=1500)
        sent = os.urandom(4000)
        await host.send(*split(udp.packet((HOST, 4000), (WEB, 7), sent), 1500, 7))
        await stage.until(lambda: bool(stage.ways.far))
        far = stage.ways.far[0]
        assert await asyncio.get_running_loop().sock_recv(far, 65_535) == sent
        far.send(sent)
        reassembly, whole = Reassembly(), None
        while whole is None:
            raw = await host.packet()
            assert len(raw) <= 1500
            whole = reassembly.add(parse(raw), 0.0)
        assert bytes(udp.parse(parse(whole)).payload) == sent

    run(scenario)


def test_a_closed_port_is_told_by_the_icmp_error_that_the_kernel_got() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        for source, destination, code, quoted in ((HOST, WEB, (3, 3), 28), (HOST6, WEB6, (1, 4), 48)):
            sent = udp.packet((source, 4000), (destination, 7), b"word")
            await host.send(sent)
            await stage.until(lambda: bool(stage.ways.far))
            with stage.ways.far.pop() as far:
                await asyncio.get_running_loop().sock_recv(far, 10)
            await host.send(sent)
            packet = parse(await host.packet())
            assert (packet.payload[0], packet.payload[1]) == code
            assert packet.source == destination, "it is the host itself that says so"
            assert bytes(packet.payload[8 : 8 + quoted]) == sent[:quoted]

    run(scenario)


def test_a_refused_flow_is_told_for_each_datagram_and_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.refusals[7] = Failure.POLICY
        host = await stage.host()
        for _ in range(3):
            await host.send(udp.packet((HOST, 4000), (WEB, 7), b"word"))
            packet = parse(await host.packet())
            assert (packet.payload[0], packet.payload[1]) == (3, 13)
        assert len(stage.ways.asked) == 1
        monkeypatch.setattr(gateway_flows, "UDP_REFUSED_SECONDS", 0.0)
        await host.send(udp.packet((HOST, 4001), (WEB, 7), b"word"))
        await host.packet()
        await host.send(udp.packet((HOST, 4001), (WEB, 7), b"word"))
        await host.packet()
        assert len(stage.ways.asked) == 3, "after a while it is judged again"

    run(scenario)


def test_datagrams_that_wait_for_their_socket_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_flows, "TUNNEL_HELD_PACKETS", 2)

    async def scenario(stage: Stage) -> None:
        stage.ways.gate.clear()
        host = await stage.host()
        await host.send(*(udp.packet((HOST, 4000), (WEB, 7), word) for word in (b"one", b"two", b"three")))
        await stage.until(lambda: stage.dropped == {"full": 1})
        stage.ways.gate.set()
        await stage.until(lambda: bool(stage.ways.far))
        loop = asyncio.get_running_loop()
        assert [await loop.sock_recv(stage.ways.far[0], 10) for _ in range(2)] == [b"one", b"two"]

    run(scenario)


def test_flows_are_bounded_and_the_one_idle_for_longest_goes() -> None:
    async def scenario(stage: Stage) -> None:
        stage.gateway._udp.flows._most = 2
        host = await stage.host()
        for n, port in enumerate((1, 2, 1, 3)):
            await host.send(udp.packet((HOST, 4000), (WEB, port), b"word"))
            await stage.until(lambda n=n: stage.gateway.counted()["packets"]["up"] == n + 1)  # type: ignore[misc]
        await stage.until(lambda: len(stage.ways.far) == 3)
        assert stage.gateway.counted()["flows"]["udp"] == 2
        assert [key[3] for key in stage.gateway._udp.flows._flows] == [1, 3]  # type: ignore[index]

    run(scenario)


def test_an_idle_flow_is_forgotten() -> None:
    async def scenario(stage: Stage) -> None:
        stage.gateway._udp = gateway_udp.Datagrams(stage.gateway, idle_seconds=0.01)
        host = await stage.host()
        await host.send(udp.packet((HOST, 4000), (WEB, 7), b"word"))
        await stage.until(lambda: bool(stage.ways.far))
        await stage.until(lambda: stage.gateway.counted()["flows"]["udp"] == 0)

    run(scenario)


def test_flows_end_with_their_link() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(udp.packet((HOST, 4000), (WEB, 7), b"word"), build(HOST, WEB, 1, PING))
        await stage.until(lambda: len(stage.ways.far) == 2)
        host.sock.close()
        await stage.until(lambda: stage.gateway.counted()["flows"] == {"udp": 0, "echo": 0})

    run(scenario)


def test_names_are_answered_at_the_tunnels_own_address() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(udp.packet((HOST, 4000), (OWN, 53), b"query"))
        packet = parse(await host.packet())
        assert packet.source == OWN
        assert tuple(udp.parse(packet)) == (53, 4000, b"answer to query")
        await host.send(udp.packet((HOST, 4000), (OWN, 54), b"query"))
        assert bytes(parse(await host.packet()).payload[:2]) == b"\x03\x03"
        assert not stage.ways.asked

    run(scenario)


# -- ping ---------------------------------------------------------------------------------------

PING = bytes.fromhex("0800e5ca12340001")
"""Identifier 0x1234, sequence 1 (RFC 792)."""


def answer4(source: bytes, message: bytes, hops: int) -> bytes:
    """What a raw IPv4 socket gives: header and all."""
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, hops, 1, 0, source, bytes(4)) + message


def test_a_ping_goes_out_with_an_identifier_of_ours_and_its_answer_comes_back_with_the_hosts() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(build(HOST, WEB, 1, PING))
        await stage.until(lambda: bool(stage.ways.far))
        far = stage.ways.far[0]
        asked = await asyncio.get_running_loop().sock_recv(far, 100)
        kind, code, _, identifier, sequence = struct.unpack("!BBHHH", asked)
        assert (kind, code, sequence) == (8, 0, 1)
        assert icmp.parse_echo(parse(build(HOST, WEB, 1, asked))) is not None, "its checksum is right"
        strange = struct.pack("!BBHHH", 0, 0, 0, identifier ^ 1, 1)
        far.send(answer4(WEB, strange, 64))  # another program's
        far.send(answer4(WEB, struct.pack("!BBHHH", 0, 0, 0, identifier, 1) + b"data", 61))
        raw = await host.packet()
        packet = parse(raw)
        assert (packet.source, packet.destination) == (WEB, HOST)
        assert tuple(icmp.parse_echo(packet) or ()) == (False, 0x1234, 1, b"data")
        assert raw[8] == 61, "as many hops as it had"

    run(scenario)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [UDP, ICMP])
def test_the_hosts_hops_are_kept(version: int, protocol: int) -> None:
    source, destination = (HOST, WEB) if version == 4 else (HOST6, WEB6)
    option = (socket.IPPROTO_IP, socket.IP_TTL) if version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)

    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        if protocol == UDP:
            packet = udp.packet((source, 4000), (destination, 7), b"word")
            flows = stage.gateway._udp.flows
        else:
            packet = icmp.echo_packet(source, destination, icmp.Echo(True, 0x1234, 1, memoryview(b"data")))
            flows = stage.gateway._pings.flows
        for hops in (3, 200):
            await host.send(with_hops(packet, hops))
            await stage.until(lambda: bool(stage.ways.far))
            await asyncio.get_running_loop().sock_recv(stage.ways.far[0], 100)
            (flow,) = flows._flows.values()
            assert flow.sock is not None
            assert flow.sock.getsockopt(*option) == hops

    run(scenario)


def test_ipv6_pings_go_the_same_way() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(icmp.echo_packet(HOST6, WEB6, icmp.Echo(True, 0x1234, 1, memoryview(b"data"))))
        await stage.until(lambda: bool(stage.ways.far))
        far = stage.ways.far[0]
        asked = await asyncio.get_running_loop().sock_recv(far, 100)
        far.send(b"\x81" + asked[1:])
        packet = parse(await host.packet())
        assert packet.source == WEB6
        assert tuple(icmp.parse_echo(packet) or ()) == (False, 0x1234, 1, b"data")

    run(scenario)


def test_the_tunnels_own_end_answers_pings_itself() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(build(HOST, OWN, 1, PING + b"data"[:0]))
        assert tuple(icmp.parse_echo(parse(await host.packet())) or ()) == (False, 0x1234, 1, b"")
        assert not stage.ways.asked

    run(scenario)


def test_a_refused_ping_is_told() -> None:
    async def scenario(stage: Stage) -> None:
        stage.ways.refusals[0] = Failure.HOST_UNREACHABLE
        host = await stage.host()
        sent = build(HOST, WEB, 1, PING)
        await host.send(sent)
        packet = parse(await host.packet())
        assert bytes(packet.payload[:2]) == b"\x03\x01"
        assert bytes(packet.payload[8:]) == sent

    run(scenario)


def test_other_messages_and_protocols() -> None:
    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(build(HOST, WEB, 1, bytes.fromhex("0000fffe00000001")))  # an answer that nobody asked for
        await stage.until(lambda: stage.dropped == {"icmp": 1})
        sent = build(HOST, WEB, 132, bytes(12))
        await host.send(sent)
        packet = parse(await host.packet())
        assert bytes(packet.payload[:2]) == b"\x03\x02"  # RFC 792: protocol unreachable
        assert bytes(packet.payload[8:]) == sent

    run(scenario)


def test_icmp_errors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.tunnel.gateway.router.TUNNEL_ERRORS_PER_SECOND", 3)

    async def scenario(stage: Stage) -> None:
        host = await stage.host()
        await host.send(*(build(HOST, WEB, 132, bytes(12)) for _ in range(50)))
        await stage.until(lambda: stage.dropped.get("protocol") == 50)
        assert stage.dropped["errors"] >= 50 - 6  # a second may begin meanwhile

    run(scenario)
