"""Small inventories, said in one line, for tests of names and of what is made from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from dconnect.core.inventory import Container, Endpoint, Inventory, Network, State


def ident(name: str) -> str:
    """A container or network id: 64 hex digits, the same for the same name."""
    return hashlib.sha256(name.encode()).hexdigest()


def endpoint(network: str, ipv4: str | None, ipv6: str | None = None, *aliases: str) -> Endpoint:
    """A place on a network."""
    return Endpoint(network, ident(network), ipv4, ipv6, aliases)


def container(
    name: str,
    *endpoints: Endpoint,
    state: State = "running",
    service: str = "",
    hostname: str = "",
    domainname: str = "",
    domains: str = "",
    oneoff: bool = False,
    role: str = "",
    health: str = "",
    image: str = "",
    ports: tuple[str, ...] = (),
    labels: tuple[tuple[str, str], ...] = (),
) -> Container:
    """A container; ``service`` is ``service.project`` or ``number.service.project``, ``domains`` our own label."""
    number, project, words = 0, "", service.split(".")
    if service:
        number = int(words[0]) if len(words) == 3 else 1
        service, project = words[-2:]
    return Container(
        id=ident(name),
        name=name,
        state=state,
        hostname=hostname or ident(name)[:12],
        domainname=domainname,
        project=project,
        service=service,
        number=number,
        oneoff=oneoff,
        role=role,
        health=health,
        image=image,
        ports=ports,
        labels=(*((("dev.dconnect.domains", domains),) if domains else ()), *labels),
        endpoints=endpoints,
    )


def network(name: str, *subnets: str, internal: bool = False) -> Network:
    """A bridge."""
    return Network(ident(name), name, "bridge", internal=internal, subnets=subnets)


def inventory(containers: Sequence[Container], networks: Sequence[Network] = ()) -> Inventory:
    """All of it, sorted as control sorts it."""
    return Inventory(
        tuple(sorted(containers, key=lambda each: each.id)), tuple(sorted(networks, key=lambda each: each.id))
    )
