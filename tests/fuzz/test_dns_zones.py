"""Random inventories: what DNS says is what a slow and obvious twin says, and what the cache kept is what DNS says."""

from __future__ import annotations

from ipaddress import ip_address

from dnslib import QTYPE, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.core.inventory import Container, Inventory, State
from dconnect.dns import Found, NotOurs, Resolver, Zone, build
from kit.dns import NETWORKS, query, respond
from kit.inventories import container, endpoint, inventory, network
from kit.zone_twin import Twin

SUFFIXES, AGENT = ("docker", "docker.test"), "127.0.0.1"
NAMES = ["web", "db", "api", "n", "shop", "a.b"]
names = st.sampled_from(NAMES)
STATES: list[State] = ["running", "running", "running", "paused", "exited"]
DOMAINS = [
    "",
    "api.docker",
    "*.api.docker",
    "x.api.docker",
    "*.api.docker,q.x.api.docker",
    "web.example",
    "*.a.example,x.a.example",
    "web.shop,*.shop.n",
]
LABELS: list[tuple[tuple[str, str], ...]] = [
    *[()] * 4,
    (("com.dnsdock.alias", "dock.docker,shared.example"),),
    (("coredns.dockerdiscovery.host", "shared.example"), ("dev.orbstack.domains", "*.orb.docker,x.api.docker")),
    (("dev.dconnect.ignore", "true"),),
    (("dev.dconnect.ignore", "false"), ("dev.orbstack.domains", "dconnect.docker,localhost.docker,*.docker,*.com")),
]
ASKED = [
    *(f"{name}.{suffix}" for name in NAMES for suffix in ("docker", "docker.test", "n.docker", "shop.docker")),
    *("1.web.shop.docker", "b.docker", "x.api.docker", "y.x.api.docker", "x.a.example", "y.a.example", "docker"),
    *("dock.docker", "any.orb.docker", "orb.docker", "shared.example", "dconnect.docker", "localhost.docker", "x.com"),
    *("a.example", "docker.test", "0.0.0.0.d.f.ip6.arpa", "0.1.10.in-addr.arpa", "9.0.0.10.in-addr.arpa", "n.docker"),
    *("_http._tcp.y.x.api.docker", "_tcp._tcp.web.docker", "_redis._tcp.n.docker.test", "_80._tcp.a.b.docker"),
    *("_http._tcp.web.docker", "_tcp.api.docker", "_53._udp.web.shop.docker"),
    *("web.shop", "1.web.shop", "shop.n", "1.shop.n", "web.n"),
    *(ip_address(f"10.0.0.{number}").reverse_pointer for number in range(1, 5)),
    *("0.0.10.in-addr.arpa", "10.in-addr.arpa", ip_address("fd00::1").reverse_pointer),
]
KINDS = ("A", "AAAA", "PTR", "SOA", "NS", "SRV", "TXT")
QUESTIONS = {(name, kind): query(name, kind) for name in ASKED for kind in KINDS}
PARTS = 5
"""Each inventory is asked one part of the questions: answers are slow to read, and the twin's slow to find."""
ODD_NETWORKS = (network("n", "10.0.0.0/30", "fd00::/62"), network("m", "10.0.0.0/15"))
"""Zones that end within an octet or a nibble, one of them inside another."""


@st.composite
def containers(draw: st.DrawFn) -> Container:
    number = draw(st.integers(1, 4))
    ipv6 = draw(st.sampled_from([None, f"fd00::{number}"]))
    alias = draw(st.lists(names, max_size=1))
    places = [endpoint("n", f"10.0.0.{number}", ipv6, *alias), endpoint("m", f"10.1.0.{number}")]
    service = draw(st.sampled_from(["", "1.web.shop", "2.web.shop", "1.web.blog", "1.db.shop", "1.shop.n"]))
    return container(
        draw(names),
        *places[: draw(st.integers(0, 2))],
        state=draw(st.sampled_from(STATES)),
        service=service,
        hostname=draw(st.sampled_from(["", *NAMES])),
        domains=draw(st.sampled_from(DOMAINS)),
        health=draw(st.sampled_from(["", "healthy", "starting", "unhealthy"])),
        domainname=draw(st.sampled_from(["", "n", "shop.n"])),
        oneoff=draw(st.sampled_from([False, False, False, True])),
        role=draw(st.sampled_from(["", "", "", "", "agent"])),
        labels=draw(st.sampled_from(LABELS)),
        ports=draw(st.sampled_from([(), ("80/tcp",), ("53/udp", "80/tcp", "6379/tcp")])),
    )


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    found = draw(st.lists(containers(), max_size=5, unique_by=lambda each: each.name))
    return inventory(found, draw(st.sampled_from([NETWORKS, NETWORKS[:1], ODD_NETWORKS, ()])))


def zone_of(found: Inventory) -> Zone:
    return build(found, SUFFIXES, [ip_address(AGENT)])


zones = inventories().map(zone_of)


@given(st.lists(zones, min_size=2, max_size=4), st.integers(0, PARTS - 1))
@settings(max_examples=150, deadline=None)
def test_kept_answers_are_the_answers_of_the_zone_in_force(history: list[Zone], part: int) -> None:
    long_lived = Resolver()
    for zone in history:
        long_lived.publish(zone)
        fresh = Resolver()
        fresh.publish(zone)
        for message in list(QUESTIONS.values())[part::PARTS]:
            expected = unordered(respond(fresh, message))
            assert unordered(respond(long_lived, message)) == expected
            assert unordered(respond(long_lived, message)) == expected  # now from the cache


@given(inventories(), st.integers(0, PARTS - 1))
@settings(max_examples=200, deadline=None)
def test_every_answer_is_the_twin_s(found: Inventory, part: int) -> None:
    resolver, twin = Resolver(), Twin(found, SUFFIXES, AGENT)
    resolver.publish(zone_of(found))
    for (name, kind), message in list(QUESTIONS.items())[part::PARTS]:
        answer = respond(resolver, message, stream=True)
        assert answer is not None
        record = DNSRecord.parse(answer)
        seen = record.header.rcode, frozenset((QTYPE[each.rtype], str(each.rdata)) for each in record.rr)
        assert seen == twin.answer(name, kind), f"{name} {kind}"


def unordered(answer: bytes | None) -> tuple[object, ...]:
    """All of an answer but the order of its records, which takes turns among replicas."""
    assert answer is not None
    record = DNSRecord.parse(answer)
    return answer[:12], sorted(map(repr, record.rr)), list(map(repr, record.auth)), list(map(repr, record.ar))


@given(zones)
@settings(max_examples=150, deadline=None)
def test_what_the_table_prints_resolves_to_its_container_alike_with_and_without_suffix(zone: Zone) -> None:
    for row in zone.table():
        for name in row.names:
            found = zone.resolve(name.replace("*", "zzz"))
            if isinstance(found, Found):
                assert row.name in [each.name for each in found.containers]
                if name.endswith(".docker"):
                    bare, other = name.removesuffix(".docker").replace("*", "zzz"), name.replace("*", "zzz") + ".test"
                    assert zone.resolve(other) == found
                    if "." not in bare or bare in zone.bare:
                        assert zone.resolve(bare) == found
                    else:
                        assert zone.resolve(bare) == NotOurs() or zone.domains.covers(bare) is not None
            else:
                assert row.state not in ("running", "paused") or not any(each.ipv4 for each in row.endpoints)
