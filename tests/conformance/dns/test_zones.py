"""What names have: RFC 1034, 1035, 2308, 3596, 4074, 4592, 6761, 8020, 8482."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from kit.dns import asked, query, serving, zone
from kit.inventories import container, endpoint

WEB = container("web", endpoint("n", "10.0.0.2"), service="1.web.shop", domains="*.wild.docker,app.example.com")
DUAL = container("dual", endpoint("n", "10.0.0.3", "fd00::3"))
RESOLVER = serving(WEB, DUAL)


def ask(name: str, qtype: str = "A") -> DNSRecord:
    return asked(RESOLVER, query(name, qtype))


def records(record: DNSRecord) -> list[tuple[str, str]]:
    return [(QTYPE[each.rtype], str(each.rdata)) for each in record.rr]


def is_nodata(record: DNSRecord) -> bool:
    return (
        record.header.rcode == RCODE.NOERROR and not record.rr and [each.rtype for each in record.auth] == [QTYPE.SOA]
    )


def is_nxdomain(record: DNSRecord) -> bool:
    return (
        record.header.rcode == RCODE.NXDOMAIN and not record.rr and [each.rtype for each in record.auth] == [QTYPE.SOA]
    )


def test_rfc1034_s3_6_all_addresses_of_a_name_are_in_one_answer() -> None:
    pool = [container(f"r{n}", endpoint("n", f"10.0.1.{n}"), service=f"{n}.api.shop") for n in range(1, 5)]
    record = asked(serving(*pool), query("api.shop.docker"))
    assert records(record) == [("A", f"10.0.1.{n}") for n in range(1, 5)]


def test_rfc1034_s4_2_1_a_zone_has_soa_and_ns_at_its_top() -> None:
    assert records(ask("docker", "NS")) == [("NS", "dconnect.docker.")]
    [(kind, soa)] = records(ask("docker.test", "SOA"))
    assert kind == "SOA"
    assert soa.startswith("dconnect.docker. hostmaster.dconnect.docker. ")


def test_rfc1034_s4_3_1_answers_are_authoritative_in_our_zones_only() -> None:
    assert ask("web.docker").header.aa == ask("no.docker").header.aa == ask("web.docker", "MX").header.aa == 1
    assert ask("example.com").header.aa == 0


def test_rfc1034_s4_3_1_recursion_is_not_offered() -> None:
    for name in ("web.docker", "no.docker", "example.com"):
        assert (ask(name).header.ra, ask(name).header.rd) == (0, 1)


@pytest.mark.parametrize("name", ["example.com", "web", "com", ".", "docker.com"])
def test_rfc1035_s4_1_1_names_of_other_zones_are_refused(name: str) -> None:
    record = ask(name)
    assert (record.header.rcode, record.rr, record.auth) == (RCODE.REFUSED, [], [])


# -- RFC 2308 --------------------------------------------------------------------------------


@pytest.mark.parametrize("qtype", ["AAAA", "MX", "HTTPS", "SVCB", "SRV", "CNAME", "NS", "SOA", "DS", "DNSKEY"])
def test_rfc2308_s2_2_an_existing_name_without_that_type_is_nodata(qtype: str) -> None:
    assert is_nodata(ask("web.docker", qtype))


def test_rfc4074_s4_2_aaaa_of_an_ipv4_name_is_never_nxdomain() -> None:
    for name in ("web.docker", "1.web.shop.docker", "app.example.com", "x.wild.docker", "dconnect.docker"):
        assert is_nodata(ask(name, "AAAA")), name


@pytest.mark.parametrize("qtype", ["A", "AAAA", "MX", "HTTPS"])
def test_rfc2308_s2_1_a_missing_name_is_nxdomain_for_every_type(qtype: str) -> None:
    assert is_nxdomain(ask("no.docker", qtype))


@pytest.mark.parametrize("name", ["no.docker", "shop.docker"])
def test_rfc2308_s3_negative_answers_have_the_soa_of_the_zone(name: str) -> None:
    [soa] = ask(name).auth
    assert str(soa.rname) == "docker."


def test_rfc2308_s3_the_negative_ttl_is_the_lesser_of_soa_ttl_and_minimum() -> None:
    [soa] = ask("no.docker").auth
    assert soa.ttl == soa.rdata.times[4] == 1


def test_rfc1035_s3_2_1_answers_live_for_one_second() -> None:
    assert [record.ttl for record in ask("web.docker").rr] == [1]


# -- RFC 8020, 4592 --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shop.docker", "web.shop.docker.test", "n.docker", "docker", "wild.docker"])
def test_rfc8020_s2_a_name_with_something_below_it_exists(name: str) -> None:
    assert ask(name, "TXT").header.rcode == RCODE.NOERROR


def test_rfc8020_s2_below_nxdomain_there_is_nothing() -> None:
    names = [name.removeprefix("*.") for row in zone(WEB, DUAL).table() for name in row.names]
    below = [name for name in names if name.endswith(".docker")]
    assert {"1.web.shop.docker", "wild.docker", "dual.n.docker"} <= set(below)
    for name in below:
        labels = name.split(".")
        for start in range(len(labels)):
            assert ask(".".join(labels[start:])).header.rcode == RCODE.NOERROR, name


def test_rfc8020_s2_below_an_address_prefix_that_holds_containers_nothing_is_denied() -> None:
    name = ip_address("fd00::3").reverse_pointer
    labels = name.split(".")
    for start in range(17):  # down to the subnet's own /64
        assert ask(".".join(labels[start:]), "PTR").header.rcode == RCODE.NOERROR
    assert ask(".".join(labels[17:]), "PTR").header.rcode == RCODE.REFUSED


def test_rfc4592_s2_2_1_a_wildcard_answers_for_any_depth_below() -> None:
    for name in ("a.wild.docker", "a.b.wild.docker"):
        record = ask(name)
        assert records(record) == [("A", "10.0.0.2")]
        assert str(record.rr[0].rname) == f"{name}."


def test_rfc4592_s2_2_1_a_wildcard_does_not_answer_below_names_that_exist() -> None:
    resolver = serving(container("c", endpoint("n", "10.0.0.2"), domains="*.w.docker,host.w.docker,a.ent.w.docker"))
    assert asked(resolver, query("x.host.w.docker")).header.rcode == RCODE.NXDOMAIN
    assert asked(resolver, query("x.ent.w.docker")).header.rcode == RCODE.NXDOMAIN
    assert is_nodata(asked(resolver, query("ent.w.docker")))
    assert asked(resolver, query("x.other.w.docker")).header.rcode == RCODE.NOERROR


def test_rfc4592_s2_2_2_the_wildcards_own_top_has_no_addresses() -> None:
    assert is_nodata(ask("wild.docker"))


# -- reverse ---------------------------------------------------------------------------------


def test_rfc1035_s3_5_an_ipv4_address_has_a_name() -> None:
    assert records(ask("3.0.0.10.in-addr.arpa", "PTR")) == [("PTR", "dual.docker.")]


def test_rfc3596_s2_5_an_ipv6_address_has_a_name() -> None:
    assert records(ask(ip_address("fd00::3").reverse_pointer, "PTR")) == [("PTR", "dual.docker.")]


def test_rfc1035_s3_5_unused_addresses_of_our_subnets_do_not_exist() -> None:
    record = ask("9.9.9.10.in-addr.arpa", "PTR")
    assert is_nxdomain(record)
    assert str(record.auth[0].rname) == "10.in-addr.arpa."


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.1.1", "8.8.8.8", "fd01::1", "::1"])
def test_rfc1035_s3_5_other_addresses_are_refused(address: str) -> None:
    assert ask(ip_address(address).reverse_pointer, "PTR").header.rcode == RCODE.REFUSED


# -- RFC 6761, 8482 --------------------------------------------------------------------------


def test_rfc6761_s6_2_the_reserved_suffix_is_served() -> None:
    assert records(ask("web.docker.test")) == [("A", "10.0.0.2")]
    assert ask("web.test").header.rcode == RCODE.REFUSED


def test_rfc6761_s6_3_localhost_is_never_a_container() -> None:
    impostor = container("localhost", endpoint("n", "10.0.0.9", None, "localhost"), hostname="localhost")
    assert asked(serving(impostor), query("localhost.docker")).header.rcode == RCODE.NXDOMAIN
    assert records(asked(serving(impostor), query("localhost"))) == [("A", "127.0.0.1")]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "x.y.localhost"])
def test_rfc6761_s6_3_localhost_is_the_loopback_and_asked_nowhere_else(name: str) -> None:
    assert records(ask(name)) == [("A", "127.0.0.1")]
    assert records(ask(name, "AAAA")) == [("AAAA", "::1")]
    assert is_nodata(ask(name, "MX"))


@pytest.mark.parametrize("name", ["invalid", "x.y.Invalid"])
def test_rfc6761_s6_4_nothing_in_invalid_exists(name: str) -> None:
    assert is_nxdomain(ask(name))


def test_rfc8482_s4_1_any_gives_a_subset_of_what_there_is() -> None:
    assert records(ask("dual.docker", "ANY")) == [("A", "10.0.0.3"), ("AAAA", "fd00::3")]
    assert is_nodata(ask("shop.docker", "ANY"))
    assert is_nxdomain(ask("no.docker", "ANY"))
