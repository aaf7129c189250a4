"""Random inventories one after the other: what the cache kept must be what a fresh resolver would say."""

from __future__ import annotations

from ipaddress import ip_address

from dnslib import DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.core.inventory import Container, State
from dconnect.dns import Found, NotOurs, Resolver, Zone, build
from kit.dns import NETWORKS, query, respond
from kit.inventories import container, endpoint, inventory

NAMES = ["web", "db", "api", "n", "shop", "a.b"]
names = st.sampled_from(NAMES)
STATES: list[State] = ["running", "running", "running", "paused", "exited"]
DOMAINS = [
    "",
    "api.docker",
    "*.api.docker",
    "x.api.docker",
    "web.example",
    "*.a.example,x.a.example",
    "web.shop,*.shop.n",
]
ASKED = [
    *(f"{name}.{suffix}" for name in NAMES for suffix in ("docker", "docker.test", "n.docker", "shop.docker")),
    *("1.web.shop.docker", "b.docker", "x.api.docker", "y.x.api.docker", "x.a.example", "y.a.example", "docker"),
    *("_http._tcp.web.docker", "_tcp.api.docker", "_53._udp.web.shop.docker"),
    *("web.shop", "1.web.shop", "shop.n", "1.shop.n", "web.n"),
    *(ip_address(f"10.0.0.{number}").reverse_pointer for number in range(1, 5)),
    *("0.0.10.in-addr.arpa", "10.in-addr.arpa", ip_address("fd00::1").reverse_pointer),
]
QUERIES = [query(name, qtype) for name in ASKED for qtype in ("A", "AAAA", "PTR", "SOA", "SRV", "TXT")]


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
        ports=draw(st.sampled_from([(), ("80/tcp",), ("53/udp", "80/tcp", "6379/tcp")])),
    )


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    found = draw(st.lists(containers(), max_size=5, unique_by=lambda each: each.name))
    known = draw(st.sampled_from([NETWORKS, NETWORKS[:1], ()]))
    return build(inventory(found, known), ("docker", "docker.test"), [ip_address("127.0.0.1")])


@given(st.lists(zones(), min_size=2, max_size=4))
@settings(max_examples=100, deadline=None)
def test_kept_answers_are_the_answers_of_the_zone_in_force(history: list[Zone]) -> None:
    long_lived = Resolver()
    for zone in history:
        long_lived.publish(zone)
        fresh = Resolver()
        fresh.publish(zone)
        for message in QUERIES:
            expected = unordered(respond(fresh, message))
            assert unordered(respond(long_lived, message)) == expected
            assert unordered(respond(long_lived, message)) == expected  # now from the cache


def unordered(answer: bytes | None) -> tuple[object, ...]:
    """All of an answer but the order of its records, which takes turns among replicas."""
    assert answer is not None
    record = DNSRecord.parse(answer)
    return answer[:12], sorted(map(repr, record.rr)), list(map(repr, record.auth)), list(map(repr, record.ar))


@given(zones())
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
