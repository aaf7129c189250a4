"""What names mean, as JSON: for the API, and for the command line where no agent runs."""

from __future__ import annotations

from typing import Any

from dconnect.agent.names import no_addresses
from dconnect.core.address import IPAddress, parse_ip
from dconnect.core.inventory import Container, Inventory
from dconnect.dns import Agent, Found, Zone
from dconnect.dns.zone import Row


def one(zone: Zone, name: str, reach: str) -> tuple[int, dict[str, Any]]:
    """An HTTP status and what is known of a name, or of an address.

    ``reach`` is where the agent itself is reached; empty when it does not run.
    """
    address = parse_ip(name)
    if address is not None:
        return _at(zone, name, address)
    match zone.resolve(name):
        case Found(addresses=addresses, containers=containers):
            found = {"addresses": [str(each) for each in addresses]}
            return 200, {"name": name, **found, "containers": [each.name for each in containers]}
        case Agent() if reach:
            return 200, {"name": name, "addresses": [reach.strip("[]")], "containers": []}
        case Agent():
            return 404, {"error": "dconnect itself does not run; start it with `dconnect up`."}
        case nothing:
            return 404, {"error": str(no_addresses(name, nothing))}


def _at(zone: Zone, text: str, address: IPAddress) -> tuple[int, dict[str, Any]]:
    rows = [row for row in zone.table() if any(str(address) in (each.ipv4, each.ipv6) for each in row.endpoints)]
    if not rows:
        return 404, {"error": f"No running container has the address {address}; dconnect dns lists all."}
    names = [name for row in rows for name in row.names]
    return 200, {"name": text, "addresses": [str(address)], "names": names, "containers": [row.name for row in rows]}


def everything(zone: Zone, inventory: Inventory, *, stale: bool) -> dict[str, Any]:
    """Every container with its names; ``stale``: the engine is away, so they may be old."""
    by_id = {container.id: container for container in inventory.containers}
    rows = [_row(row, by_id[row.id]) for row in zone.table() if row.id in by_id]
    return {"stale": stale, "containers": rows}


def _row(row: Row, container: Container) -> dict[str, Any]:
    endpoints = [{"network": each.network, "ipv4": each.ipv4, "ipv6": each.ipv6} for each in row.endpoints]
    return {
        "id": row.id,
        "name": row.name,
        "image": container.image,
        "state": row.state,
        "health": container.health,
        "names": list(row.names),
        "ports": list(container.ports),
        "endpoints": endpoints,
    }
