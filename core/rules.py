"""The user's own rules about destinations: ``--allow`` and ``--deny``, each a CIDR or a domain.

A CIDR (or one address) is about addresses, after names were resolved. A domain is about itself and
everything below it, as a client named it. Of all rules that fit, the most specific one counts: the
longest prefix, the longest domain. Both kinds must agree, so neither overrules the other's ``--deny``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, TypeAlias

from dconnect.core.address import IPAddress, IPNetwork, normal_name
from dconnect.core.errors import UsageError
from dconnect.core.limits import MAX_RULES

Option: TypeAlias = Literal["--allow", "--deny"]

_DOMAIN = re.compile(r"(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)(?![0-9]+\Z)[a-z0-9_-]{1,63}(?<!-)\Z")
"""Not ending in digits only: that is an address with a slip of the pen (RFC 3696 §2)."""
_MAPPED = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, fit to be named in an error."""

    option: Option
    matter: IPNetwork | str
    """Addresses, or a domain in lower case without a dot at either end."""

    @property
    def allows(self) -> bool:
        """Whether it opens; otherwise it closes."""
        return self.option == "--allow"

    @property
    def text(self) -> str:
        """The matter in its one spelling: an address alone without its prefix."""
        return str(self.matter).removesuffix("/32" if isinstance(self.matter, IPv4Network) else "/128")

    def __str__(self) -> str:
        return f"{self.option} {self.text}"


def parse_rule(option: Option, text: str) -> Rule:
    """Parse ``10.0.0.0/8``, ``fd00::1``, ``example.com``, ``.example.com`` or ``*.example.com``.

    Raises: UsageError.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    else:
        if "/" in text and ipaddress.ip_interface(text).ip != network.network_address:
            raise UsageError(f"{option} {text} has bits beyond its prefix; write {network}, or the address alone.")
        return Rule(option, _unmapped(network))
    domain = normal_name(text).removeprefix("*.").removeprefix(".")
    if len(domain) > 253 or not _DOMAIN.match(domain):
        raise UsageError(
            f"{option} {text!r} is neither an address, nor a CIDR such as 10.0.0.0/8, nor a domain such as example.com."
        )
    return Rule(option, domain)


def _unmapped(network: IPNetwork) -> IPNetwork:
    """Judged are canonical addresses, of which none is IPv4-mapped (``address.canonical``)."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))
    return network


class Rules:
    """All rules of an agent."""

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        """Parse them.

        Raises: UsageError: a text is no rule, one matter is both allowed and denied, or they are too many.
        """
        allowed = {parse_rule("--allow", text) for text in allow}
        denied = {parse_rule("--deny", text) for text in deny}
        for rule in allowed:
            if Rule("--deny", rule.matter) in denied:
                raise UsageError(f"{rule} and --deny {rule.text} contradict each other; leave one out.")
        rules = sorted(allowed | denied, key=str)
        if len(rules) > MAX_RULES:
            raise UsageError(
                f"--allow and --deny are given {len(rules)} times; at most {MAX_RULES} rules are possible."
            )
        networks = [(rule.matter, rule) for rule in rules if not isinstance(rule.matter, str)]
        self._networks = sorted(networks, key=lambda pair: -pair[0].prefixlen)
        self._domains = {rule.matter: rule for rule in rules if isinstance(rule.matter, str)}
        self.about_addresses = bool(self._networks)
        """Whether any rule is a CIDR."""
        self.about_names = bool(self._domains)
        """Whether any rule is a domain."""

    def of_address(self, address: IPAddress) -> Rule | None:
        """The rule that counts for a canonical address."""
        return next((rule for network, rule in self._networks if address in network), None)

    def of_name(self, name: str) -> Rule | None:
        """The rule that counts for a name as a client gave it, in lower case."""
        while name:
            if (rule := self._domains.get(name)) is not None:
                return rule
            name = name.partition(".")[2]
        return None

    def may_open(self, name: str) -> bool:
        """Whether a name that is no container's must be looked up although other destinations are closed."""
        rule = self.of_name(name)
        return rule.allows if rule is not None else any(rule.allows for _, rule in self._networks)
