"""The same test under both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import uvloop

LOOPS = ("asyncio", "uvloop")
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


def runner(loop: str) -> Run:
    """Runs a coroutine in a new event loop of that make, for half a minute at most."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as made:
            made.run(asyncio.wait_for(main, 30))

    return run
