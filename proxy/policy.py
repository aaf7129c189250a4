"""What may be dialed: one judgement over canonical addresses, made after resolution.

Two dangers shape the rules. The agent's sockets live in the engine's network namespace, so the
engine's own services (loopback, metadata, published ports, every bridge gateway) are one connect
away from any web page that can speak to the proxy. And names are attacker-controlled, so only
addresses count: a domain that the user allows is excepted from ``--egress deny``, and from nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from dconnect.core.address import IPAddress, IPNetwork, canonical, parse_ip
from dconnect.core.config import Egress
from dconnect.core.inventory import Inventory
from dconnect.core.limits import KNOWN_PEERS
from dconnect.core.rules import Rules

_NOBODY: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ipaddress.ip_network(text), rule)
    for text, rule in (
        ("0.0.0.0/8", "unspecified addresses are refused"),
        ("224.0.0.0/4", "multicast addresses are refused"),
        ("255.255.255.255/32", "the broadcast address is refused"),
        ("::/128", "unspecified addresses are refused"),
        ("ff00::/8", "multicast addresses are refused"),
    )
)
"""What no rule opens: nobody's addresses, of which some would reach the engine itself."""

_DEFAULTS: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ipaddress.ip_network(text), rule)
    for text, rule in (
        ("127.0.0.0/8", "the engine's loopback is refused"),
        ("169.254.0.0/16", "link-local addresses (cloud metadata among them) are refused"),
        ("::1/128", "the engine's loopback is refused"),
        ("::/96", "IPv4-compatible addresses are refused"),
        ("fe80::/10", "link-local addresses are refused"),
    )
)
"""Refused unless ``--allow`` opens them."""

_NO_RULES = Rules()

ON_THE_LAN = ("macvlan", "ipvlan")
"""Drivers whose networks have somebody else's router for a gateway."""


class Policy:
    """The judgement for one inventory."""

    def __init__(
        self, inventory: Inventory, egress: Egress, own: Iterable[IPAddress] = (), rules: Rules = _NO_RULES
    ) -> None:
        """Prepare the sets.

        Args:
            inventory: containers are allowed, gateways are the engine's.
            egress: whether anything else is allowed.
            own: addresses of the agent itself.
            rules: what the user allows and denies beyond that.
        """
        self._egress = egress
        self._rules = rules
        ours = {address for address, container in inventory.addresses.items() if container.role}
        self._own = {canonical(address) for address in own} | set(_parsed(ours))
        self._containers = set(_parsed(inventory.addresses)) - self._own
        if rules.about_addresses:
            self._containers = {address for address in self._containers if not self._denied(address)}
        bridges = (network for network in inventory.networks if network.driver not in ON_THE_LAN)
        gateways = (gateway for network in bridges for gateway in network.gateways)
        self._gateways = set(_parsed(gateways))

    def is_container(self, address: IPAddress) -> bool:
        """Whether a container has this address and no rule denies it, so that no further question is needed."""
        return address in self._containers

    def is_opened(self, address: IPAddress) -> bool:
        """Whether ``--allow`` opens this address, so that it may be the engine's own."""
        rule = self._rules.of_address(canonical(address))
        return rule is not None and rule.allows

    def name_objection(self, name: str) -> str:
        """The rule that forbids a name, or an empty text."""
        rule = self._rules.of_name(name) if self._rules.about_names else None
        return "" if rule is None or rule.allows else f"rule {rule}"

    def objection(self, address: IPAddress, name: str = "") -> str:
        """The rule that forbids dialing an address, which a client reached by that name, or an empty text."""
        address = canonical(address)
        if address in self._containers:
            return ""
        for network, reason in _NOBODY:
            if address in network:
                return reason
        if address in self._own:
            return "the agent itself is refused"
        rule = self._rules.of_address(address)
        if rule is not None:
            return "" if rule.allows else f"rule {rule}"
        for network, reason in _DEFAULTS:
            if address in network:
                return reason
        if address in self._gateways:
            return "the engine's own addresses are refused"
        named = self._rules.of_name(name)
        if self._egress == "deny" and (
            named is None or not named.allows
        ):  # a network's subnet does not help: macvlan's is the LAN
            return "destinations other than containers are refused (--egress deny)"
        return ""

    def _denied(self, address: IPAddress) -> bool:
        rule = self._rules.of_address(address)
        return rule is not None and not rule.allows


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
