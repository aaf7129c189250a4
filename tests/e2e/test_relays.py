"""The two ways in which engines publish ports: iptables, which keeps the client's address, and docker-proxy.

Behind docker-proxy, and behind every desktop's relay, all clients have the bridge gateway's address.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from dnslib import DNSRecord

from bed.client import Client
from bed.dconnect import DNS_PORT, PROXY_PORT, Dconnect
from bed.intruder import NOTHING, ask, knock
from bed.namespace import Namespace
from bed.session import Bed
from bed.waiting import wait_for

GREETING = b"\x05\x01\x00"
QUERY = DNSRecord.question("near.docker").pack()
NO_WAY = ("failed ConnectionRefusedError", "failed TimeoutError")


@dataclass(frozen=True, slots=True)
class Way:
    """An agent, and somebody who reaches its published ports."""

    bed: Bed
    user: Namespace
    address: str
    seen_as: str
    """The user's address as the agent sees it."""


@pytest.fixture(scope="module", params=["iptables", "docker-proxy"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    with contextlib.ExitStack() as stack:
        if request.param == "iptables":
            bed = stack.enter_context(Bed.start(userland_proxy=False))
            made = Way(bed, bed.host, bed.address, bed.host.address)
        else:
            bed = request.getfixturevalue("bed")
            # Local connections pass by the rules of iptables.
            made = Way(bed, bed.engine_netns, "127.0.0.1", "172.17.0.1")
        dconnect = Dconnect(bed, made.user)
        bed.docker("network", "create", "relay_net")
        stack.callback(bed.docker, "network", "rm", "relay_net")
        for name, network in (("near", None), ("far", "relay_net")):
            bed.target(name, network=network)
            stack.callback(bed.docker, "rm", "--force", name)
        stack.callback(dconnect.down)
        dconnect("up", f"--bind={made.address}", *dconnect.image_options())
        yield made


def test_proxies_and_names_serve(way: Way) -> None:
    for name in ("near", "far"):
        wanted = f"hello from {way.bed.inspect(name)['Id'][:12]}\n"
        for options in (["--socks5-hostname"], ["-x"], ["-p", "-x"]):
            words = ["curl", "-sS", "--fail", *options, f"{way.address}:{PROXY_PORT}", f"http://{name}/"]
            assert way.user.run(words, check=True).stdout == wanted
        for transport in ("+notcp", "+tcp"):
            words = ["dig", "+short", "+time=2", transport, "-p", str(DNS_PORT), f"@{way.address}", f"{name}.docker"]
            assert way.user.run(words, check=True).stdout.strip() == way.bed.address_of(name)


def test_the_agent_sees_the_address_that_this_way_leaves(way: Way) -> None:
    agent = Dconnect(way.bed, way.user)
    assert Client(way.user, way.address, PROXY_PORT).get("http://near:81/").code == 502
    wait_for("the session is logged", lambda: bool(agent.sessions("near:81")), 5)
    assert {line["peer"].rpartition(":")[0] for line in agent.sessions("near:81")} == {way.seen_as}


@pytest.mark.parametrize("container", ["near", "far"])
def test_containers_get_nothing(way: Way, container: str) -> None:
    agent = way.bed.address_of("dconnect")
    gateways = [
        endpoint["Gateway"]
        for name in ("near", "far")
        for endpoint in way.bed.inspect(name)["NetworkSettings"]["Networks"].values()
    ]
    for address in dict.fromkeys((agent, way.bed.address, *gateways)):
        framed = len(QUERY).to_bytes(2, "big") + QUERY
        for port, message in ((PROXY_PORT, GREETING), (DNS_PORT, framed)):
            assert knock(way.bed, container, address, port, message) in (*NOTHING, *NO_WAY), (address, port)
        assert ask(way.bed, container, address, DNS_PORT, QUERY) in NO_WAY, address
