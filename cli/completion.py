"""Container names for the shell's completion: quickly, or none, and never an error."""

from __future__ import annotations

import asyncio

import typer

from dconnect.cli import client, engines

_SECONDS = 1.0
"""Somebody waits with a finger on Tab."""


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of running containers that begin so, the best of each without suffix too."""
    try:
        return asyncio.run(asyncio.wait_for(_names(ctx, incomplete), _SECONDS))
    except Exception:  # noqa: BLE001 - there is nobody to tell
        return []


async def _names(ctx: typer.Context, incomplete: str) -> list[str]:
    # The engine's options may stand before the command, which has not run.
    given = ctx.params if ctx.params.get("context") or ctx.params.get("host") else ctx.find_root().params
    choice = engines.choose(engines.Machine.here(), context=given.get("context"), host=given.get("host"))
    async with choice.open() as engine:
        config = await client.running(engine)
    status, body = await client.get(config, "/api/v1/names", deadline_s=_SECONDS)
    found = body["containers"] if status == 200 else ()
    running = (each for each in found if each["state"] in ("running", "paused"))
    return sorted({text for each in running for text in (each["name"], *each["names"]) if text.startswith(incomplete)})
