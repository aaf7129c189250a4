"""The inventory: our immutable picture of an engine's containers and networks.

Control builds one from the Docker API and pushes it to the workers; names (``dns``) and
policy (``proxy``) are computed from it. Docker's own JSON never crosses this border.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

State = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]

_AILING = {"starting": 1, "unhealthy": 2}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One container's place on one network; an address is None where it has none."""

    network: str
    """The network's name."""
    network_id: str
    ipv4: str | None
    ipv6: str | None
    aliases: tuple[str, ...] = ()
    """Network aliases as the user gave them; neither the name nor the short id."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container, running or not."""

    id: str
    """64 hex digits; its first 12 are the short id."""
    name: str
    """Without Docker's leading slash."""
    state: State
    image: str = ""
    hostname: str = ""
    domainname: str = ""
    health: str = ""
    """starting, healthy, unhealthy, or empty where the image has no health check."""
    project: str = ""
    """Compose project (label com.docker.compose.project)."""
    service: str = ""
    number: int = 0
    """Compose container number, 1 for the first replica; 0 outside compose."""
    oneoff: bool = False
    """Started by ``docker compose run``: answers to its own name, not to its service's."""
    role: str = ""
    """Non-empty for our own containers: agent or dialer."""
    labels: tuple[tuple[str, str], ...] = ()
    """Only the labels that carry names for us, sorted."""
    ports: tuple[str, ...] = ()
    """Exposed ports such as ``80/tcp``, sorted by number."""
    endpoints: tuple[Endpoint, ...] = ()

    @property
    def running(self) -> bool:
        """True while its processes and addresses exist (a paused one keeps both)."""
        return self.state in ("running", "paused")

    @property
    def ailing(self) -> int:
        """0 in good health or without a health check, 1 while it starts, 2 unhealthy: the last to be used."""
        return _AILING.get(self.health, 0)

    @property
    def short_id(self) -> str:
        """The first 12 digits, which Docker gives the container as its host name."""
        return self.id[:12]


@dataclass(frozen=True, slots=True)
class Network:
    """One Docker network."""

    id: str
    name: str
    driver: str
    internal: bool = False
    subnets: tuple[str, ...] = ()
    """CIDR texts."""
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """Everything we know of an engine at one moment; compared by value."""

    containers: tuple[Container, ...] = ()
    """Sorted by id."""
    networks: tuple[Network, ...] = ()
    """Sorted by id."""

    @cached_property
    def addresses(self) -> dict[str, Container]:
        """Address text → the container that has it now."""
        return {
            address: container
            for container in self.containers
            if container.running
            for endpoint in container.endpoints
            for address in (endpoint.ipv4, endpoint.ipv6)
            if address
        }

    def to_json(self) -> str:
        """One JSON object; ``from_json`` gives back an equal inventory."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Inventory:
        """The inverse of ``to_json``.

        Raises: ValueError, KeyError or TypeError when the text is not what ``to_json`` writes.
        """
        data = json.loads(text)
        return cls(
            containers=tuple(_container(item) for item in data["containers"]),
            networks=tuple(Network(**_tuples(item)) for item in data["networks"]),
        )


def _container(item: dict[str, Any]) -> Container:
    endpoints = tuple(Endpoint(**_tuples(endpoint)) for endpoint in item.pop("endpoints"))
    labels = tuple((key, value) for key, value in item.pop("labels"))
    return Container(**_tuples(item), endpoints=endpoints, labels=labels)


def _tuples(item: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
