from __future__ import annotations

import pytest

from dconnect.dns import Found, Unknown
from dconnect.dns.names import Kind, claims, is_valid, strip_suffix
from dconnect.dns.zone import Answer, NxDomain
from kit.dns import zone
from kit.inventories import container, endpoint, ident

SUFFIXES = ("docker.test", "docker")


def relative(*args: object, **kwargs: object) -> dict[str, Kind]:
    given = container(*args, **kwargs)  # type: ignore[arg-type]
    return {claim.name: claim.kind for claim in claims(given, SUFFIXES) if not claim.absolute}


def test_a_plain_container_has_its_name_its_ids_and_its_place_on_its_network() -> None:
    assert relative("Web_1", endpoint("shop_default", "172.18.0.2")) == {
        "web_1": Kind.CONTAINER,
        ident("Web_1")[:12]: Kind.HOSTNAME,  # Docker's default host name, claimed once as id and once as hostname
        ident("Web_1"): Kind.ID,
        "web_1.shop_default": Kind.CONTAINER_IN_NETWORK,
    }


def test_a_compose_container_has_replica_project_and_service_names() -> None:
    names = relative("shop-web-2", service="2.web.shop")
    assert names["2.web.shop"] == Kind.REPLICA
    assert names["web.shop"] == Kind.SERVICE_IN_PROJECT
    assert names["web"] == Kind.SERVICE


def test_a_one_off_compose_container_has_no_service_names() -> None:
    names = relative("shop-web-run-1", service="web.shop", oneoff=True)
    assert "shop-web-run-1" in names
    assert not {"web", "web.shop", "1.web.shop"} & names.keys()


def test_aliases_hold_bare_and_on_their_network() -> None:
    names = relative("db", endpoint("back", "10.0.0.2", None, "Postgres"))
    assert names["postgres"] == Kind.ALIAS
    assert names["postgres.back"] == Kind.ALIAS_IN_NETWORK


def test_hostname_and_domainname_make_two_names() -> None:
    names = relative("m", hostname="mail", domainname="corp.example")
    assert names["mail"] == names["mail.corp.example"] == Kind.HOSTNAME


def test_bare_work_only_composites_of_single_labels() -> None:
    given = container(
        "api.stripe.com",
        endpoint("com", "10.0.0.2", None, "google", "api.stripe.com"),
        service="2.web.shop",
        hostname="mail",
        domainname="corp.example",
        domains="app.example,a.b.docker,*.c.docker",
    )
    assert {claim.name for claim in claims(given, SUFFIXES) if claim.bare} == {"2.web.shop", "web.shop", "google.com"}
    dotted = container("web", endpoint("a.com", "10.0.0.2", None, "www"), service="shop.com")
    assert {claim.name for claim in claims(dotted, SUFFIXES) if claim.bare} == {"1.shop.com", "shop.com"}


@pytest.mark.parametrize("name", ["", ".", "a..b", "a b", "bücher", "a/b", "a\n", "*.x", "a.", ".a"])
def test_names_that_dns_cannot_write_are_invalid(name: str) -> None:
    assert not is_valid(name)


@pytest.mark.parametrize("name", ["a", "shop_web_1", "a-b.c_d", "1", "web.shop"])
def test_names_that_docker_allows_are_valid(name: str) -> None:
    assert is_valid(name)


def test_unwritable_aliases_are_left_out() -> None:
    names = relative("c", endpoint("n", "10.0.0.2", None, "a b", "", "x..y"))
    assert set(names) == {"c", "c.n", ident("c"), ident("c")[:12]}


@pytest.mark.parametrize("name", ["dconnect", "localhost"])
def test_reserved_names_are_nobodys(name: str) -> None:
    assert name not in relative(name, endpoint("n", "10.0.0.2", None, name), hostname=name)


@pytest.mark.parametrize(
    ("label", "name", "absolute"),
    [
        ("api.docker", "api", False),
        ("API.Docker.test.", "api", False),
        ("*.api.docker", "*.api", False),
        ("app.example.com", "app.example.com", True),
        ("*.example.com", "*.example.com", True),
    ],
)
def test_a_label_domain_is_relative_unless_it_lies_outside_every_suffix(label: str, name: str, absolute: bool) -> None:
    found = [claim for claim in claims(container("c", domains=label), SUFFIXES) if claim.kind == Kind.DOMAIN]
    assert [(claim.name, claim.absolute) for claim in found] == [(name, absolute)]


def test_a_label_may_hold_several_domains_and_stray_commas() -> None:
    found = [
        claim.name
        for claim in claims(container("c", domains="a.docker, ,b.com,"), SUFFIXES)
        if claim.kind == Kind.DOMAIN
    ]
    assert found == ["a", "b.com"]


@pytest.mark.parametrize(
    "label",
    [
        "*",
        "*.",
        "a.*.com",
        "**.com",
        ".",
        "docker",
        "*.docker",
        "com",
        "*.com",
        "2.0.18.172.in-addr.arpa",
        "*.ip6.arpa",
    ],
)
def test_a_label_that_is_no_domain_claims_nothing(label: str) -> None:
    assert not [claim for claim in claims(container("c", domains=label), SUFFIXES) if claim.kind == Kind.DOMAIN]


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("web.docker", "web"),
        ("web.docker.test", "web"),
        ("a.b.docker", "a.b"),
        ("docker", ""),
        ("xdocker", None),
        ("web.test", None),
        ("docker.com", None),
        ("", None),
    ],
)
def test_a_suffix_is_cut_at_a_dot_only(name: str, rest: str | None) -> None:
    assert strip_suffix(name, SUFFIXES) == rest


@pytest.mark.parametrize(
    "label", ["dev.dconnect.domains", "dev.orbstack.domains", "com.dnsdock.alias", "coredns.dockerdiscovery.host"]
)
def test_labels_written_for_others_are_read_like_ours(label: str) -> None:
    made = container("c", labels=((label, "api.docker,app.example.com"),))
    found = [(claim.name, claim.absolute) for claim in claims(made, SUFFIXES) if claim.kind == Kind.DOMAIN]
    assert found == [("api", False), ("app.example.com", True)]


def test_other_labels_name_nothing() -> None:
    made = container("c", labels=(("com.dnsdock.image", "x.docker"), ("dev.orbstack.http-port", "80")))
    assert not [claim for claim in claims(made, SUFFIXES) if claim.kind == Kind.DOMAIN]


@pytest.mark.parametrize(
    ("value", "ignored"), [("true", True), (" True", True), ("1", True), ("false", False), ("", False), ("0", False)]
)
def test_the_label_ignore_takes_all_names_from_a_container(value: str, ignored: bool) -> None:
    made = zone(container("c", endpoint("n", "10.0.0.2"), labels=(("dev.dconnect.ignore", value),)))
    assert isinstance(made.resolve("c"), Unknown if ignored else Found)
    assert isinstance(made.lookup("2.0.0.10.in-addr.arpa", 12), NxDomain if ignored else Answer)
    assert [row.name for row in made.table()] == ([] if ignored else ["c"])
