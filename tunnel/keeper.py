"""The privileged half: the device, its addresses and its routes, as the agent's config and this host allow them.

What the unprivileged half tells is judged like anything from a wire: a route is made only where ``subnets.judge``
finds nothing of this host's. There is no undoing to be done: a device that nobody holds vanishes with its addresses and
routes. The pump holds it; of a private network the helper has a descriptor too, and lets go of it when it ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from dconnect.core.address import IPAddress, IPNetwork
from dconnect.core.errors import DconnectError
from dconnect.tunnel.device import Device
from dconnect.tunnel.host import Host
from dconnect.tunnel.subnets import Choice, HostNet, Refused, Route, conflict, judge
from dconnect.tunnel.wire.messages import Config, Interface

MakeDevice = Callable[[Config, int, str], Device]
"""The agent's config, the MTU and a name → the device. Raises DconnectError."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How the host is now."""

    device: str
    mtu: int
    addresses: tuple[Interface, ...]
    routed: tuple[IPNetwork, ...]
    refused: tuple[Refused, ...]
    dns: tuple[IPAddress, ...]
    """Where the agent answers for names, inside the tunnel."""


class Keeper:
    """Makes the device once, and has the routes follow."""

    def __init__(self, host: Host, choice: Choice, mtu: int, make: MakeDevice, name: str) -> None:
        self._host, self._choice, self._make, self._name = host, choice, make, name
        self._mtu = mtu
        self._config: Config | None = None
        self._door: IPAddress | None = None
        self._addresses: tuple[Interface, ...] = ()
        self._ours: frozenset[IPNetwork] = frozenset()
        """What we routed."""
        self.kept: Kept | None = None

    def follow(self, config: Config, door: IPAddress | None) -> Device | None:
        """Do what a config asks; the device, if it was made by this call.

        Raises: DconnectError or OSError; if it is the first call, nothing of the host has been changed.
        """
        addresses = _addresses(config)
        net = self._host.net(without=self._device_name())
        _refuse_own(addresses, net, door)
        self._config, self._door = config, door
        if self.kept is not None:
            if addresses != self._addresses:
                self._host.set_up(self.kept.device, addresses, self._mtu)
                self._addresses = addresses
            self._route(net)
            return None
        verdict = judge(config.subnets, self._with_tunnel(net, addresses), self._choice, door)
        if not verdict.routed:
            reasons = " ".join(map(str, verdict.refused)) or "The agent names no subnet."
            raise DconnectError(f"There is nothing to route. {reasons}")
        self._mtu = min(self._mtu, config.mtu)
        device = self._make(config, self._mtu, self._name)
        try:
            self._host.set_up(device.name, addresses, self._mtu)
            self._addresses = addresses
            self.kept = Kept(device.name, self._mtu, addresses, (), (), config.dns)
            self._route(net)
        except BaseException:
            device.close()  # the last of its descriptors, and so the end of it
            self.kept = None
            raise
        return device

    def recheck(self) -> bool:
        """Look at the host again, whose networks come and go; whether something is different now.

        Raises: OSError.
        """
        before = self.kept
        if before is not None:
            self._route(self._host.net(without=before.device))
        return self.kept != before

    def _route(self, net: HostNet) -> None:
        assert self.kept is not None
        assert self._config is not None
        device = self.kept.device
        verdict = judge(self._config.subnets, self._with_tunnel(net, self._addresses), self._choice, self._door)
        there = {route.prefix for route in self._host.net(without="").routes if route.interface == device}
        refused = list(verdict.refused)
        routed = []
        for subnet in self._ours - set(verdict.routed):
            if subnet in there:
                self._host.remove(subnet, device)
        for subnet in verdict.routed:
            try:
                if subnet not in there:
                    self._host.add(subnet, device)
                routed.append(subnet)
            except FileExistsError:  # came in between
                refused.append(Refused(subnet, "this host has got such a route just now"))
        self._ours = frozenset(routed)
        self.kept = Kept(device, self._mtu, self._addresses, tuple(routed), tuple(refused), self._config.dns)

    def _with_tunnel(self, net: HostNet, addresses: tuple[Interface, ...]) -> HostNet:
        own = (Route(each.network, self._name) for each in addresses)
        return dataclasses.replace(net, routes=(*net.routes, *own))

    def _device_name(self) -> str:
        return self.kept.device if self.kept is not None else ""


def _addresses(config: Config) -> tuple[Interface, ...]:
    """One address of each family at most.

    Raises: DconnectError.
    """
    found: dict[int, Interface] = {}
    for each in config.addresses:
        if each.version in found or not each.ip.is_private or each.ip.is_loopback or each.ip.is_link_local:
            raise DconnectError(f"The agent gives the tunnel the address {each}, which cannot be its own.")
        found[each.version] = each
    if 4 not in found:
        raise DconnectError("The agent gives the tunnel no IPv4 address; update the agent with `dconnect up --tun`.")
    return tuple(found[version] for version in sorted(found))


def _refuse_own(addresses: tuple[Interface, ...], net: HostNet, door: IPAddress | None) -> None:
    """Raises: DconnectError when the tunnel's own network means something here."""
    for each in addresses:
        reason = conflict(each.network, net)
        if reason is None and door is not None and door in each.network:
            reason = f"the agent itself is reached at {door}"
        if reason is not None:
            raise DconnectError(
                f"The tunnel's own network {each.network} cannot be used: {reason}; "
                "choose another one with `dconnect up --tun --tun-subnet CIDR`."
            )
