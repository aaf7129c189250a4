"""What the tunnel needs of the host's network: an interface, and a stand-in for tests."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Protocol

from dconnect.core.address import IPNetwork
from dconnect.tunnel.subnets import HostNet, Route
from dconnect.tunnel.wire.messages import Interface


class Host(Protocol):
    """The host's network; needs root for all but reading. Each call may raise OSError."""

    def net(self, without: str) -> HostNet:
        """Routes and addresses now, save those of one device (empty: of none)."""
        ...

    def devices(self, prefix: str) -> list[str]:
        """Names of the devices that begin so."""
        ...

    def set_up(self, device: str, addresses: Sequence[Interface], mtu: int) -> None:
        """Give a device these addresses and no others, and its MTU, and set it up."""
        ...

    def add(self, subnet: IPNetwork, device: str) -> None:
        """Route a subnet into a device.

        Raises: FileExistsError when there is a route to it.
        """
        ...

    def remove(self, subnet: IPNetwork, device: str) -> None:
        """Take such a route away, if it is there."""
        ...

    def delete(self, device: str) -> None:
        """Remove a device that no process should hold any more, if it is there."""
        ...

    def close(self) -> None:
        """Let go of what reading and changing needed; nothing of the network changes."""
        ...


class FakeHost:
    """A host's network in memory."""

    def __init__(self, net: HostNet | None = None) -> None:
        self.own = net or HostNet()
        """What the host has without us."""
        self.routed: dict[str, set[IPNetwork]] = {}
        self.set: dict[str, tuple[tuple[Interface, ...], int]] = {}
        """Device → what ``set_up`` gave it."""
        self.changes = 0

    def net(self, without: str) -> HostNet:
        mine = [Route(subnet, device) for device, each in self.routed.items() if device != without for subnet in each]
        addresses = [
            (each.ip, device) for device, (each_, _) in self.set.items() if device != without for each in each_
        ]
        return HostNet((*self.own.routes, *mine), (*self.own.addresses, *addresses))

    def devices(self, prefix: str) -> list[str]:
        return [device for device in self.set if device.startswith(prefix)]

    def set_up(self, device: str, addresses: Sequence[Interface], mtu: int) -> None:
        self.changes += 1
        self.set[device] = (tuple(addresses), mtu)

    def add(self, subnet: IPNetwork, device: str) -> None:
        self.changes += 1
        if any(subnet == each.prefix for each in self.net("").routes):
            raise FileExistsError(errno.EEXIST, "there is such a route")
        self.routed.setdefault(device, set()).add(subnet)

    def remove(self, subnet: IPNetwork, device: str) -> None:
        self.changes += 1
        self.routed.get(device, set()).discard(subnet)

    def delete(self, device: str) -> None:
        self.set.pop(device, None)
        self.routed.pop(device, None)

    def close(self) -> None:
        pass
