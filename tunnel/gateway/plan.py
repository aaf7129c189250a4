"""Which addresses a tunnel has: the agent's own, and one of each family for every link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from zlib import crc32

from dconnect.core.address import IPAddress


@dataclass(frozen=True, slots=True)
class Plan:
    """Two subnets. Number 1 of each is the agent's, the others are links'."""

    subnet4: IPv4Network
    subnet6: IPv6Network

    @property
    def own4(self) -> IPv4Address:
        """The agent's end, where names are answered."""
        return self.subnet4[1]

    @property
    def own6(self) -> IPv6Address:
        """Likewise."""
        return self.subnet6[1]

    def interfaces(self, number: int) -> tuple[IPv4Interface, IPv6Interface]:
        """A link's addresses, with their subnets."""
        return (
            IPv4Interface((self.subnet4[number], self.subnet4.prefixlen)),
            IPv6Interface((self.subnet6[number], self.subnet6.prefixlen)),
        )

    def choose(self, taken: Mapping[int, str], host: str, wanted: IPAddress | None) -> int | None:
        """A link's number: of the address its host had before, unless another host has it now, else one that is free.

        Where the search for a free one begins is the host's own, so that after a restart of the agent, which knows
        nothing then, a new host does not come by the address of one that is about to come back.

        Args:
            taken: numbers that links have, and their hosts.
            host: what tells it from others; without, the first free number is taken.
            wanted: the address before.
        """
        numbers = range(2, self.subnet4.num_addresses - 1)  # beside the network's, the agent's and broadcast
        if wanted is not None and wanted in self.subnet4:
            number = int(wanted) - int(self.subnet4[0])
            if number in numbers and taken.get(number, host) == host:
                return number
        first = crc32(host.encode()) % len(numbers)
        return next((number for number in (*numbers[first:], *numbers[:first]) if number not in taken), None)
