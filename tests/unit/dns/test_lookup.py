"""What a name has in DNS, and what a changed inventory changes."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from dconnect.core.inventory import Container, Network
from dconnect.dns import NotOurs, Zone, build
from dconnect.dns.zone import Answer, NoData, NxDomain
from kit.inventories import container, endpoint, ident, inventory, network

A, NS, SOA, PTR, MX, AAAA, SRV, HTTPS, ANY = 1, 2, 6, 12, 15, 28, 33, 65, 255


def zone(*containers: Container, networks: Sequence[Network] = (), agent: Sequence[str] = ("127.0.0.1",)) -> Zone:
    return build(inventory(containers, networks), ("docker", "docker.test"), [ip_address(each) for each in agent])


def data(zone: Zone, name: str, qtype: int) -> list[str]:
    found = zone.lookup(name, qtype)
    assert isinstance(found, Answer), found
    return [str(record.data) for record in found.records]


WEB = container("web", endpoint("front", "172.18.0.2"), service="1.web.shop")


@pytest.mark.parametrize("name", ["web.docker", "web.docker.test", "1.web.shop.docker", "web.front.docker"])
def test_names_have_their_addresses_under_every_suffix(name: str) -> None:
    assert data(zone(WEB), name, A) == ["172.18.0.2"]


def test_the_apex_is_the_suffix_of_the_question() -> None:
    assert zone(WEB).lookup("web.docker.test", AAAA) == NoData("docker.test", lasting=True)


@pytest.mark.parametrize("qtype", [AAAA, MX, SRV, HTTPS, PTR, SOA, NS, 65280])
def test_an_existing_name_without_that_type_is_nodata(qtype: int) -> None:
    assert zone(WEB).lookup("web.docker", qtype) == NoData("docker", lasting=True)


@pytest.mark.parametrize("name", ["nobody.docker", "x.web.docker", "3.web.shop.docker", "localhost.docker"])
def test_missing_names_do_not_exist(name: str) -> None:
    assert zone(WEB).lookup(name, A) == NxDomain("docker")


@pytest.mark.parametrize("name", ["web", "xlocalhost", "example.com", "", "docker.com", "xdocker", "test"])
def test_bare_names_and_other_domains_are_not_ours(name: str) -> None:
    assert zone(WEB).lookup(name, A) == NotOurs()


@pytest.mark.parametrize("name", ["shop.docker", "front.docker.test"])
def test_a_name_with_names_below_it_is_nodata(name: str) -> None:
    assert isinstance(zone(WEB).lookup(name, A), NoData)


def test_a_stopped_container_does_not_exist_nor_does_what_only_it_held_open() -> None:
    stopped = container("web", service="1.web.shop", domains="app.example.com", state="exited")
    for name in ("web.docker", "web.shop.docker", "shop.docker"):
        assert zone(stopped).lookup(name, A) == NxDomain("docker")
    assert zone(stopped).lookup("app.example.com", SOA) == NxDomain("app.example.com")
    wild = container("web", domains="*.desk.docker", state="exited")
    for name in ("desk.docker", "x.desk.docker"):
        assert zone(wild).lookup(name, A) == NxDomain("docker")


def test_a_running_container_without_addresses_is_nodata() -> None:
    assert zone(container("web", endpoint("host", None))).lookup("web.docker", A) == NoData("docker", lasting=True)


def test_a_service_of_two_projects_does_not_exist_bare() -> None:
    both = zone(WEB, container("b", endpoint("b", "10.0.0.2"), service="1.web.blog"), container("c", service="1.web.c"))
    assert data(both, "web.docker", A) == ["172.18.0.2"]  # the container of that name
    others = zone(container("a", service="1.api.x"), container("b", service="1.api.y"))
    assert others.lookup("api.docker", A) == NxDomain("docker")


def test_the_suffix_itself_has_soa_and_ns_and_no_address() -> None:
    assert data(zone(), "docker", SOA) == ["docker"]
    assert data(zone(), "docker.test", NS) == ["dconnect.docker"]
    assert zone().lookup("docker", A) == NoData("docker", lasting=False)


def test_the_agent_is_where_the_host_reaches_it() -> None:
    assert data(zone(agent=["127.0.0.1"]), "dconnect.docker", A) == ["127.0.0.1"]
    assert data(zone(agent=["::1"]), "dconnect.docker.test", AAAA) == ["::1"]
    assert isinstance(zone(agent=["::1"]).lookup("dconnect.docker", A), NoData)


def test_any_gives_what_there_is() -> None:
    dual = container("dual", endpoint("n", "10.0.0.2", "fd00::2"))
    assert data(zone(dual), "dual.docker", ANY) == ["10.0.0.2", "fd00::2"]


def test_a_label_domain_is_a_zone_of_its_own() -> None:
    made = zone(container("app", endpoint("n", "10.0.0.2"), domains="app.example.com,*.apps.example.com"))
    assert data(made, "app.example.com", A) == ["10.0.0.2"]
    assert made.lookup("app.example.com", AAAA) == NoData("app.example.com", lasting=True)
    assert data(made, "x.apps.example.com", A) == ["10.0.0.2"]
    assert made.lookup("x.apps.example.com", AAAA) == NoData("apps.example.com", lasting=False)
    assert made.lookup("apps.example.com", A) == made.lookup("example.com", A) == NotOurs()


def test_below_an_exact_name_a_wildcard_does_not_hold() -> None:
    made = zone(container("app", endpoint("n", "10.0.0.2"), domains="*.apps.docker,one.apps.docker"))
    assert data(made, "two.apps.docker", A) == ["10.0.0.2"]
    assert made.lookup("x.one.apps.docker", A) == NxDomain("docker")
    assert isinstance(made.lookup("apps.docker", A), NoData)


# -- reverse ---------------------------------------------------------------------------------

NETWORKS = [
    network("front", "172.18.0.0/16", "fd00:0:0:1::/64"),
    network("narrow", "192.168.16.0/20"),
]
DUAL = container("web", endpoint("front", "172.18.0.2", "fd00:0:0:1::2"), endpoint("narrow", "192.168.17.5"))


def test_above_a_subnet_that_begins_with_zeros_nothing_is_ours() -> None:
    zeros = zone(networks=[network("zeros", "10.0.0.0/16", "fd00::/64")])
    for name in ("10.in-addr.arpa", "0.0.d.f.ip6.arpa"):
        assert zeros.lookup(name, PTR) == NotOurs()


@pytest.mark.parametrize("address", ["172.18.0.2", "192.168.17.5", "fd00:0:0:1::2"])
def test_an_address_has_its_containers_name_under_the_first_suffix(address: str) -> None:
    assert data(zone(DUAL, networks=NETWORKS), ip_address(address).reverse_pointer, PTR) == ["web.docker"]


def test_a_container_whose_name_is_not_its_own_is_named_by_its_id() -> None:
    impostor = container("localhost", endpoint("front", "172.18.0.7"))
    made = zone(impostor, networks=NETWORKS)
    assert data(made, "7.0.18.172.in-addr.arpa", PTR) == [f"{ident('localhost')[:12]}.docker"]


@pytest.mark.parametrize(
    ("name", "apex"),
    [
        ("9.0.18.172.in-addr.arpa", "18.172.in-addr.arpa"),
        ("9.17.168.192.in-addr.arpa", "17.168.192.in-addr.arpa"),
        ("x.2.0.18.172.in-addr.arpa", "18.172.in-addr.arpa"),
        ("02.0.18.172.in-addr.arpa", "18.172.in-addr.arpa"),
        ("9.18.172.in-addr.arpa", "18.172.in-addr.arpa"),
        (ip_address("fd00:0:0:1::9").reverse_pointer, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"),
    ],
)
def test_inside_dockers_subnets_an_address_without_container_does_not_exist(name: str, apex: str) -> None:
    assert zone(DUAL, networks=NETWORKS).lookup(name, PTR) == NxDomain(apex)


@pytest.mark.parametrize(
    "name",
    [
        "1.0.0.127.in-addr.arpa",
        "1.15.168.192.in-addr.arpa",
        "1.32.168.192.in-addr.arpa",
        "168.192.in-addr.arpa",
        "172.in-addr.arpa",
        "in-addr.arpa",
        "arpa",
        "x.in-addr.arpa",
        "256.172.in-addr.arpa",
        "xin-addr.arpa",
        "ip6.arpa",
        "d.f.ip6.arpa",
        "10.ip6.arpa",
        ip_address("fd00:0:0:2::2").reverse_pointer,
    ],
)
def test_outside_dockers_subnets_nothing_is_ours(name: str) -> None:
    assert zone(DUAL, networks=NETWORKS).lookup(name, PTR) == NotOurs()


def test_reverse_names_above_an_address_are_nodata_and_the_top_has_soa() -> None:
    made = zone(DUAL, networks=NETWORKS)
    assert isinstance(made.lookup("0.18.172.in-addr.arpa", PTR), NoData)
    assert isinstance(made.lookup("18.172.in-addr.arpa", PTR), NoData)
    assert data(made, "18.172.in-addr.arpa", SOA) == ["18.172.in-addr.arpa"]
    assert isinstance(made.lookup("16.168.192.in-addr.arpa", PTR), NoData)  # an apex without containers


def test_isolated_networks_with_the_same_address_give_both_names() -> None:
    both = zone(
        container("a", endpoint("x", "172.18.0.2")), container("b", endpoint("y", "172.18.0.2")), networks=NETWORKS
    )
    assert data(both, "2.0.18.172.in-addr.arpa", PTR) == ["a.docker", "b.docker"]


def test_a_stopped_containers_address_is_nobodys() -> None:
    stopped = container("web", endpoint("front", "172.18.0.2"), state="exited")
    assert isinstance(zone(stopped, networks=NETWORKS).lookup("2.0.18.172.in-addr.arpa", PTR), NxDomain)


def test_subnets_and_addresses_that_are_none_are_passed_over() -> None:
    made = zone(container("web", endpoint("front", "invalid")), networks=[network("front", "", "x/8")])
    assert isinstance(made.lookup("web.docker", A), NoData)


# -- changes ---------------------------------------------------------------------------------


def test_equal_inventories_change_nothing() -> None:
    assert not zone(DUAL, WEB, networks=NETWORKS).changed(zone(DUAL, WEB, networks=NETWORKS))


def test_a_new_address_changes_exactly_the_names_that_have_it() -> None:
    other = container("other", endpoint("front", "172.18.0.9"))
    moved = container("web", endpoint("front", "172.18.0.3"))
    before = zone(container("web", endpoint("front", "172.18.0.2")), other)
    names = {"web", "web.front", moved.short_id, moved.id}
    assert zone(moved, other).changed(before) == {
        *(f"{name}.{suffix}" for name in names for suffix in ("docker", "docker.test")),
        "2.0.18.172.in-addr.arpa",
        "3.0.18.172.in-addr.arpa",
    }


def test_changes_are_the_same_in_both_directions() -> None:
    one, two = zone(WEB), zone(container("web", endpoint("front", "172.18.0.2"), state="exited"))
    assert one.changed(two) == two.changed(one) != frozenset()


def test_a_start_changes_names_that_held_nothing_and_the_names_above_them() -> None:
    changed = zone(WEB).changed(zone())
    assert {"web.docker", "shop.docker", "front.docker"} <= changed


def test_a_pause_changes_nothing() -> None:
    paused = container("web", endpoint("front", "172.18.0.2"), service="1.web.shop", state="paused")
    assert not zone(paused).changed(zone(WEB))


def test_a_rename_changes_the_name_of_the_address() -> None:
    before = zone(container("a", endpoint("front", "172.18.0.2"), hostname="h"), networks=NETWORKS)
    after = zone(container("b", endpoint("front", "172.18.0.2"), hostname="h"), networks=NETWORKS)
    assert "2.0.18.172.in-addr.arpa" in after.changed(before)


def test_other_label_domains_change_their_names_only() -> None:
    before = container("app", endpoint("n", "10.0.0.2"), domains="old.example.com")
    after = container("app", endpoint("n", "10.0.0.2"), domains="new.example.com")
    # With a domain comes the empty name above it, which is no one's question but costs nothing to forget.
    assert (
        {"old.example.com", "new.example.com"}
        <= zone(after).changed(zone(before))
        <= {
            "old.example.com",
            "new.example.com",
            "example.com",
            "com",
        }
    )


def test_a_label_domain_ends_when_a_project_takes_its_name() -> None:
    label = container("x", endpoint("n", "10.0.0.2"), domains="web.shop")
    assert data(zone(label), "web.shop", A) == ["10.0.0.2"]
    assert zone(label, WEB).lookup("web.shop", A) == NotOurs()
    assert "web.shop" in zone(label, WEB).changed(zone(label))


def test_another_agent_address_changes_the_agents_name() -> None:
    assert zone(agent=["::1"]).changed(zone()) == {"dconnect.docker", "dconnect.docker.test"}


def test_other_suffixes_change_every_name() -> None:
    changed = build(inventory([WEB]), ("box",), ()).changed(build(inventory([WEB]), ("docker",), ()))
    assert {"web.box", "web.docker", "shop.docker", "dconnect.docker"} <= changed


def test_newly_known_subnets_change_the_names_of_addresses() -> None:
    assert "2.0.18.172.in-addr.arpa" in zone(DUAL, networks=NETWORKS).changed(zone(DUAL))


@pytest.mark.parametrize(
    ("address", "name"),
    [("172.18.0.2", "web.docker"), ("fd00:0:0:1::2", "web.docker"), ("172.18.0.9", None), ("192.0.2.1", None)],
)
def test_a_proxy_gets_the_name_that_ptr_has(address: str, name: str | None) -> None:
    made = zone(container("web", endpoint("front", "172.18.0.2", "fd00:0:0:1::2")), networks=NETWORKS)
    assert made.name_of(ip_address(address)) == name
