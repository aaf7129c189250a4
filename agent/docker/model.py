"""Docker's JSON → ``core.inventory``: pure, tolerant, deterministic.

Read are ``GET /containers/{id}/json`` and the items of ``GET /networks`` as engines 19.03 to 29
(API 1.40 to 1.56) and Podman's compatible API write them. Of a container only ``Id`` and ``Name``
must be there, of a network ``Id`` and ``Name``; whatever else is missing, null or of another
shape counts as absent. Equal states of an engine give equal results, so everything is sorted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from dconnect.agent.labels import LABEL_ROLE
from dconnect.core.address import IPAddress, IPNetwork
from dconnect.core.errors import DconnectError
from dconnect.core.inventory import Container, Endpoint, Inventory, Network, State
from dconnect.dns.names import NAMING_LABELS

COMPOSE = "com.docker.compose."

_STATES: dict[str, State] = {state: state for state in get_args(State)} | {
    # Podman's own words (libpod/define/containerstate.go); its compatible API lets some through.
    "configured": "created",
    "initialized": "created",
    "stopping": "running",
    "stopped": "exited",
}
_PORT = re.compile(r"(\d{1,5})(-\d{1,5})?/(tcp|udp|sctp)", re.ASCII)


class Unreadable(DconnectError):
    """An object of the engine lacks what every container or network has."""


def container(raw: object) -> Container:
    """Read one inspected container. A stopped one keeps its networks, but no address.

    Raises: Unreadable.
    """
    data, config, host = _dict(raw), _dict(raw, "Config"), _dict(raw, "HostConfig")
    container_id, name = _identity(raw, "container")
    state = _state(_dict(data, "State"))
    labels = {key: text for key, text in _dict(config, "Labels").items() if isinstance(text, str)}
    # With another's network comes another's host name, which is no name of this container.
    mode = _text(host, "NetworkMode")
    own_network = mode != "host" and not mode.startswith("container:")
    hostname = _text(config, "Hostname") if own_network else ""
    networks = _dict(data, "NetworkSettings", "Networks")
    shown = {name, container_id, container_id[:12]}
    return Container(
        id=container_id,
        name=name,
        state=state,
        image=_text(config, "Image") or _text(data, "ImageName"),
        hostname=hostname,
        domainname=_text(config, "Domainname") if own_network else "",
        health=_health(_dict(data, "State")),
        project=labels.get(COMPOSE + "project", ""),
        service=labels.get(COMPOSE + "service", ""),
        number=_number(labels.get(COMPOSE + "container-number", "")),
        oneoff=labels.get(COMPOSE + "oneoff", "").lower() == "true",
        role=labels.get(LABEL_ROLE, ""),
        labels=tuple(sorted((key, labels[key]) for key in NAMING_LABELS if key in labels)),
        ports=_ports(config, _dict(data, "NetworkSettings")),
        endpoints=tuple(
            _endpoint(network, networks[network], shown, hostname, alive=state in ("running", "paused"))
            for network in sorted(networks)
        ),
    )


def network(raw: object) -> Network:
    """Read one network.

    Raises: Unreadable.
    """
    network_id, name = _identity(raw, "network")
    driver = _text(raw, "Driver")
    subnets: set[IPNetwork] = set()
    gateways: set[IPAddress] = set()
    for pool in _list(_dict(raw, "IPAM"), "Config"):
        try:
            subnet = ipaddress.ip_network(_text(pool, "Subnet"), strict=False)
        except ValueError:
            continue
        subnets.add(subnet)
        gateway = _address(_text(pool, "Gateway"), subnet.version)
        if gateway is None and driver == "bridge" and subnet.num_addresses > 1:
            # Not told for the default bridge and for IPv6 pools of old engines: it is the first address.
            gateway = subnet.network_address + 1
        if gateway is not None:
            gateways.add(gateway)
    return Network(
        id=network_id,
        name=name,
        driver=driver,
        internal=_dict(raw).get("Internal") is True,
        subnets=tuple(str(each) for each in sorted(subnets, key=lambda each: (each.version, each))),
        gateways=tuple(str(each) for each in sorted(gateways, key=lambda each: (each.version, each))),
    )


def inventory(containers: Iterable[Container], networks: Iterable[Network]) -> Inventory:
    """Put them in order."""
    return Inventory(
        tuple(sorted(containers, key=lambda each: each.id)), tuple(sorted(networks, key=lambda each: each.id))
    )


def _identity(raw: object, kind: str) -> tuple[str, str]:
    found, name = _text(raw, "Id"), _text(raw, "Name").removeprefix("/")
    if not found or not name:
        raise Unreadable(f"The engine told of a {kind} without an id or a name ({found or name or 'neither'}).")
    return found, name


def _state(raw: Mapping[str, Any]) -> State:
    state = _STATES.get(_text(raw, "Status"))
    if state is not None:
        return state
    if raw.get("Running") is True:
        return "paused" if raw.get("Paused") is True else "running"
    return "exited"


def _health(raw: Mapping[str, Any]) -> str:
    # Podman before 4 says Healthcheck, and says it with an empty status where there is none.
    status = _text(_dict(raw, "Health"), "Status") or _text(_dict(raw, "Healthcheck"), "Status")
    return status if status in ("starting", "healthy", "unhealthy") else ""


def _endpoint(name: str, raw: object, shown: set[str], hostname: str, *, alive: bool) -> Endpoint:
    given = {alias for alias in _list(raw, "Aliases") if isinstance(alias, str)}
    # Since API 1.44 DNSNames has name, aliases, short id and host name; Aliases lost the short id with 1.45.
    given |= {alias for alias in _list(raw, "DNSNames") if isinstance(alias, str)} - {hostname}
    return Endpoint(
        network=name,
        network_id=_text(raw, "NetworkID"),
        ipv4=_address_text(_text(raw, "IPAddress"), 4) if alive else None,
        ipv6=_address_text(_text(raw, "GlobalIPv6Address"), 6) if alive else None,
        aliases=tuple(sorted(given - shown - {""})),
    )


def _ports(config: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
    found = [
        match
        for text in {**_dict(config, "ExposedPorts"), **_dict(settings, "Ports")}
        if (match := _PORT.fullmatch(text))
    ]
    return tuple(match[0] for match in sorted(found, key=lambda match: (int(match[1]), match[0])))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _address_text(text: str, version: int) -> str | None:
    address = _address(text, version)
    return None if address is None else str(address)


def _address(text: str, version: int) -> IPAddress | None:
    """Read an address, with a prefix length or without; the unspecified one means none."""
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return None
    return address if address.version == version and not address.is_unspecified else None


def _dict(raw: object, *path: str) -> Mapping[str, Any]:
    """Follow keys; empty where there is no object."""
    for key in path:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, Mapping) else {}


def _list(raw: object, key: str) -> list[Any]:
    found = _dict(raw).get(key)
    return found if isinstance(found, list) else []


def _text(raw: object, key: str) -> str:
    found = _dict(raw).get(key)
    return found if isinstance(found, str) else ""
