"""The gateway's process: what it hands over to whom, what hosts are told to route, and who may not be reached."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from dconnect.agent import dialer
from dconnect.agent.gateway import AgentWays, subnets
from dconnect.agent.handover import LinkHandover, RelayHandover, link_reception, relay_reception
from dconnect.agent.knowledge import Knowledge
from dconnect.agent.lent import Lent
from dconnect.agent.log import LogBuffer
from dconnect.agent.ownnet import OwnNetwork
from dconnect.agent.sessions import Sessions
from dconnect.core.address import parse_ip
from dconnect.core.config import TUNNEL_SUBNET_V6, AgentConfig
from dconnect.core.credentials import Credentials, proof
from dconnect.core.errors import DialError
from dconnect.core.events import Front, Session
from dconnect.core.failure import Failure
from dconnect.core.inventory import Inventory, Network
from dconnect.proxy.poller import Channel, Poller
from dconnect.tunnel.gateway import Plan

DEADLINE = 10.0
TOKEN = "0123456789abcdef0123456789abcdef"
PROOF = proof(Credentials("dconnect", TOKEN), bytes(16))


def run(scenario: Callable[[Poller], Awaitable[None]]) -> None:
    async def main() -> None:
        poller = Poller()
        try:
            async with asyncio.timeout(DEADLINE):
                await scenario(poller)
        finally:
            poller.close()

    asyncio.run(main())


def lent(directory: Path, workers: int = 2) -> Lent:
    config = AgentConfig(embedded=True, tun=PROOF)
    return Lent(config, "unix:///none", 0, 0, 0, 0, 0, 0, 0, str(directory), workers=workers)


def test_a_link_goes_to_the_gateway_with_all_that_came_behind_its_request(tmp_path: Path) -> None:
    async def scenario(poller: Poller) -> None:
        path = lent(tmp_path).link_path
        came: asyncio.Queue[tuple[socket.socket, Session, bytes, bytes]] = asyncio.Queue()
        receiver = link_reception(path, lambda *found: came.put_nowait(found))
        links = LinkHandover(path, PROOF)
        ours, client = socket.socketpair()
        ours.setblocking(False)
        channel = Channel(poller, ours)
        early = os.urandom(20 * 1024)
        with pytest.raises(DialError, match="away or very busy"):
            links.take(channel, Session("10.99.0.2:4711", "link", started=12.5), early, b"")
        receiver.start()
        links.take(channel, Session("10.99.0.2:4711", "link", started=12.5), early, b"")
        sock, session, data, key = await came.get()
        assert (session.peer, session.front, session.started) == ("10.99.0.2:4711", "link", 12.5)
        assert (data, key) == (early, b"")
        assert ours.fileno() < 0
        sock.send(b"!")
        assert client.recv(1) == b"!"
        for each in (sock, client):
            each.close()
        links.close()
        receiver.close()

    run(scenario)


@pytest.mark.parametrize(
    ("front", "key"), [("trunk", b"\x00\xff" + bytes(14)), ("tunnel", bytes(range(0xF0, 0x100)))], ids=["trunk", "move"]
)
def test_a_trunk_and_what_a_stream_of_one_moves_to_go_to_the_gateway_with_their_key(
    tmp_path: Path, front: Front, key: bytes
) -> None:
    async def scenario(poller: Poller) -> None:
        path = lent(tmp_path).link_path
        came: asyncio.Queue[tuple[socket.socket, Session, bytes, bytes]] = asyncio.Queue()
        receiver = link_reception(path, lambda *found: came.put_nowait(found))
        receiver.start()
        links = LinkHandover(path, PROOF)
        with contextlib.ExitStack() as held:
            ours, client = socket.socketpair()
            held.enter_context(client)
            ours.setblocking(False)
            early = bytes(range(256)) * 8
            links.take(Channel(poller, ours), Session("10.99.0.2:4711", front, started=12.5), early, key)
            sock, session, data, told = await came.get()
            held.enter_context(sock)
            assert session == Session("10.99.0.2:4711", front, started=12.5)
            assert (data, told) == (early, key)
            assert ours.fileno() < 0
            sock.send(b"!")
            assert client.recv(1) == b"!"
        links.close()
        receiver.close()

    run(scenario)


def test_only_the_right_token_opens_a_link(tmp_path: Path) -> None:
    links = LinkHandover(str(tmp_path / "none"), PROOF)
    assert links.opens(TOKEN.encode())
    for wrong in (b"", TOKEN[:-1].encode(), TOKEN.encode() + b"0", PROOF.encode()):
        assert not links.opens(wrong)


def test_flows_go_to_the_workers_in_turn_and_past_one_that_is_away(tmp_path: Path) -> None:
    async def scenario(_poller: Poller) -> None:
        made = lent(tmp_path)
        came: asyncio.Queue[tuple[int, socket.socket, socket.socket, Session]] = asyncio.Queue()

        def receiver(index: int) -> Callable[[socket.socket, socket.socket, Session], None]:
            return lambda client, upstream, session: came.put_nowait((index, client, upstream, session))

        receivers = [relay_reception(made.relay_path(index), receiver(index)) for index in range(2)]
        relays = RelayHandover([made.relay_path(index) for index in range(2)])
        session = Session("10.213.0.2:4000", "tunnel", "172.18.0.3:80", "172.18.0.3", started=1.5, connect=0.25)
        session.bytes_up, session.bytes_down = 16_385, 7

        async def give() -> int:
            client, upstream = socket.socketpair()
            assert relays.give(client, upstream, session)
            assert client.fileno() == upstream.fileno() == -1
            index, client, upstream, told = await came.get()
            assert told == session
            assert (told.bytes_up, told.bytes_down) == (16_385, 7)
            client.send(b"!")
            assert upstream.recv(1) == b"!"
            client.close()
            upstream.close()
            return index

        pair = socket.socketpair()
        assert not relays.give(*pair, session), "nobody is there"
        for sock in pair:
            assert sock.fileno() >= 0, "and they are still ours"
            sock.close()
        receivers[0].start()
        receivers[1].start()
        assert sorted([await give(), await give()]) == [0, 1]
        receivers[1].close()
        assert {await give(), await give()} == {0}
        receivers[0].close()
        relays.close()

    run(scenario)


def test_hosts_route_the_engines_own_networks_and_no_lan() -> None:
    def network(name: str, driver: str, *texts: str) -> Network:
        return Network(name, name, driver, subnets=texts)

    inventory = Inventory(
        networks=(
            network("b", "bridge", "172.18.0.0/16", "fd00:dc::/64"),
            network("a", "bridge", "172.17.0.0/16"),
            network("lan", "macvlan", "192.168.1.0/24"),
            network("lan2", "ipvlan", "192.168.2.0/24"),
            network("host", "host"),
        )
    )
    assert list(subnets(inventory)) == [
        ip_network("172.17.0.0/16"),
        ip_network("172.18.0.0/16"),
        ip_network("fd00:dc::/64"),
    ]


@pytest.mark.parametrize(
    ("address", "failure"),
    [
        ("10.213.0.77", Failure.HOST_UNREACHABLE),
        ("fd3b:9c7e:51d2::77", Failure.HOST_UNREACHABLE),
        ("127.0.0.1", Failure.POLICY),
        ("169.254.169.254", Failure.POLICY),
        ("::1", Failure.POLICY),
    ],
)
def test_the_rules_of_the_proxy_hold_and_other_hosts_are_out_of_reach(
    tmp_path: Path, address: str, failure: Failure
) -> None:
    async def scenario(poller: Poller) -> None:
        made = lent(tmp_path)
        plan = Plan(made.config.tunnel_subnet(), TUNNEL_SUBNET_V6)
        known = Knowledge(made.config, OwnNetwork(), (plan.own4, plan.own6))
        known.publish(Inventory())
        ways = AgentWays(made, known, plan, Sessions(LogBuffer(2, lambda _: b"")), poller)
        target = parse_ip(address)
        assert target is not None
        for way in (ways.connect(target, 80, Session("")), ways.datagram(target, 80), ways.echo(target)):
            with pytest.raises(DialError) as error:
                await way
            assert error.value.failure is failure
        await ways.close()
        await known.close()

    run(scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
@pytest.mark.parametrize(
    ("kind", "address", "request_type", "reply_type"), [(b"i", "127.0.0.1", 8, 0), (b"j", "::1", 128, 129)]
)
def test_a_ping_socket_hears_replies_and_nothing_else(
    kind: bytes, address: str, request_type: int, reply_type: int
) -> None:
    """raw(7); RFC 3542 §3.2. On loopback the request itself comes by as well."""
    with dialer.create(kind) as sock:
        sock.setblocking(True)
        sock.settimeout(DEADLINE)
        sock.connect((address, 0))
        message = bytes((request_type, 0)) + (0xFFFF - (request_type << 8) - 7).to_bytes(2) + b"\x00\x00\x00\x07"
        sock.send(message)
        answer = sock.recv(100)
        assert answer[20 if kind == b"i" else 0] == reply_type


def test_without_a_tunnel_nothing_is_lent_for_one(tmp_path: Path) -> None:
    assert len(lent(tmp_path).descriptors()) == 7
    assert replace(lent(tmp_path), tun=(8, 9)).descriptors()[-2:] == (8, 9)
