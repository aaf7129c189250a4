"""Ports as services, facts as text: RFC 2782, RFC 1464, RFC 1035 §3.3.14."""

from __future__ import annotations

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from dconnect.core.limits import DNS_SERVICES
from kit.dns import asked, query, respond, serving, zone
from kit.inventories import container, endpoint

WEB = container(
    "web",
    endpoint("n", "10.0.0.2"),
    service="1.web.shop",
    ports=("53/udp", "80/tcp", "443/tcp", "7000-7002/tcp"),
    image="nginx:1.27",
    health="healthy",
)
QUIET = container("quiet", endpoint("n", "10.0.0.3"))
RESOLVER = serving(WEB, QUIET)


def services(name: str) -> list[str]:
    record = asked(RESOLVER, query(name, "SRV"))
    assert record.header.rcode == RCODE.NOERROR
    return [str(each.rdata) for each in record.rr]


def rcode(record: DNSRecord) -> str:
    return str(RCODE[record.header.rcode])


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("_http._tcp.web.docker", [80]),
        ("_80._tcp.web.docker", [80]),
        ("_443._tcp.web.docker", [443]),
        ("_https._tcp.web.shop.docker.test", [443]),
        ("_7001._tcp.web.docker", [7001]),
        ("_domain._udp.web.docker", [53]),
        ("_tcp.web.docker", [80, 443, 7000, 7001, 7002]),
        ("_udp.web.docker", [53]),
    ],
)
def test_rfc2782_a_service_is_an_exposed_port(name: str, ports: list[int]) -> None:
    assert services(name) == [f"0 0 {port} web.docker." for port in ports]


def test_rfc2782_the_target_has_addresses_and_is_no_alias() -> None:
    [service] = services("_http._tcp.web.shop.docker")
    [record] = asked(RESOLVER, query(service.split()[-1])).rr
    assert (QTYPE[record.rtype], str(record.rdata)) == ("A", "10.0.0.2")


def test_rfc2782_replicas_are_one_server_each_and_ailing_ones_come_last() -> None:
    resolver = serving(
        container("a", endpoint("n", "10.0.0.2"), service="1.api.shop", ports=("80/tcp",), health="unhealthy"),
        container("b", endpoint("n", "10.0.0.3"), service="2.api.shop", ports=("80/tcp",), health="healthy"),
        container("c", endpoint("n", "10.0.0.4"), service="3.api.shop", ports=("80/tcp",), health="starting"),
    )
    record = asked(resolver, query("_http._tcp.api.shop.docker", "SRV"))
    assert [str(each.rdata) for each in record.rr] == ["0 0 80 b.docker.", "1 0 80 c.docker.", "2 0 80 a.docker."]


@pytest.mark.parametrize(
    "name",
    ["_tcp.quiet.docker", "_http._tcp.quiet.docker", "_8080._tcp.web.docker", "_http._tcp.no.docker", "_tcp.docker"],
)
def test_rfc8020_a_service_that_no_container_has_does_not_exist(name: str) -> None:
    assert rcode(asked(RESOLVER, query(name, "SRV"))) == "NXDOMAIN"


def test_rfc2308_s2_2_a_service_has_no_address() -> None:
    record = asked(RESOLVER, query("_http._tcp.web.docker", "A"))
    assert (rcode(record), record.rr, len(record.auth)) == ("NOERROR", [], 1)


def test_rfc2782_a_service_goes_with_its_container() -> None:
    resolver = serving(WEB)
    assert asked(resolver, query("_http._tcp.web.docker", "SRV")).rr
    resolver.publish(zone(QUIET))
    assert rcode(asked(resolver, query("_http._tcp.web.docker", "SRV"))) == "NXDOMAIN"


def test_rfc1464_what_a_container_is_stands_in_txt() -> None:
    [record] = asked(RESOLVER, query("web.docker", "TXT")).rr
    assert [bytes(each).decode() for each in record.rdata.data] == [
        "container=web",
        "image=nginx:1.27",
        "health=healthy",
        "project=shop",
        "service=web",
    ]


def test_rfc1464_txt_is_never_older_than_the_zone() -> None:
    resolver = serving(WEB)
    assert b"image=nginx:1.27" in (respond(resolver, query("web.docker", "TXT")) or b"")
    resolver.publish(zone(container("web", endpoint("n", "10.0.0.2"), service="1.web.shop", image="nginx:2")))
    assert b"image=nginx:2" in (respond(resolver, query("web.docker", "TXT")) or b"")


def test_rfc1035_s3_3_a_string_has_at_most_255_octets() -> None:
    resolver = serving(container("web", endpoint("n", "10.0.0.2"), image="i" * 300))
    [record] = asked(resolver, query("web.docker", "TXT")).rr
    assert [len(each) for each in record.rdata.data] == [13, 255]


def test_a_name_has_a_bounded_number_of_services() -> None:
    wide = [
        container(f"w{n}", endpoint("n", f"10.0.1.{n}"), service=f"{n}.wide.shop", ports=("1-99999/tcp",))
        for n in (1, 2)
    ]
    record = asked(serving(*wide), query("_tcp.wide.shop.docker", "SRV"), stream=True)
    assert len(record.rr) == DNS_SERVICES
    assert asked(serving(*wide), query("_99999._tcp.wide.shop.docker", "SRV")).header.rcode == RCODE.NXDOMAIN
