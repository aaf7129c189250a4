"""Which names a container answers to.

Names here are *relative*: without suffix, lower-case, without trailing dot. Every one of them works under every
suffix in both worlds. Bare, in proxies, work those that cannot be mistaken for a public domain: one label, and the
composites that end in a project's or network's name. A label's domain outside every suffix is *absolute*.

``Kind`` is the order of priority where names clash; ``dconnect.dns.build`` applies it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from dconnect.core.address import normal_name
from dconnect.core.inventory import Container

LABEL_DOMAINS = "dev.dconnect.domains"
"""Comma list of further domains; ``*.name`` stands for everything below it."""
DOMAIN_LABELS = (LABEL_DOMAINS, "dev.orbstack.domains", "com.dnsdock.alias", "coredns.dockerdiscovery.host")
"""Ours and those of others that mean the same, so that compose files written for them just work."""
LABEL_IGNORE = "dev.dconnect.ignore"
"""``true``: the container has no names."""
NAMING_LABELS = (*DOMAIN_LABELS, LABEL_IGNORE)
AGENT = "dconnect"
"""The agent's own name."""
_RESERVED = frozenset((AGENT, "localhost"))
"""No container's: ours, and the host's own (RFC 6761 §6.3)."""
_REVERSE = (".in-addr.arpa", ".ip6.arpa")
"""Addresses' names, which ``reverse`` makes."""

_TRUE = frozenset(("true", "1", "yes", "on"))

_VALID = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Kind(IntEnum):
    """What gives a container a name, strongest first."""

    CONTAINER = 0
    """``web-1``, Docker's own unique name."""
    ID = 1
    """The short and the full id."""
    REPLICA = 2
    """``<n>.<service>.<project>``."""
    SERVICE_IN_PROJECT = 3
    """``<service>.<project>``, all replicas."""
    CONTAINER_IN_NETWORK = 4
    """``<container>.<network>``, the address on that network only."""
    ALIAS_IN_NETWORK = 5
    """``<alias>.<network>``, likewise."""
    DOMAIN = 6
    """One of ``DOMAIN_LABELS``; an image brings them along, so they take nothing from those above."""
    SERVICE = 7
    """``<service>``, if only one project has it."""
    ALIAS = 8
    """A network alias."""
    HOSTNAME = 9
    """``<hostname>`` and ``<hostname>.<domainname>``."""


class Claim(NamedTuple):
    """One name of one container."""

    name: str
    """Relative or absolute; may begin with ``*.``."""
    kind: Kind
    network_id: str = ""
    """Non-empty: only the addresses on that network."""
    absolute: bool = False

    @property
    def bare(self) -> bool:
        """Whether a proxy takes the name without suffix although it has dots.

        Strangers write aliases, host names and labels, and ``api.stripe.com`` among them must not take that domain
        over. The last label of a composite is a project or a network, which whoever runs it has named.
        """
        return self.name.count(".") == _COMPOSITES.get(self.kind)


_COMPOSITES = {
    Kind.REPLICA: 2,
    Kind.SERVICE_IN_PROJECT: 1,
    Kind.CONTAINER_IN_NETWORK: 1,
    Kind.ALIAS_IN_NETWORK: 1,
}
"""Kinds of names that join single labels, with their number of dots; with more, a part has dots itself."""


def claims(container: Container, suffixes: Sequence[str]) -> Iterator[Claim]:
    """All names of a container, as people want to see them; those that cannot be written in DNS are left out."""
    for claim in _claims(container, suffixes):
        if claim.name not in _RESERVED and is_valid(claim.name.removeprefix("*.")):
            yield claim


def is_ignored(container: Container) -> bool:
    """Whether a container's label says that it shall have no names."""
    return any(key == LABEL_IGNORE and value.strip().lower() in _TRUE for key, value in container.labels)


def is_valid(name: str) -> bool:
    """Whether a lower-case name consists of labels of letters, digits, ``-`` and ``_``, as Docker allows them."""
    return _VALID.fullmatch(name) is not None


def _claims(container: Container, suffixes: Sequence[str]) -> Iterator[Claim]:
    name = normal_name(container.name)
    yield Claim(name, Kind.CONTAINER)
    yield Claim(container.short_id, Kind.ID)
    yield Claim(container.id, Kind.ID)
    for key, value in container.labels:
        if key in DOMAIN_LABELS:
            yield from _domains(value, suffixes)
    if container.service and container.project and not container.oneoff:
        service, project = normal_name(container.service), normal_name(container.project)
        if container.number:
            yield Claim(f"{container.number}.{service}.{project}", Kind.REPLICA)
        yield Claim(f"{service}.{project}", Kind.SERVICE_IN_PROJECT)
        yield Claim(service, Kind.SERVICE)
    for endpoint in container.endpoints:
        network = normal_name(endpoint.network)
        yield Claim(f"{name}.{network}", Kind.CONTAINER_IN_NETWORK, endpoint.network_id)
        for alias in endpoint.aliases:
            yield Claim(f"{normal_name(alias)}.{network}", Kind.ALIAS_IN_NETWORK, endpoint.network_id)
            yield Claim(normal_name(alias), Kind.ALIAS)
    if container.hostname:
        hostname = normal_name(container.hostname)
        yield Claim(hostname, Kind.HOSTNAME)
        if container.domainname:
            yield Claim(f"{hostname}.{normal_name(container.domainname)}", Kind.HOSTNAME)


def _domains(value: str, suffixes: Sequence[str]) -> Iterator[Claim]:
    for text in value.split(","):
        domain = normal_name(text.strip())
        relative = strip_suffix(domain, suffixes)
        if relative is not None:
            yield Claim(relative, Kind.DOMAIN)
        elif "." in domain.removeprefix("*.") and not domain.endswith(_REVERSE):  # not *.com
            yield Claim(domain, Kind.DOMAIN, absolute=True)


def strip_suffix(name: str, suffixes: Sequence[str]) -> str | None:
    """The part of a name before the first suffix that fits; empty for the suffix itself, None if none fits."""
    for suffix in suffixes:
        if name == suffix:
            return ""
        if name.endswith(suffix) and name[-len(suffix) - 1] == ".":
            return name[: -len(suffix) - 1]
    return None
