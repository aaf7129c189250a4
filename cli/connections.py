"""``dconnect connections``: who is connected to what now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from dconnect.agent.docker.engine import Engine
from dconnect.cli import client
from dconnect.cli.output import complain, say_json
from dconnect.core.errors import DconnectError

_NARROW = 120
"""Columns for the table where stdout is no terminal and would otherwise count as 80 wide."""


async def connections(engine: Engine, *, as_json: bool) -> None:
    """Print the open connections, newest first.

    Raises: NotRunning.
    """
    config = await client.running(engine)
    code, body = await client.get(config, "/api/v1/connections")
    if code != 200:
        raise DconnectError(f"The agent cannot tell its connections (HTTP {code}); see `dconnect logs`.")
    if as_json:
        say_json(body)
        return
    rows, total = body["connections"], body["total"]
    if body["silent_workers"]:
        complain("dconnect: a worker did not answer in time; its connections are missing here.")
    if not rows:
        complain("dconnect: nobody is connected.")
        return
    # Targets are what clients sent: neither [markup] nor :emoji:.
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(_NARROW, *(_width(row) for row in rows))
    console.print(table(rows))
    if total > len(rows):
        complain(f"dconnect: these are the newest {len(rows)} of {total} connections.")


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each connection."""
    shown = Table(box=None, pad_edge=False)
    for title in ("CLIENT", "FRONT", "TARGET", "ADDRESS", "STATE"):
        shown.add_column(title)
    for title in ("UP", "DOWN", "AGE"):
        shown.add_column(title, justify="right", no_wrap=True)
    shown.add_column("WORKER")
    for row in rows:
        sizes = decimal(row["bytes_up"]), decimal(row["bytes_down"])
        texts = (printable(str(row[name])) for name in ("peer", "front", "target", "address", "state"))
        shown.add_row(*texts, *sizes, age(row["age_s"]), str(row["worker"]))
    return shown


def printable(text: str) -> str:
    """Without what would steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def age(seconds: float) -> str:
    """The two largest units: ``3d 4h``, ``12m 5s``, ``7s``."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count]
    return " ".join([*parts, f"{left}s"][:2])


def _width(row: Mapping[str, Any]) -> int:
    """Columns that this row needs unfolded."""
    return sum(len(str(row[name])) for name in ("peer", "front", "target", "address", "state")) + 50
