"""``dconnect dns``: what a name means, or every name there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from dconnect.agent.docker.engine import Engine
from dconnect.cli import client
from dconnect.cli.output import complain, say, say_json
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError, NameUnknown

_NARROW = 100
"""Columns for the table where stdout is no terminal and would otherwise count as 80 wide."""


async def dns(engine: Engine, names: Sequence[str], *, as_json: bool) -> None:
    """Print the addresses of each name, or a table of all containers.

    Raises: NotRunning; NameUnknown after the known ones are printed.
    """
    _, config = await client.running(engine)
    if names:
        await _some(config, names, as_json=as_json)
    else:
        await _all(config, as_json=as_json)


async def _some(config: AgentConfig, names: Sequence[str], *, as_json: bool) -> None:
    found: dict[str, Any] = {}
    unknown: list[str] = []
    for name in names:
        status, body = await client.get(config, "/api/v1/names", params={"name": name})
        if status == 200:
            found[name] = body
        elif status == 404:
            unknown.append(str(body.get("error") or f"No container is named {name}."))
        else:
            raise DconnectError(f"The agent cannot look {name} up (HTTP {status}): {body.get('error', '')}")
    if as_json:
        say_json(list(found.values()))
    else:
        for name, body in found.items():
            addresses = " ".join(body["addresses"]) or "no address"
            say(addresses if len(names) == 1 else f"{name}  {addresses}")
    if unknown:
        for sentence in unknown[:-1]:
            complain(f"dconnect: {sentence}")
        raise NameUnknown(unknown[-1])


async def _all(config: AgentConfig, *, as_json: bool) -> None:
    status, body = await client.get(config, "/api/v1/names")
    if status != 200:
        raise DconnectError(f"The agent cannot list names (HTTP {status}); see `dconnect logs`.")
    if as_json:
        say_json(body)
        return
    if body.get("stale"):
        complain("dconnect: the agent has lost the engine for the moment; these names may be old.")
    containers = body["containers"]
    if not containers:
        complain("dconnect: there are no containers on this engine.")
        return
    # Names are data: neither [markup] nor the emoji :bed:, which is part of the address fd00:bed::1.
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(_NARROW, *(_width(item) for item in containers))
    console.print(table(containers))


def table(containers: Sequence[Mapping[str, Any]]) -> Table:
    """Containers, running ones first, each with names, addresses and ports."""
    shown = Table("CONTAINER", "STATE", "NAMES", "ADDRESSES", "PORTS", box=None, pad_edge=False)
    for item in sorted(containers, key=lambda item: (item["state"] != "running", item["name"])):
        cells = (item["name"], item["state"], _lines(item["names"]), _lines(_addresses(item)), " ".join(item["ports"]))
        shown.add_row(*cells, style=None if item["state"] in ("running", "paused") else "dim")
    return shown


def _addresses(item: Mapping[str, Any]) -> list[str]:
    return [
        f"{address} ({endpoint['network']})"
        for endpoint in item["endpoints"]
        for address in (endpoint["ipv4"], endpoint["ipv6"])
        if address
    ]


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(texts)


def _width(item: Mapping[str, Any]) -> int:
    """Columns that this container needs unfolded."""
    longest = [item["name"], item["state"], *_widest(item["names"]), *_widest(_addresses(item))]
    return sum(map(len, longest)) + len(" ".join(item["ports"])) + 16


def _widest(texts: Sequence[str]) -> list[str]:
    return [max(texts, key=len)] if texts else []
