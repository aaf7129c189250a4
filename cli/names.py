"""``dconnect dns``: what a name means, or every name there is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from dconnect.agent.docker.engine import Engine
from dconnect.cli.output import complain, say, say_json
from dconnect.cli.records import number_of, records
from dconnect.cli.sources import Source, source
from dconnect.core.errors import DconnectError, NameUnknown, UsageError

_STALE = "the agent has lost the engine for the moment; these names may be old."
_NARROW = 100
"""Columns for the table where stdout is no terminal and would otherwise count as 80 wide."""


async def dns(engine: Engine, names: Sequence[str], *, kind: str | None, as_json: bool, watch: bool) -> None:
    """Print what each name means, or a table of all containers, once or until interrupted.

    Raises: UsageError; NameUnknown after the known ones are printed; DconnectError.
    """
    number = None if kind is None else number_of(kind)
    if watch and (names or as_json):
        raise UsageError("--watch shows the table of all containers; leave names and --json away.")
    if number is not None and not names:
        raise UsageError("--type needs a name to ask for.")
    known = await source(engine)
    if watch:
        await _watch(known)
    elif number is not None:
        await _records(known, names, number, as_json=as_json)
    elif names:
        await _some(known, names, as_json=as_json)
    else:
        await _all(known, as_json=as_json)


async def _some(known: Source, names: Sequence[str], *, as_json: bool) -> None:
    found: dict[str, Any] = {}
    unknown: list[str] = []
    for name in names:
        status, body = await known.one(name)
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
            means = " ".join(body.get("names") or body["addresses"]) or "no address"
            say(means if len(names) == 1 else f"{name}  {means}")
    _raise_unknown(unknown)


async def _records(known: Source, names: Sequence[str], kind: int, *, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    unknown: list[str] = []
    for name in names:
        try:
            found += await records(known, name, kind)
        except NameUnknown as error:
            unknown.append(str(error))
    if as_json:
        say_json(found)
    else:
        for each in found:
            say(each["data"] if len(names) == 1 else f"{each['name']}  {each['data']}")
    _raise_unknown(unknown)


def _raise_unknown(sentences: Sequence[str]) -> None:
    for sentence in sentences[:-1]:
        complain(f"dconnect: {sentence}")
    if sentences:
        raise NameUnknown(sentences[-1])


async def _all(known: Source, *, as_json: bool) -> None:
    body = await known.everything()
    if as_json:
        say_json(body)
        return
    if body.get("stale"):
        complain(f"dconnect: {_STALE}")
    containers = body["containers"]
    if not containers:
        complain("dconnect: there are no containers on this engine.")
        return
    _console(containers).print(table(containers))


async def _watch(known: Source) -> None:
    """The table, printed anew with each change; on a terminal in its place."""
    shown: object = None
    console = _console(())
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            try:
                body = await known.everything()
            except DconnectError as error:  # it comes back
                body = {"containers": (), "stale": str(error)}
            if body != shown:
                shown = body
                stale, containers = body["stale"], body["containers"]
                note = _STALE if stale is True else str(stale or "")
                picture = Group(note, table(containers)) if note else table(containers)
                if console.is_terminal:
                    live.update(picture, refresh=True)
                else:
                    _console(containers).print(picture)
            await asyncio.sleep(known.pause)


def _console(containers: Sequence[Mapping[str, Any]]) -> Console:
    """Where tables are printed, wide enough for them where nobody can say how wide it is."""
    # Names are data: neither [markup] nor the emoji :bed:, which is part of the address fd00:bed::1.
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(_NARROW, *map(_width, containers)) if containers else _NARROW
    return console


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
