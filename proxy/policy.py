"""What may be dialed: one judgement over canonical addresses, made after resolution.

Two dangers shape the rules. The agent's sockets live in the engine's network namespace, so the
engine's own services (loopback, metadata, published ports, every bridge gateway) are one connect
away from any web page that can speak to the proxy. And names are attacker-controlled, so only
addresses count.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from dconnect.core.address import IPAddress, IPNetwork, canonical, parse_ip
from dconnect.core.config import Egress
from dconnect.core.inventory import Inventory
from dconnect.core.limits import KNOWN_PEERS

_RULES: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ipaddress.ip_network(text), rule)
    for text, rule in (
        ("0.0.0.0/8", "unspecified addresses are refused"),
        ("127.0.0.0/8", "the engine's loopback is refused"),
        ("169.254.0.0/16", "link-local addresses (cloud metadata among them) are refused"),
        ("224.0.0.0/4", "multicast addresses are refused"),
        ("255.255.255.255/32", "the broadcast address is refused"),
        ("::/128", "unspecified addresses are refused"),
        ("::1/128", "the engine's loopback is refused"),
        ("::/96", "IPv4-compatible addresses are refused"),
        ("fe80::/10", "link-local addresses are refused"),
        ("ff00::/8", "multicast addresses are refused"),
    )
)

_ON_THE_LAN = ("macvlan", "ipvlan")
"""Drivers whose networks have somebody else's router for a gateway."""


class Policy:
    """The judgement for one inventory."""

    def __init__(self, inventory: Inventory, egress: Egress, own: Iterable[IPAddress] = ()) -> None:
        """Prepare the sets.

        Args:
            inventory: containers are allowed, gateways are the engine's.
            egress: whether anything else is allowed.
            own: addresses of the agent itself.
        """
        self._egress = egress
        ours = {address for address, container in inventory.addresses.items() if container.role}
        self._own = {canonical(address) for address in own} | set(_parsed(ours))
        self._containers = set(_parsed(inventory.addresses)) - self._own
        bridges = (network for network in inventory.networks if network.driver not in _ON_THE_LAN)
        gateways = (gateway for network in bridges for gateway in network.gateways)
        self._gateways = set(_parsed(gateways))

    def is_container(self, address: IPAddress) -> bool:
        """Whether a container has this address, so that no further question is needed."""
        return address in self._containers

    def objection(self, address: IPAddress) -> str:
        """The rule that forbids dialing an address, or an empty text."""
        address = canonical(address)
        if address in self._containers:
            return ""
        for network, rule in _RULES:
            if address in network:
                return rule
        if address in self._own:
            return "the agent itself is refused"
        if address in self._gateways:
            return "the engine's own addresses are refused"
        if self._egress == "deny":  # a network's subnet does not help: macvlan's is the LAN
            return "destinations other than containers are refused (--egress deny)"
        return ""


class Admission:
    """Whose connections the agent takes: the host's, never a container's.

    Otherwise the agent would join networks that Docker keeps apart. The host's connections come
    from outside every Docker subnet, or, through a published-port relay, from the gateway of the
    agent's own network.
    """

    def __init__(
        self, inventory: Inventory, own_subnets: Iterable[IPNetwork], own_gateways: Iterable[IPAddress]
    ) -> None:
        self._containers = set(_parsed(inventory.addresses))
        self._gateways = {canonical(gateway) for gateway in own_gateways}
        self._subnets = list(own_subnets)
        self._known: dict[str, bool] = {}

    def admits(self, peer: str) -> bool:
        """Whether a peer's address text may talk to us; answers are remembered, up to a bound."""
        known = self._known.get(peer)
        if known is None:
            address = parse_ip(peer)
            known = address is not None and self._judge(address)
            if len(self._known) < KNOWN_PEERS:
                self._known[peer] = known
        return known

    def _judge(self, address: IPAddress) -> bool:
        if address in self._gateways:
            return True
        return address not in self._containers and not any(address in subnet for subnet in self._subnets)


def _parsed(texts: Iterable[str]) -> Iterable[IPAddress]:
    return (address for text in texts if (address := parse_ip(text)) is not None)
