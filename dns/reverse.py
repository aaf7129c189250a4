"""Names for addresses: in-addr.arpa (RFC 1035 §3.5) and ip6.arpa (RFC 3596 §2.5).

Ours are the addresses inside Docker's subnets and nothing else. A subnet that ends within a label (172.18.16.0/20)
is as many zones as its next octet or nibble has values there, so that we never answer for a neighbour.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from dconnect.core.address import IPAddress, IPNetwork

_V4, _V6 = ".in-addr.arpa", ".ip6.arpa"
_HEX = frozenset("0123456789abcdef")
_OCTETS = frozenset(map(str, range(256)))


class Reverse:
    """Containers' names by address."""

    def __init__(self, names: Mapping[IPAddress, tuple[str, ...]], subnets: Iterable[IPNetwork]) -> None:
        """Keep the tables.

        Args:
            names: relative names of the containers at an address; several where isolated networks overlap.
            subnets: Docker's.
        """
        self._names = names
        self._subnets = tuple(sorted(set(subnets), key=lambda subnet: (-subnet.prefixlen, int(subnet.network_address))))

    def targets(self, name: str) -> tuple[str, ...]:
        """The relative names for a full reverse name; empty if there is no container."""
        network, _ = _inside(name)
        if network is None or network.network_address.reverse_pointer != name:
            return ()
        return self._names.get(network.network_address, ())

    def apex(self, name: str) -> str | None:
        """The reverse zone of ours that holds a name; None if the name lies outside Docker's subnets."""
        inside, labels = _inside(name)
        if inside is None:
            return None
        step = 8 if inside.version == 4 else 4
        for subnet in self._subnets:
            if subnet.version == inside.version and _contains(subnet, inside):
                kept = -(-subnet.prefixlen // step)  # rounded up to whole labels
                tail = labels[len(labels) - kept :]
                return ".".join((*tail, (_V4 if inside.version == 4 else _V6)[1:]))
        return None

    @cached_property
    def inner(self) -> frozenset[str]:
        """Names that exist only because an address below them does."""
        found: set[str] = set()
        for address in self._names:
            name = address.reverse_pointer
            labels = 4 if address.version == 4 else 32
            for _ in range(labels - 1):
                name = name.partition(".")[2]
                if name in found:
                    break
                found.add(name)
        return frozenset(found)

    def changed(self, other: Reverse) -> Iterator[str]:
        """Reverse names whose records differ."""
        mine, theirs = self._names, other._names
        if self._subnets != other._subnets:
            both = set(mine) | set(theirs)
        else:
            both = {address for address, names in mine.items() if theirs.get(address) != names}
            both |= theirs.keys() - mine.keys()
        return (address.reverse_pointer for address in both)


def _contains(subnet: IPNetwork, inside: IPNetwork) -> bool:
    if inside.prefixlen < subnet.prefixlen:
        return False
    shift = subnet.max_prefixlen - subnet.prefixlen
    return int(inside.network_address) >> shift == int(subnet.network_address) >> shift


def _inside(name: str) -> tuple[IPNetwork | None, list[str]]:
    """The addresses that a reverse name stands for (one, or a prefix), and its labels that say so.

    What stands before a whole address or before a label that is no octet or nibble is not counted: such a name
    lies inside the zone of what follows it.
    """
    for ending, most in ((_V4, 4), (_V6, 32)):
        if name.endswith(ending):
            texts = name.removesuffix(ending).split(".")[-most:]
            valid = _OCTETS if most == 4 else _HEX
            labels = list(itertools.takewhile(valid.__contains__, reversed(texts)))
            if not labels:
                break
            missing = most - len(labels)
            if most == 4:
                number = int.from_bytes(bytes(map(int, labels)), "big") << 8 * missing
                return ipaddress.IPv4Network((number, 8 * len(labels))), labels[::-1]
            return ipaddress.IPv6Network((int("".join(labels), 16) << 4 * missing, 4 * len(labels))), labels[::-1]
    return None, []
