from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dconnect.core.config import Egress
from dconnect.core.inventory import Container, Endpoint, Inventory, Network
from dconnect.core.limits import KNOWN_PEERS
from dconnect.core.rules import Rules
from dconnect.proxy.policy import Admission, Policy

_INVENTORY = Inventory(
    containers=(
        Container("a", "web", "running", endpoints=(Endpoint("front", "f", "172.18.0.2", "fd00::2"),)),
        Container("b", "old", "exited", endpoints=(Endpoint("front", "f", "172.18.0.9", None),)),
        Container("c", "agent", "running", role="agent", endpoints=(Endpoint("bridge", "d", "172.17.0.5", None),)),
        Container("e", "lan", "running", endpoints=(Endpoint("home", "h", "192.168.1.70", None),)),
        Container("d", "odd", "running", endpoints=(Endpoint("meta", "m", "169.254.7.7", None),)),
    ),
    networks=(
        Network("f", "front", "bridge", subnets=("172.18.0.0/16", "fd00::/64"), gateways=("172.18.0.1", "fd00::1")),
        Network("d", "bridge", "bridge", subnets=("172.17.0.0/16", "no subnet"), gateways=("172.17.0.1", "")),
        Network("h", "home", "macvlan", subnets=("192.168.1.0/24",), gateways=("192.168.1.1",)),
    ),
)


def _objection(text: str, egress: Egress = "allow") -> str:
    return Policy(_INVENTORY, egress, [ip_address("fd00::a")]).objection(ip_address(text))


@pytest.mark.parametrize(
    "address",
    [
        "172.18.0.2",
        "fd00::2",
        "::ffff:172.18.0.2",
        "172.18.0.9",
        "169.254.7.7",
        "93.184.215.14",
        "10.0.0.1",
        "192.168.1.1",
    ],
)
def test_containers_and_others_are_allowed_by_default(address: str) -> None:
    assert _objection(address) == ""


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("172.18.0.1", "engine's own"),
        ("fd00::1", "engine's own"),
        ("172.17.0.1", "engine's own"),
        ("172.17.0.5", "agent itself"),
        ("::ffff:172.17.0.5", "agent itself"),
        ("fd00::a", "agent itself"),
    ],
)
def test_what_belongs_to_the_engine_or_to_nobody_is_refused(address: str, rule: str) -> None:
    assert rule in _objection(address)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("172.18.0.2", True),
        ("fd00::2", True),
        ("::ffff:172.18.0.2", True),
        ("192.168.1.70", True),
        ("172.18.0.9", False),
        ("172.18.0.77", False),
        ("fd00::77", False),
        ("192.168.1.20", False),
        ("93.184.215.14", False),
        ("2001:db8::1", False),
    ],
)
def test_without_egress_only_containers_are_left_not_what_else_is_on_their_networks(
    address: str, allowed: bool
) -> None:
    sentence = "destinations other than containers are refused (--egress deny)"
    assert _objection(address, "deny") == ("" if allowed else sentence)


def test_a_container_is_known_by_its_address() -> None:
    policy = Policy(_INVENTORY, "allow")
    assert policy.is_container(ip_address("172.18.0.2"))
    assert not policy.is_container(ip_address("172.17.0.5")), "the agent is no destination"
    assert not policy.is_container(ip_address("172.18.0.9")), "a stopped container has no address"


def _ruled(text: str, allow: str = "", deny: str = "", egress: Egress = "allow", name: str = "") -> str:
    policy = Policy(_INVENTORY, egress, [ip_address("fd00::a")], Rules(allow.split(), deny.split()))
    return policy.objection(ip_address(text), name)


@pytest.mark.parametrize("address", ["172.18.0.2", "::ffff:172.18.0.2", "172.18.0.9", "172.18.0.1"])
def test_a_denied_cidr_closes_containers_too_and_is_named(address: str) -> None:
    assert _ruled(address, deny="172.16.0.0/12") == "rule --deny 172.16.0.0/12"
    policy = Policy(_INVENTORY, "allow", rules=Rules(deny=["172.16.0.0/12"]))
    assert not policy.is_container(ip_address("172.18.0.2"))
    assert policy.is_container(ip_address("fd00::2"))


@pytest.mark.parametrize(
    ("address", "rule"),
    [("172.18.0.2", ""), ("172.18.0.3", "rule --deny 172.18.0.0/24"), ("172.18.1.1", "")],
)
def test_the_longest_prefix_counts_in_whatever_order(address: str, rule: str) -> None:
    assert _ruled(address, allow="172.18.0.2 172.16.0.0/12", deny="172.18.0.0/24") == rule


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "172.17.0.1", "::127.0.0.1"])
def test_allow_opens_what_is_refused_by_default(address: str) -> None:
    assert _objection(address) != ""
    assert _ruled(address, allow=address) == ""
    assert _ruled(address, allow="0.0.0.0/0 ::/0", egress="deny") == ""


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("172.17.0.5", "agent itself"),
        ("fd00::a", "agent itself"),
    ],
)
def test_nothing_opens_nobodys_addresses_and_the_agents_own(address: str, reason: str) -> None:
    assert reason in _ruled(address, allow=f"0.0.0.0/0 ::/0 {address}")


@pytest.mark.parametrize(
    ("address", "name", "allowed"),
    [
        ("93.184.215.14", "api.example.com", True),
        ("93.184.215.14", "notexample.com", False),
        ("93.184.215.14", "", False),
        ("10.1.2.3", "", True),
        ("10.1.2.3", "whatever", True),
        ("169.254.169.254", "example.com", False),
        ("172.18.0.1", "example.com", False),
    ],
)
def test_without_egress_allowed_domains_and_cidrs_are_left_and_a_domain_opens_nothing_of_the_engines(
    address: str, name: str, allowed: bool
) -> None:
    assert (_ruled(address, "example.com 10.0.0.0/8", egress="deny", name=name) == "") is allowed


def test_a_denied_address_stays_so_under_an_allowed_domain() -> None:
    assert _ruled("10.1.2.3", "example.com", "10.0.0.0/8", name="example.com") == "rule --deny 10.0.0.0/8"


@pytest.mark.parametrize(
    ("name", "objection"),
    [
        ("example.com", "rule --deny example.com"),
        ("a.b.example.com", "rule --deny example.com"),
        ("api.example.com", ""),
        ("v1.api.example.com", ""),
        ("bad.api.example.com", "rule --deny bad.api.example.com"),
        ("anexample.com", ""),
        ("com", ""),
    ],
)
def test_the_longest_domain_counts_for_a_name(name: str, objection: str) -> None:
    rules = Rules(["api.example.com"], ["example.com", "bad.api.example.com"])
    assert Policy(_INVENTORY, "allow", rules=rules).name_objection(name) == objection


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        ("172.17.0.1", True),
        ("::ffff:172.17.0.1", True),
        ("192.168.1.7", True),
        ("10.99.0.2", True),
        ("172.17.0.9", False),
        ("::ffff:172.17.0.9", False),
        ("172.18.0.2", False),
        ("fd00::2", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_the_host_is_admitted_and_containers_are_not(peer: str, admitted: bool) -> None:
    admission = Admission(_INVENTORY, [ip_network("172.17.0.0/16")], [ip_address("172.17.0.1")])
    assert [admission.admits(peer), admission.admits(peer)] == [admitted, admitted]


def test_a_scan_of_sources_does_not_fill_memory() -> None:
    admission = Admission(Inventory(), [], [])
    for number in range(3 * KNOWN_PEERS):
        assert admission.admits(str(ip_address(number + (10 << 24))))
    assert len(admission._known) == KNOWN_PEERS
