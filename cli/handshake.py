"""Is the agent there, as seen from this host?

A published port accepts connections before, and even without, anything behind it (docker-proxy
and every desktop relay do). So only a whole answer counts, and when none comes, the container's
own state tells which of three stories is true: it died, it is not ready, or it is healthy and
only out of this host's reach.
"""

from __future__ import annotations

import asyncio
import time

from dconnect.agent.docker.engine import Engine
from dconnect.cli import client
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError

DEADLINE_S = 30.0
"""A cold start on a slow, emulated machine takes about ten seconds."""
ANSWER_S = 2.0
POLL_S = 0.1
CHECK = ("python3", "-m", "dconnect.agent.health")
"""The image's own health check: the engine does it once a minute only."""
CHECK_S = 10.0
LAST_WORDS = 5
"""Log lines quoted when the agent died."""


async def wait(engine: Engine, container_id: str, config: AgentConfig) -> None:
    """Return once the agent answers on its published port and knows the engine's containers.

    Raises: DconnectError that tells what is wrong.
    """
    end = time.monotonic() + DEADLINE_S
    while not await healthy(container_id, config):
        container = await engine.inspect(container_id)
        if container is None:
            raise DconnectError("The agent was removed while it started; run `dconnect up` again.")
        state = container["State"]
        if not state.get("Running") or state.get("Restarting") or container.get("RestartCount"):
            words = await _last_words(engine, container_id)
            raise DconnectError(f"The agent ended with exit code {state.get('ExitCode')} as it started: {words}")
        if time.monotonic() > end:
            raise await _unready(engine, container_id, config)
        await asyncio.sleep(POLL_S)


async def healthy(container_id: str, config: AgentConfig) -> bool:
    """Whether this very agent answers on the published port and is ready."""
    try:
        status, body = await client.get(config, "/healthz", deadline_s=ANSWER_S)
    except DconnectError:
        return False
    # An agent's instance is its host name, which Docker makes from the id. Another agent's answer is not ours.
    return status == 200 and body.get("status") == "ok" and container_id.startswith(str(body.get("instance") or "-"))


async def _unready(engine: Engine, container_id: str, config: AgentConfig) -> DconnectError:
    """Why the agent, which runs, did not get ready in time."""
    where = f"{config.reach}:{config.port}"
    try:
        _, body = await client.get(config, "/api/v1/status")
    except DconnectError:
        body = {}
    link = body.get("engine") or {}
    if link.get("connected") is False:
        return DconnectError(
            f"The agent runs, but does not reach the engine through the socket it was given ({link.get('error')}); "
            "name the socket on the engine's own machine with --docker-socket."
        )
    if not body and await _is_well(engine, container_id):
        return DconnectError(
            f"The agent runs and is healthy on {engine.name}, but its port {where} is not reachable from here: "
            "a remote engine publishes ports on its own machine; give --bind an address of it that this host reaches."
        )
    words = await _last_words(engine, container_id)
    return DconnectError(f"The agent was not ready at {where} within {DEADLINE_S:.0f} s: {words}")


async def _is_well(engine: Engine, container_id: str) -> bool:
    try:
        return await engine.run(container_id, CHECK, CHECK_S) == 0
    except DconnectError:
        return False


async def _last_words(engine: Engine, container_id: str) -> str:
    try:
        text = "".join([part async for part in engine.logs(container_id, tail=LAST_WORDS)])
    except DconnectError:
        text = ""
    return text.strip() or "it logged nothing."
