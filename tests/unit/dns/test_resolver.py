from __future__ import annotations

import dataclasses

from dnslib import QTYPE, RCODE, DNSRecord

from dconnect.core.limits import DNS_CACHE_PASSING
from dconnect.dns import Resolver
from kit.dns import asked, query, serving, zone
from kit.inventories import container, endpoint


def addresses(resolver: Resolver, name: str, qtype: str = "A") -> list[str]:
    return [str(record.rdata) for record in asked(resolver, query(name, qtype)).rr]


WEB = container("web", endpoint("n", "10.0.0.2"))
MOVED = container("web", endpoint("n", "10.0.0.3"))
DB = container("db", endpoint("n", "10.0.0.9"))


def hits(resolver: Resolver) -> int:
    return resolver.counters.cache_hits


def test_before_the_first_zone_the_answer_is_servfail_and_not_kept() -> None:
    resolver = Resolver()
    assert asked(resolver, query("web.docker")).header.rcode == RCODE.SERVFAIL
    resolver.publish(zone(WEB))
    assert addresses(resolver, "web.docker") == ["10.0.0.2"]
    assert resolver.counters.not_ready == 1


def test_a_repeated_query_is_answered_from_the_cache_under_its_own_id() -> None:
    resolver = serving(WEB)
    first, second = asked(resolver, query("web.docker", ident=1)), asked(resolver, query("web.docker", ident=2))
    assert (first.header.id, second.header.id) == (1, 2)
    assert first.rr == second.rr
    assert hits(resolver) == 1


def test_a_new_zone_is_in_force_at_once() -> None:
    resolver = serving(WEB)
    assert addresses(resolver, "web.docker") == ["10.0.0.2"]
    resolver.publish(zone(MOVED))
    assert addresses(resolver, "web.docker") == ["10.0.0.3"]
    resolver.publish(zone())
    assert asked(resolver, query("web.docker")).header.rcode == RCODE.NXDOMAIN
    resolver.publish(zone(WEB))
    assert addresses(resolver, "web.docker") == ["10.0.0.2"]


def test_a_new_zone_drops_only_the_names_that_differ() -> None:
    resolver = serving(WEB, DB)
    for name in ("web.docker", "db.docker", "web.docker.test"):
        addresses(resolver, name)
    resolver.publish(zone(MOVED, DB))
    before = hits(resolver)
    assert addresses(resolver, "db.docker") == ["10.0.0.9"]
    assert hits(resolver) == before + 1
    assert addresses(resolver, "web.docker") == addresses(resolver, "web.docker.test") == ["10.0.0.3"]
    assert hits(resolver) == before + 1


def test_an_address_that_gets_a_container_is_no_longer_denied() -> None:
    resolver = serving()
    reverse = query("2.0.0.10.in-addr.arpa", "PTR")
    assert asked(resolver, reverse).header.rcode == RCODE.NXDOMAIN
    resolver.publish(zone(WEB))
    assert str(asked(resolver, reverse).rr[0].rdata) == "web.docker."


def test_0x20_case_and_edns_options_are_answered_and_not_kept() -> None:
    resolver = serving(WEB)
    cookie = bytes.fromhex(
        "449e012000010000000000010377656206646f636b6572000001000100002904d000000000000c000a0008c3b1669b479434f9"
    )
    for message in (query("wEb.docker"), cookie):
        assert [str(each.rdata) for each in asked(resolver, message).rr] == ["10.0.0.2"]
        assert [str(each.rdata) for each in asked(resolver, message).rr] == ["10.0.0.2"]
    assert hits(resolver) == 0


def test_a_flood_of_random_names_pushes_out_nothing_that_exists() -> None:
    resolver = serving(WEB, container("all", endpoint("n", "10.0.0.4"), domains="*.all.docker"))
    addresses(resolver, "web.docker")
    for number in range(DNS_CACHE_PASSING + 10):
        resolver.respond(query(f"x{number}.docker"))
        resolver.respond(query(f"x{number}.all.docker"))
        resolver.respond(query(f"x{number}.example"))
    before = hits(resolver)
    addresses(resolver, "web.docker")
    assert hits(resolver) == before + 1


BIG = container("big", *(endpoint(f"n{number}", f"10.1.{number}.2") for number in range(100)))


def test_an_answer_too_large_for_udp_is_truncated_there_and_whole_over_tcp() -> None:
    resolver = serving(BIG)
    for _ in range(2):  # the second time from the cache
        over_udp = asked(resolver, query("big.docker"))
        assert (over_udp.header.tc, over_udp.header.aa, over_udp.rr, over_udp.auth) == (1, 1, [], [])
        over_tcp = asked(resolver, query("big.docker"), stream=True)
        assert (over_tcp.header.tc, len(over_tcp.rr)) == (0, 100)


def test_what_was_first_asked_over_tcp_is_still_truncated_over_udp() -> None:
    resolver = serving(BIG)
    assert len(asked(resolver, query("big.docker"), stream=True).rr) == 100
    assert asked(resolver, query("big.docker")).header.tc == 1


def test_an_answer_beyond_what_tcp_can_carry_is_truncated_there_too() -> None:
    replicas = [
        container(f"r{n}", endpoint("n", f"10.2.{n // 250}.{n % 250 + 1}"), service="all.x") for n in range(4200)
    ]
    answer = serving(*replicas).respond(query("all.docker"), stream=True)
    assert answer is not None
    assert DNSRecord.parse(answer).header.tc == 1


def test_runts_and_responses_get_no_answer() -> None:
    resolver = serving(WEB)
    response = bytearray(query("web.docker"))
    response[2] |= 0x80
    for message in (b"", b"\0" * 11, bytes(response)):
        assert resolver.respond(message) is None
    assert resolver.counters.dropped == 3


def test_every_query_is_counted_once() -> None:
    resolver = serving(WEB, BIG)
    messages = [
        query("web.docker"),
        query("web.docker"),  # from the cache
        query("web.docker", "AAAA"),
        query("no.docker"),
        query("example.com"),
        query("docker", "AXFR"),
        query("big.docker"),
        query("web.docker")[:-1],
        b"",
        bytes.fromhex("79f4292000010000000000000377656206646f636b65720000010001"),  # dig +opcode=update
        bytes.fromhex("7367012000010000000000010377656206646f636b6572000001000100002904d0000100000000"),  # dig +edns=1
    ]
    for message in messages:
        resolver.respond(message)
    counters = dataclasses.asdict(resolver.counters)
    assert counters == {
        "queries": len(messages),
        "cache_hits": 1,
        "answered": 2,
        "nodata": 1,
        "nxdomain": 1,
        "refused": 2,
        "forwarded": 0,
        "not_implemented": 2,
        "malformed": 1,
        "dropped": 1,
        "not_ready": 0,
        "truncated": 1,
    }
    assert sum(counters.values()) - counters["truncated"] == 2 * counters["queries"]


def test_every_type_that_dnslib_knows_is_answered_for_a_name_that_exists() -> None:
    resolver = serving(WEB)
    for name in QTYPE.forward.values():
        if name not in ("A", "TXT", "ANY", "AXFR", "IXFR"):
            answer = asked(resolver, query("web.docker", name))
            assert (answer.header.rcode, answer.rr, len(answer.auth)) == (RCODE.NOERROR, [], 1), name
