"""Which subnets are routed into the device: judged over the host's own routes, before anything is changed. Pure.

What the host has goes first, always. A subnet that means something here already (an address, a gateway, a network of
this host, whether equal, wider or narrower) is left to whom it belongs, and the refusal names that route.
Only the default route covers everything and owns nothing; so do its halves, which full-tunnel VPNs set (0.0.0.0/1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dconnect.core.address import IPAddress, IPNetwork
from dconnect.core.limits import TUNNEL_SUBNETS

_PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
"""RFC 1918 §3, RFC 6598 §7, RFC 4193 §3: what an agent may have routed; more is for the user alone to ask for."""
_WIDE = 4
"""Bits of a prefix that stands for the default route (its halves, 2000::/3), or fewer."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the host."""

    prefix: IPNetwork
    interface: str
    gateway: IPAddress | None = None

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway is not None else ""
        return f"{self.prefix}{via} on {self.interface}"


@dataclass(frozen=True, slots=True)
class HostNet:
    """What the host has without us."""

    routes: tuple[Route, ...] = ()
    addresses: tuple[tuple[IPAddress, str], ...] = ()
    """Each with its interface."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A subnet that is not routed."""

    subnet: IPNetwork
    reason: str
    """The second half of a sentence: what it would take away, from what."""

    def __str__(self) -> str:
        return f"{self.subnet} is not routed: {self.reason}."


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user wants otherwise."""

    include: tuple[IPNetwork, ...] = ()
    """Routed too, even where a wider route of the host covers it, and even if public."""
    exclude: tuple[IPNetwork, ...] = ()
    """Left out, as a whole or from the subnets that hold it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is routed, and what is not."""

    routed: tuple[IPNetwork, ...]
    refused: tuple[Refused, ...]


def judge(wanted: Iterable[IPNetwork], host: HostNet, choice: Choice, door: IPAddress | None) -> Verdict:
    """Judge every subnet by itself, so that one conflict costs one subnet.

    Args:
        wanted: what the agent names; anything can stand here.
        host: without the tunnel's own device.
        choice: the user's word.
        door: where the link goes, which must not lead into the tunnel itself.
    """
    routed: list[IPNetwork] = []
    refused: list[Refused] = []
    pieces = [
        piece for subnet in dict.fromkeys([*choice.include, *wanted]) for piece in _without(subnet, choice.exclude)
    ]
    for piece in dict.fromkeys(pieces):
        included = any(_within(piece, each) for each in choice.include)
        reason = _reason(piece, host, door, included=included)
        if reason is None and len(routed) == TUNNEL_SUBNETS:
            reason = f"{TUNNEL_SUBNETS} subnets are routed already"
        if reason is None:
            routed.append(piece)
        else:
            refused.append(Refused(piece, reason))
    return Verdict(tuple(routed), tuple(refused))


def conflict(subnet: IPNetwork, host: HostNet, *, over_wider: bool = False) -> str | None:
    """What of the host's own a route to this subnet would take away, in words; None: nothing.

    ``over_wider``: a wider route that leads elsewhere may be shadowed.
    """
    for address, interface in host.addresses:
        if address in subnet:
            return f"it holds this host's own address {address} on {interface}"
    for route in host.routes:
        if route.gateway is not None and route.gateway in subnet:
            return f"it holds the gateway of this host's route {route}"
    for route in host.routes:
        if _covers_everything(route.prefix) or not _overlap(route.prefix, subnet):
            continue
        if over_wider and _within(subnet, route.prefix) and subnet != route.prefix:
            continue
        return f"this host has the route {route}"
    return None


def _reason(subnet: IPNetwork, host: HostNet, door: IPAddress | None, *, included: bool) -> str | None:
    if not included and not any(_within(subnet, each) for each in _PRIVATE):
        return "it is no private network; --include asks for it nevertheless"
    if _covers_everything(subnet):
        return "it is too wide"
    if door is not None and door in subnet:
        return f"the agent itself is reached at {door}"
    return conflict(subnet, host, over_wider=included)


def _covers_everything(prefix: IPNetwork) -> bool:
    return prefix.prefixlen <= _WIDE


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # of one version


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _without(subnet: IPNetwork, exclude: Sequence[IPNetwork]) -> Iterator[IPNetwork]:
    """What is left of a subnet, as few prefixes as it takes."""
    for each in exclude:
        if _within(subnet, each):
            return
        if _within(each, subnet):
            for piece in subnet.address_exclude(each):  # type: ignore[arg-type]  # of one version
                yield from _without(piece, exclude)
            return
    yield subnet
