"""What DNS must answer over an inventory, found the slow and obvious way: no tables, every rule applied to every name.

Written from README's table of names, the rules at the top of ``dns/build.py`` and RFC 1034 §4.3.2, 4592 and 8020; it
shares nothing with ``dns`` but the question.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from dconnect.core.inventory import Container, Inventory

NOERROR, NXDOMAIN, REFUSED = 0, 3, 5
_LABELS = ("dev.dconnect.domains", "dev.orbstack.domains", "com.dnsdock.alias", "coredns.dockerdiscovery.host")
_PROTOCOLS = ("_tcp", "_udp", "_sctp")
_SERVICES = {"http": (80, 8080, 8000), "domain": (53,), "redis": (6379,)}

Records = frozenset[tuple[str, str]]
"""Type and data, as dnslib writes them."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A container has a name."""

    name: str
    strength: int
    container: Container
    addresses: frozenset[str]
    bare: bool = False
    """A proxy takes it without suffix, so in DNS a label's domain of that name is not to be had."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a name."""

    containers: tuple[Container, ...]
    addresses: frozenset[str]


class Twin:
    """Answers like a resolver over a zone."""

    def __init__(self, inventory: Inventory, suffixes: tuple[str, ...], agent: str) -> None:
        self._suffixes = sorted(suffixes, key=len, reverse=True)
        self._first = suffixes[0]
        self._agent = agent
        self._networks = [network for each in inventory.networks for network in each.subnets]
        self._named = [each for each in inventory.containers if not each.role and not _is_ignored(each)]
        claims = [claim for each in self._named for claim in self._claims(each)]
        self._below = [claim for claim, absolute in claims if not absolute]
        self._absolute = [claim for claim, absolute in claims if absolute]
        self._bare = {claim.name for claim in self._below if claim.bare}

    def answer(self, name: str, kind: str) -> tuple[int, Records]:
        """RCODE and answer section."""
        for suffix in self._suffixes:
            if name == suffix:
                return NOERROR, _of_kind(kind, self._apex(suffix))
            if name.endswith(f".{suffix}"):
                return self._below_suffix(name.removesuffix(f".{suffix}"), kind)
        ours = any(_covers(claim.name, name) for claim in self._absolute)
        if ours and name not in self._bare:
            owner = _owner(self._absolute, name)
            apex = max((each for each in self._apexes() if _lies_in(name, each)), key=len)
            records = self._apex(apex) if name == apex else frozenset()
            if owner is None or not owner.containers:
                return (NOERROR, frozenset()) if _is_above(self._absolute, name) else (NXDOMAIN, frozenset())
            return NOERROR, _of_kind(kind, records | _records(owner))
        return self._reverse(name, kind)

    def _below_suffix(self, name: str, kind: str) -> tuple[int, Records]:
        if name == "dconnect":
            return NOERROR, _of_kind(kind, frozenset({("A", self._agent)}))
        owner = _owner(self._below, name)
        if owner is not None and owner.containers:
            return NOERROR, _of_kind(kind, _records(owner))
        if _is_above(self._below, name):
            return NOERROR, frozenset()
        if owner is None and (servers := self._servers(name)):
            return NOERROR, _of_kind(kind, servers)
        return NXDOMAIN, frozenset()

    def _servers(self, name: str) -> Records:
        """SRV records of exposed ports."""
        first, *rest = name.split(".")
        if first in _PROTOCOLS:
            service, protocol, host = "", first[1:], rest
        elif first.startswith("_") and rest and rest[0] in _PROTOCOLS:
            service, protocol, host = first[1:], rest[0][1:], rest[1:]
        else:
            return frozenset()
        owner = _owner(self._below, ".".join(host)) if host else None
        found = set()
        for container in owner.containers if owner is not None else ():
            for port in container.ports:
                number, _, transport = port.partition("/")
                wanted = not service or service == number or int(number) in _SERVICES.get(service, ())
                if transport == protocol and wanted:
                    ailing = {"starting": 1, "unhealthy": 2}.get(container.health, 0)
                    found.add(("SRV", f"{ailing} 0 {number} {self._own_name(container)}.{self._first}."))
        return frozenset(found)

    def _own_name(self, container: Container) -> str:
        """The one that means it alone; a strange one (longer than a label, say) is nobody's in these inventories."""
        return container.name

    def _reverse(self, name: str, kind: str) -> tuple[int, Records]:
        """Names of addresses, inside the networks' zones."""
        zones = [zone for text in self._networks for zone in _reverse_zones(text)]
        inside = [zone for zone in zones if _lies_in(name, zone)]
        if not inside:
            return REFUSED, frozenset()
        found: set[tuple[str, str]] = set()
        above = False
        for container in self._named:
            for endpoint in container.endpoints if _runs(container) else ():
                for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
                    pointer = ipaddress.ip_address(address).reverse_pointer
                    above = above or pointer.endswith(f".{name}")
                    if pointer == name:
                        found.add(("PTR", f"{self._own_name(container)}.{self._first}."))
        records = frozenset(found) | (self._apex(name) if name == max(inside, key=len) else frozenset())
        return (NOERROR if records or above else NXDOMAIN), _of_kind(kind, records)

    def _apex(self, apex: str) -> Records:
        server = f"dconnect.{self._first}."
        return frozenset({("NS", server), ("SOA", f"{server} hostmaster.{server} 1 3600 600 86400 1")})

    def _apexes(self) -> list[str]:
        """A domain is a zone of its own, and so is what is below a wildcard."""
        return [claim.name.removeprefix("*.") for claim in self._absolute]

    def _claims(self, container: Container) -> Iterator[tuple[Claim, bool]]:
        """Each with whether it is absolute, that is outside all suffixes."""
        everywhere = frozenset(address for each in container.endpoints for address in (each.ipv4, each.ipv6) if address)

        def claim(name: str, strength: int, *parts: str, on: frozenset[str] = everywhere) -> Claim:
            bare = bool(parts) and not any("." in part for part in parts)
            return Claim(name.lower(), strength, container, on, bare)

        name, service, project = container.name, container.service, container.project
        found = [claim(name, 0), claim(container.id, 1), claim(container.id[:12], 1)]
        if service and project and not container.oneoff:
            if container.number:
                found.append(claim(f"{container.number}.{service}.{project}", 2, service, project))
            found += [claim(f"{service}.{project}", 3, service, project), claim(service, 7)]
        for each in container.endpoints:
            here = frozenset(address for address in (each.ipv4, each.ipv6) if address)
            found.append(claim(f"{name}.{each.network}", 4, name, each.network, on=here))
            for alias in each.aliases:
                found += [claim(f"{alias}.{each.network}", 5, alias, each.network, on=here), claim(alias, 8)]
        found.append(claim(container.hostname, 9))
        if container.domainname:
            found.append(claim(f"{container.hostname}.{container.domainname}", 9))
        yield from ((each, False) for each in found if each.name not in ("dconnect", "localhost", ""))
        for label, value in container.labels:
            for domain in filter(None, value.lower().split(",")) if label in _LABELS else ():
                below = [domain.removesuffix(f".{each}") for each in self._suffixes if domain.endswith(f".{each}")]
                if below and below[0] not in ("dconnect", "localhost", "*"):
                    yield claim(below[0], 6), False
                elif not below and "." in domain.removeprefix("*."):
                    yield claim(domain, 6), True


