"""What DNS must say of every name, told slowly and plainly from what ``docker inspect`` says.

Written from README's table of names and the rules at the top of ``dns/build.py``, and from no other code of ours: each
name of each running container is a *claim*; where several containers claim a name, the strongest kind has it, and all
containers that claim it in that way share it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SUFFIXES = ("docker", "docker.test")
DOMAIN_LABELS = (
    "dev.dconnect.domains",
    "dev.orbstack.domains",
    "com.dnsdock.alias",
    "coredns.dockerdiscovery.host",
)
IGNORE, ROLE, COMPOSE = "dev.dconnect.ignore", "dev.dconnect.role", "com.docker.compose"
NOERROR, NXDOMAIN, REFUSED = 0, 3, 5
BELOW_WILDCARD = "any.thing"
"""Asked below each wildcard."""

Question = tuple[str, str]
"""Name in full, and A, AAAA or PTR."""
Answer = tuple[int, frozenset[str]]
"""RCODE and values."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One name that one container has."""

    strength: int
    """The lowest is the strongest."""
    name: str
    addresses: frozenset[str]
    project: str = ""
    absolute: bool = False
    """Not below a suffix."""


def claims(container: Mapping[str, Any]) -> Iterator[Claim]:
    """All names of a container, by what ``docker inspect`` says of it, with the addresses that it has now."""
    config, networks = container["Config"], container["NetworkSettings"]["Networks"]
    labels = config["Labels"] or {}
    name, short_id = container["Name"].removeprefix("/").lower(), container["Id"][:12]
    everywhere = frozenset(address for each in networks.values() for address in addresses(each))
    yield Claim(0, name, everywhere)
    yield Claim(1, short_id, everywhere)
    project, service = labels.get(f"{COMPOSE}.project"), labels.get(f"{COMPOSE}.service")
    if project and service and labels.get(f"{COMPOSE}.oneoff") != "True":
        yield Claim(2, f"{labels[f'{COMPOSE}.container-number']}.{service}.{project}", everywhere)
        yield Claim(3, f"{service}.{project}", everywhere)
        yield Claim(7, service, everywhere, project)
    for network, endpoint in networks.items():
        here = frozenset(addresses(endpoint))
        yield Claim(4, f"{name}.{network}", here)
        for alias in set(endpoint["Aliases"] or ()) - {container["Name"].removeprefix("/"), short_id}:
            yield Claim(5, f"{alias.lower()}.{network}", here)
            yield Claim(8, alias.lower(), everywhere)
    for label in DOMAIN_LABELS:
        for domain in filter(None, labels.get(label, "").split(",")):
            below = domain.removesuffix(f".{SUFFIXES[0]}")
            yield Claim(6, below, everywhere, absolute=below == domain)
    if container["HostConfig"]["NetworkMode"] != "host":
        yield Claim(9, config["Hostname"], everywhere)


def addresses(endpoint: Mapping[str, str]) -> list[str]:
    return [endpoint[key] for key in ("IPAddress", "GlobalIPv6Address") if endpoint[key]]


def expected(containers: Sequence[Mapping[str, Any]]) -> dict[Question, Answer]:
    """Every question that has an answer, by what ``docker inspect`` says of all containers; see ``of_others``."""
    named = [each for each in containers if _has_names(each)]
    running = [each for each in named if each["State"]["Running"]]  # also while it is paused
    all_claims = [claim for each in running for claim in claims(each)]
    found: dict[Question, Answer] = {}
    for name, absolute in {(claim.name, claim.absolute) for claim in all_claims}:
        rivals = [claim for claim in all_claims if (claim.name, claim.absolute) == (name, absolute)]
        winners = [claim for claim in rivals if claim.strength == min(rival.strength for rival in rivals)]
        values = frozenset(address for claim in winners for address in claim.addresses)
        exists = True
        if len({claim.project for claim in winners}) > 1:  # a service of several projects: it means none of them
            values, exists = frozenset(), _is_above(name, all_claims)
        asked = name.replace("*", BELOW_WILDCARD)
        for full in [asked] if absolute else [f"{asked}.{suffix}" for suffix in SUFFIXES]:
            for kind, version in (("A", 4), ("AAAA", 6)):
                wanted = frozenset(each for each in values if ipaddress.ip_address(each).version == version)
                found[full, kind] = (NOERROR if exists else NXDOMAIN), wanted
    for container in running:
        for endpoint in container["NetworkSettings"]["Networks"].values():
            for address in addresses(endpoint):
                name = container["Name"].removeprefix("/").lower()
                pointer = ipaddress.ip_address(address).reverse_pointer
                found[pointer, "PTR"] = NOERROR, frozenset({f"{name}.{SUFFIXES[0]}."})
    return found


def of_others(question: Question, containers: Sequence[Mapping[str, Any]]) -> Answer:
    """The answer to a question that ``expected`` does not name: nobody's, or nobody's any more."""
    name, kind = question
    named = [each for each in containers if _has_names(each)]
    running = [claim for each in named if each["State"]["Running"] for claim in claims(each)]
    if kind == "PTR":  # the networks of those who ask stay
        return NXDOMAIN, frozenset()
    for suffix in reversed(SUFFIXES):  # the longer one first
        if name.endswith(f".{suffix}"):
            above = _is_above(name.removesuffix(f".{suffix}"), running)
            return (NOERROR if above else NXDOMAIN), frozenset()
    # A domain of a label is ours as long as there is a container that has it, whether that runs or not.
    ours = {claim.name.replace("*", BELOW_WILDCARD) for each in named for claim in claims(each) if claim.absolute}
    return (NXDOMAIN if name in ours else REFUSED), frozenset()


def _has_names(container: Mapping[str, Any]) -> bool:
    labels = container["Config"]["Labels"] or {}
    return ROLE not in labels and labels.get(IGNORE) != "true"


def _is_above(name: str, all_claims: Sequence[Claim]) -> bool:
    """Whether something exists below a relative name (RFC 8020)."""
    return any(claim.name.endswith(f".{name}") for claim in all_claims if not claim.absolute)
