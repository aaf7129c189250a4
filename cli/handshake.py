"""Is the agent there, as seen from this host?

A published port accepts connections before, and even without, anything behind it (docker-proxy
and every desktop relay do). So only a whole answer counts, and when none comes, the container's
own state tells which of three stories is true: it died, it is not ready, or it is healthy and
only out of this host's reach.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from dconnect.agent.docker.engine import Engine
from dconnect.cli import client
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError

DEADLINE_S = 30.0
"""A cold start on a slow, emulated machine takes about ten seconds."""
ANSWER_S = 2.0
ENGINE_S = 10.0
"""How long the agent may take to find the engine behind its socket; it retries well within a second."""
POLL_S = 0.1
LAST_WORDS = 5
"""Log lines quoted when the agent died."""


async def wait(engine: Engine, container_id: str, config: AgentConfig) -> None:
    """Return once the agent answers on its published port and has found its engine.

    Raises: DconnectError that tells what is wrong.
    """
    end = time.monotonic() + DEADLINE_S
    while not await healthy(config):
        container = await engine.inspect(container_id)
        if container is None:
            raise DconnectError("The agent was removed while it started; run `dconnect up` again.")
        state = container["State"]
        if not state.get("Running") or state.get("Restarting") or container.get("RestartCount"):
            words = await _last_words(engine, container_id)
            raise DconnectError(f"The agent ended with exit code {state.get('ExitCode')} as it started: {words}")
        if time.monotonic() > end:
            raise await _silent(engine, container_id, state, config)
        await asyncio.sleep(POLL_S)
    await _wait_for_engine(container_id, config)


async def healthy(config: AgentConfig) -> bool:
    """Whether an agent answers on the published port."""
    try:
        status, body = await client.get(config, "/healthz", deadline_s=ANSWER_S)
    except DconnectError:
        return False
    return status == 200 and body.get("status") == "ok"


async def _wait_for_engine(container_id: str, config: AgentConfig) -> None:
    """Wait until the agent lists its own container: then the socket it was given is this engine's."""
    end = time.monotonic() + ENGINE_S
    while True:
        _, body = await client.get(config, "/api/v1/names")
        if any(container.get("id") == container_id for container in body.get("containers") or ()):
            return
        if time.monotonic() > end:
            raise DconnectError(
                "The agent runs, but does not see this engine through the socket it was given; "
                "name the socket on the engine's machine with --docker-socket."
            )
        await asyncio.sleep(POLL_S)


async def _silent(engine: Engine, container_id: str, state: dict[str, Any], config: AgentConfig) -> DconnectError:
    where = f"{config.reach}:{config.port}"
    if (state.get("Health") or {}).get("Status") == "healthy":
        return DconnectError(
            f"The agent runs and is healthy on {engine.name}, but its port {where} is not reachable from here: "
            "a remote engine publishes ports on its own machine; give --bind an address of it that this host reaches."
        )
    words = await _last_words(engine, container_id)
    return DconnectError(f"The agent did not answer at {where} within {DEADLINE_S:.0f} s: {words}")


async def _last_words(engine: Engine, container_id: str) -> str:
    try:
        text = "".join([part async for part in engine.logs(container_id, tail=LAST_WORDS)])
    except DconnectError:
        text = ""
    return text.strip() or "it logged nothing."