def _runs(container: Container) -> bool:
    return container.state in ("running", "paused")


def _is_ignored(container: Container) -> bool:
    return dict(container.labels).get("dev.dconnect.ignore", "").lower() in ("true", "1", "yes", "on")


def _owner(claims: list[Claim], name: str) -> Owner | None:
    """Who has a name, by itself or by a wildcard; an owner without containers: nobody who runs; None: nobody at all."""
    if any(claim.name == name for claim in claims):
        return _settled([claim for claim in claims if claim.name == name])
    if _is_above(claims, name):
        return None
    encloser = name  # RFC 4592 §3.3.1: the closest name above that exists
    while "." in encloser:
        encloser = encloser.partition(".")[2]
        if wildcards := [claim for claim in claims if claim.name == f"*.{encloser}"]:
            return _settled(wildcards)
        if _is_above(claims, encloser) or any(claim.name == encloser and _runs(claim.container) for claim in claims):
            return None
    return None


def _settled(rivals: list[Claim]) -> Owner:
    running = [claim for claim in rivals if _runs(claim.container)]
    strongest = [claim for claim in running if claim.strength == min(each.strength for each in running)]
    if len({(claim.container.service, claim.container.project) for claim in strongest if claim.strength == 7}) > 1:
        return Owner((), frozenset())  # a service of several projects
    addresses = frozenset(address for claim in strongest for address in claim.addresses)
    return Owner(tuple(claim.container for claim in strongest), addresses)


def _is_above(claims: list[Claim], name: str) -> bool:
    """Whether something exists below a name, if only a wildcard."""
    below = [claim for claim in claims if claim.name.endswith(f".{name}")]
    return any(_settled(_same(below, claim)).containers for claim in below)


def _same(claims: list[Claim], one: Claim) -> list[Claim]:
    return [claim for claim in claims if claim.name == one.name]


def _covers(claimed: str, name: str) -> bool:
    """Whether a label's domain makes a name ours."""
    return name.endswith(claimed[1:]) if claimed.startswith("*.") else name == claimed


def _lies_in(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")


def _reverse_zones(subnet: str) -> list[str]:
    """All that a subnet is, each ending at a whole octet or nibble."""
    network = ipaddress.ip_network(subnet)
    step = 8 if network.version == 4 else 4
    whole = -(-network.prefixlen // step) * step
    cut = (network.max_prefixlen - whole) // step
    return [each.network_address.reverse_pointer.split(".", cut)[-1] for each in network.subnets(new_prefix=whole)]


def _records(owner: Owner) -> Records:
    addresses = {("AAAA" if ":" in address else "A", address) for address in owner.addresses}
    return frozenset(addresses | {("TXT", _text(container)) for container in owner.containers})


def _text(container: Container) -> str:
    pairs = {
        "container": container.name,
        "image": container.image,
        "health": container.health,
        "project": container.project,
        "service": container.service,
    }
    return ",".join(f'"{key}={value}"' for key, value in pairs.items() if value)


def _of_kind(kind: str, records: Records) -> Records:
    return frozenset(each for each in records if each[0] == kind)
