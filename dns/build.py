"""From an inventory to a zone. Pure.

Where names clash:

1. Running containers go before stopped ones; a stopped one holds a name only as long as no other uses it.
2. Then the stronger kind wins (``names.Kind``): container, id, replica, service in a project, name in a network,
   label, service, alias, hostname.
3. Within one kind all claimants share the name and all their addresses are given, with two exceptions:
   a bare service name that several projects use means none of them, and of container names that differ
   in case only, the lower-case one wins, then the lower id.

Addresses stand in this order: IPv4 before IPv6 (every client has it), healthy containers before those that start and
unhealthy ones, ordinary networks before ``--internal`` ones, user-defined networks before the default bridge, then by
number.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from dconnect.core.address import IPAddress, IPNetwork
from dconnect.core.inventory import Container, Endpoint, Inventory
from dconnect.core.limits import NAME_CANDIDATES
from dconnect.dns.names import Kind, claims, is_ignored
from dconnect.dns.reverse import Reverse
from dconnect.dns.zone import Entry, Space, Zone, own_name

_STOPPED = 100
"""Added to the kind of a stopped container's claim: behind every running one's."""

_Place: TypeAlias = tuple[int, int, bool, bool, int, IPAddress]
"""Version, ailing, internal, default bridge, number, address; sorts as the module says."""


def build(inventory: Inventory, suffixes: tuple[str, ...], agent_addresses: Sequence[IPAddress]) -> Zone:
    """Make the zone.

    Args:
        inventory: what exists.
        suffixes: domains under which containers are named, without dots at the ends; the first is printed.
        agent_addresses: where the host reaches the agent.
    """
    containers = tuple(container for container in inventory.containers if not (container.role or is_ignored(container)))
    suffixes = tuple(suffix.lower() for suffix in suffixes)
    places = _Places(inventory)
    names, domains = _Tables(places), _Tables(places)
    bare: set[str] = set()
    longest_first = sorted(suffixes, key=len, reverse=True)
    for container in containers:
        whole = Entry((container,), places.addresses(container.endpoints))
        for claim in claims(container, longest_first):
            name, kind, network_id, absolute = claim
            if claim.bare:
                bare.add(name)
            entry = whole
            if network_id and len(container.endpoints) > 1:
                on = [endpoint for endpoint in container.endpoints if endpoint.network_id == network_id]
                entry = Entry((container,), places.addresses(on))
            (domains if absolute else names).add(name, kind, entry)
    relative = names.space()
    subnets = [subnet for network in inventory.networks for text in network.subnets for subnet in _subnet(text)]
    return Zone(
        containers=containers,
        suffixes=suffixes,
        agent_addresses=tuple(agent_addresses),
        names=relative,
        bare=frozenset(bare),
        domains=domains.space(),
        reverse=Reverse(_by_address(containers, relative), subnets),
    )


class _Places:
    """Where addresses stand among others."""

    def __init__(self, inventory: Inventory) -> None:
        self._internal = {network.id for network in inventory.networks if network.internal}

    def addresses(self, endpoints: Iterable[Endpoint]) -> tuple[IPAddress, ...]:
        """The endpoints' addresses, best first."""
        return tuple(place[-1] for place in sorted(set(self._of(endpoints, 0))))

    def merged(self, containers: Iterable[Container], wanted: set[IPAddress]) -> tuple[IPAddress, ...]:
        """Those of the containers' addresses that are wanted, best first."""
        places = {
            place for each in containers for place in self._of(each.endpoints, each.ailing) if place[-1] in wanted
        }
        return tuple(dict.fromkeys(place[-1] for place in sorted(places)))

    def _of(self, endpoints: Iterable[Endpoint], ailing: int) -> Iterable[_Place]:
        for endpoint in endpoints:
            internal = endpoint.network_id in self._internal
            for text in (endpoint.ipv4, endpoint.ipv6):
                address = _address(text) if text else None
                if address is not None:
                    yield address.version, ailing, internal, endpoint.network == "bridge", int(address), address


class _Tables:
    """Collects claims and settles clashes."""

    def __init__(self, places: _Places) -> None:
        self._places = places
        self._ranks: dict[str, int] = {}
        self._entries: dict[str, list[Entry]] = {}

    def add(self, name: str, kind: Kind, entry: Entry) -> None:
        """One container's claim."""
        rank = kind if entry.exists else kind + _STOPPED
        held = self._ranks.get(name)
        if held is None or rank < held:
            self._ranks[name] = rank
            self._entries[name] = [entry]
        elif rank == held and self._entries[name][-1] is not entry:
            self._entries[name].append(entry)

    def space(self) -> Space:
        """The settled tables."""
        plain: dict[str, Entry] = {}
        wild: dict[str, Entry] = {}
        for name, entries in self._entries.items():
            entry = entries[0] if len(entries) == 1 else self._settle(self._ranks[name] % _STOPPED, entries)
            if name.startswith("*."):
                wild[name[2:]] = entry
            else:
                plain[name] = entry
        return Space(plain, wild)

    def _settle(self, kind: int, entries: list[Entry]) -> Entry:
        """One entry for claims of equal rank."""
        if kind == Kind.CONTAINER:
            return min(entries, key=lambda entry: entry.containers[0].name.lower() != entry.containers[0].name)
        containers = tuple(dict.fromkeys(container for entry in entries for container in entry.containers))
        if kind == Kind.SERVICE:
            candidates = sorted({f"{each.service}.{each.project}" for each in containers})
            if len(candidates) > 1:
                return Entry((), (), tuple(candidates[:NAME_CANDIDATES]))
        wanted = {address for entry in entries for address in entry.addresses}
        ailing = {address for entry in entries for address in entry.addresses if entry.containers[0].ailing}
        return Entry(containers, self._places.merged(containers, wanted), turning=frozenset(wanted - ailing))


def _by_address(containers: Iterable[Container], names: Space) -> dict[IPAddress, tuple[str, ...]]:
    """Running containers' names by address: the container's name, or its short id where that name is not its own."""
    found: dict[IPAddress, tuple[str, ...]] = {}
    for container in containers:
        if not container.running:
            continue
        name = own_name(container, names)
        for endpoint in container.endpoints:
            for text in (endpoint.ipv4, endpoint.ipv6):
                address = _address(text) if text else None
                if address is not None:
                    found[address] = tuple(sorted((*found.get(address, ()), name)))
    return found


@lru_cache(maxsize=16_384)
def _address(text: str) -> IPAddress | None:
    """Parsed once: successive zones then share their address objects, which makes comparing them cheap."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _subnet(text: str) -> Iterable[IPNetwork]:
    try:
        yield ipaddress.ip_network(text, strict=False)
    except ValueError:
        return
