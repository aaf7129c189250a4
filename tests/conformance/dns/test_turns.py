"""Replicas take turns: RFC 1794, and the order in which a server may give its records (RFC 1034 §3.6)."""

from __future__ import annotations

from collections import Counter

from dconnect.core.inventory import Container
from dconnect.dns import Resolver
from kit.dns import asked, query, serving, zone
from kit.inventories import container, endpoint


def replica(number: int, health: str = "") -> Container:
    return container(f"r{number}", endpoint("n", f"10.0.0.{number}"), service=f"{number}.api.shop", health=health)


def order(resolver: Resolver, message: bytes) -> list[int]:
    return [int(str(each.rdata).rpartition(".")[2]) for each in asked(resolver, message).rr]


def test_rfc1794_each_replica_is_first_in_turn() -> None:
    resolver = serving(*(replica(number) for number in (1, 2, 3)))
    assert [order(resolver, query("api.shop.docker")) for _ in range(4)] == [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]


def test_rfc1794_so_it_is_for_clients_whose_queries_are_all_different() -> None:
    resolver = serving(*(replica(number) for number in (1, 2, 3)))
    spellings = ("API.shop.docker", "aPI.shop.docker", "apI.shop.docker")
    assert [order(resolver, query(name))[0] for name in spellings] == [1, 2, 3]


def test_rfc1794_among_many_the_first_places_are_shared_by_as_many_as_are_kept() -> None:
    resolver = serving(*(replica(number) for number in range(1, 21)))
    first = Counter(order(resolver, query("api.shop.docker"))[0] for _ in range(80))
    assert first == dict.fromkeys(range(1, 9), 10)


def test_ailing_replicas_are_last_and_take_no_turns() -> None:
    resolver = serving(replica(1, "unhealthy"), replica(2, "healthy"), replica(3, "starting"), replica(4))
    found = [order(resolver, query("api.shop.docker")) for _ in range(3)]
    assert found == [[2, 4, 3, 1], [4, 2, 3, 1], [2, 4, 3, 1]]


def test_a_replica_that_falls_ill_goes_to_the_end_at_once() -> None:
    resolver = serving(replica(1), replica(2))
    assert order(resolver, query("api.shop.docker")) == [1, 2]
    resolver.publish(zone(replica(1), replica(2, "unhealthy")))
    assert [order(resolver, query("api.shop.docker")) for _ in range(2)] == [[1, 2], [1, 2]]
    resolver.publish(zone(replica(1, "unhealthy"), replica(2)))
    assert [order(resolver, query("api.shop.docker")) for _ in range(2)] == [[2, 1], [2, 1]]


def test_addresses_of_one_container_take_no_turns() -> None:
    resolver = serving(container("web", endpoint("n", "10.0.0.2"), endpoint("m", "10.0.0.3")))
    assert [order(resolver, query("web.docker")) for _ in range(3)] == [[2, 3]] * 3
