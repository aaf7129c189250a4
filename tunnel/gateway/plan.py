"""Which addresses a tunnel has: the agent's own, and one of each family for every link."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from dconnect.core.address import IPAddress
from dconnect.core.limits import LINKS


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

    def free(self, taken: Container[int], wanted: IPAddress | None) -> int | None:
        """A link's number: of the address it had before, taken or not, else the first that is free, if one is."""
        most = min(LINKS, self.subnet4.num_addresses - 3)  # beside the network's, the agent's and broadcast
        numbers = range(2, 2 + most)
        if wanted is not None and wanted in self.subnet4:
            number = int(wanted) - int(self.subnet4[0])
            if number in numbers:
                return number
        return next((number for number in numbers if number not in taken), None)
