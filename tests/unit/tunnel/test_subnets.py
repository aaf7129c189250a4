"""What may be routed beside what the host has: one line for each kind of conflict."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dconnect.core.limits import TUNNEL_SUBNETS
from dconnect.tunnel.subnets import Choice, HostNet, Route, judge

LAN = Route(ip_network("192.168.1.0/24"), "en0")
DEFAULT = Route(ip_network("0.0.0.0/0"), "en0", ip_address("192.168.1.1"))
VPN = Route(ip_network("10.0.0.0/8"), "wg0")
HOST = HostNet((DEFAULT, LAN, VPN), ((ip_address("192.168.1.7"), "en0"), (ip_address("fd00:1::7"), "en0")))
DOOR = ip_address("127.0.0.1")


def _judge(*wanted: str, host: HostNet = HOST, choice: Choice | None = None, door: str = "127.0.0.1") -> list[str]:
    """The routed subnets, and the refused with their reasons."""
    verdict = judge(map(ip_network, wanted), host, choice or Choice(), ip_address(door))
    return [*map(str, verdict.routed), *map(str, verdict.refused)]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("192.168.1.0/24", "it holds this host's own address 192.168.1.7 on en0"),
        ("192.168.0.0/16", "it holds this host's own address 192.168.1.7 on en0"),
        ("fd00:1::/64", "it holds this host's own address fd00:1::7 on en0"),
        ("192.168.1.0/30", "it holds the gateway of this host's route 0.0.0.0/0 via 192.168.1.1 on en0"),
        ("192.168.1.128/25", "this host has the route 192.168.1.0/24 on en0"),
        ("10.0.0.0/8", "this host has the route 10.0.0.0/8 on wg0"),
        ("10.5.0.0/16", "this host has the route 10.0.0.0/8 on wg0"),
        ("8.8.8.0/24", "it is no private network; --include asks for it nevertheless"),
        ("0.0.0.0/0", "it is no private network; --include asks for it nevertheless"),
        ("2001:db8::/32", "it is no private network; --include asks for it nevertheless"),
        ("169.254.0.0/16", "it is no private network; --include asks for it nevertheless"),
        ("127.0.0.0/8", "it is no private network; --include asks for it nevertheless"),
        ("224.0.0.0/4", "it is no private network; --include asks for it nevertheless"),
    ],
)
def test_what_means_something_here_is_refused_and_the_rest_goes_up(wanted: str, reason: str) -> None:
    assert _judge("172.18.0.0/16", wanted, "fd17::/64") == [
        "172.18.0.0/16",
        "fd17::/64",
        f"{wanted} is not routed: {reason}.",
    ]


def test_a_narrower_route_of_the_host_is_a_conflict_as_well() -> None:
    host = HostNet((Route(ip_network("172.18.5.0/24"), "tun3", ip_address("10.8.0.1")),))
    assert _judge("172.18.0.0/16", host=host) == [
        "172.18.0.0/16 is not routed: this host has the route 172.18.5.0/24 via 10.8.0.1 on tun3."
    ]


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "0.0.0.0/1", "::/0", "2000::/3", "::/1"])
def test_a_default_route_and_the_halves_of_it_are_no_conflict(everything: str) -> None:
    host = HostNet((Route(ip_network(everything), "utun9"),))
    assert _judge("172.18.0.0/16", "fd17::/64", host=host) == ["172.18.0.0/16", "fd17::/64"]


def test_the_agent_is_not_reached_through_its_own_tunnel() -> None:
    assert _judge("172.18.0.0/16", door="172.18.0.9") == [
        "172.18.0.0/16 is not routed: the agent itself is reached at 172.18.0.9."
    ]


def test_include_goes_over_a_wider_route_and_to_public_networks() -> None:
    choice = Choice(include=(ip_network("10.5.0.0/16"), ip_network("203.0.113.0/24")))
    assert _judge("172.18.0.0/16", choice=choice) == ["10.5.0.0/16", "203.0.113.0/24", "172.18.0.0/16"]


@pytest.mark.parametrize("include", ["10.0.0.0/8", "192.168.1.0/25", "0.0.0.0/1"])
def test_include_takes_nothing_that_is_this_hosts(include: str) -> None:
    choice = Choice(include=(ip_network(include),))
    assert _judge(choice=choice)[0].startswith(f"{include} is not routed: ")


def test_exclude_leaves_out_a_subnet_or_a_part_of_one() -> None:
    choice = Choice(exclude=(ip_network("172.18.64.0/18"), ip_network("172.19.0.0/16"), ip_network("fd17::/16")))
    assert _judge("172.18.0.0/16", "172.19.5.0/24", "fd17::/64", choice=choice) == ["172.18.128.0/17", "172.18.0.0/18"]


def test_excluding_the_part_that_conflicts_resolves_the_conflict() -> None:
    host = HostNet((Route(ip_network("172.18.128.0/17"), "wg0"),))
    choice = Choice(exclude=(ip_network("172.18.128.0/17"),))
    assert _judge("172.18.0.0/16", host=host, choice=choice) == ["172.18.0.0/17"]


def test_there_are_no_more_routes_than_the_bound() -> None:
    wanted = [str(ip_network((0xAC100000 + (n << 8), 24))) for n in range(TUNNEL_SUBNETS + 2)]
    told = _judge(*wanted)
    assert told[:TUNNEL_SUBNETS] == wanted[:TUNNEL_SUBNETS]
    assert [line.split(": ")[1] for line in told[TUNNEL_SUBNETS:]] == [
        f"{TUNNEL_SUBNETS} subnets are routed already."
    ] * 2


def test_a_subnet_that_is_named_twice_is_routed_once() -> None:
    assert _judge("172.18.0.0/16", "172.18.0.0/16") == ["172.18.0.0/16"]
