"""Talking to a running agent: find it through Docker, ask it through its front door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from dconnect.agent.docker.engine import Engine
from dconnect.agent.labels import AGENT_NAME, LABEL_CONFIG, LABEL_ROLE, ROLE_AGENT
from dconnect.cli import passwords, state
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError, EngineUnreachable, NotRunning

DEADLINE_S = 5.0
"""The agent answers from memory; this is for a busy machine or a slow published port."""


async def find(engine: Engine) -> dict[str, Any] | None:
    """The agent's container in full, running or not; None if there is none.

    Raises: DconnectError if a container of that name is not ours.
    """
    container = await engine.inspect(AGENT_NAME)
    if container is not None and label(container, LABEL_ROLE) != ROLE_AGENT:
        raise DconnectError(
            f"A container named {AGENT_NAME} on {engine.name} is not ours; rename or remove it, then try again."
        )
    return container


async def existing(engine: Engine) -> dict[str, Any]:
    """The agent's container, running or not.

    Raises: NotRunning if there is none.
    """
    container = await find(engine)
    if container is None:
        raise NotRunning(f"dconnect is not running on {engine.name}; start it with `dconnect up`.")
    return container


async def running(engine: Engine) -> AgentConfig:
    """The running agent's configuration. When the engine is away, that of the last one seen there, if it answers.

    Raises: NotRunning; EngineUnreachable.
    """
    file = state.agents_file()
    try:
        container = await existing(engine)
    except EngineUnreachable:
        config = state.recall_agent(file, engine.url)
        if config is not None and await _answers(config):
            return config
        raise
    if not container["State"].get("Running"):
        raise NotRunning(f"The agent on {engine.name} has stopped; start it with `dconnect up`.")
    config = AgentConfig.from_json(label(container, LABEL_CONFIG))
    state.remember_agent(file, engine.url, config)
    return config


async def _answers(config: AgentConfig) -> bool:
    try:
        _, body = await get(config, "/healthz")
    except DconnectError:
        return False
    return "instance" in body


def label(container: Mapping[str, Any], name: str) -> str:
    """One label of an inspected container, empty if it has none."""
    return str((container["Config"].get("Labels") or {}).get(name, ""))


async def get(
    config: AgentConfig, path: str, *, params: Mapping[str, str] | None = None, deadline_s: float = DEADLINE_S
) -> tuple[int, dict[str, Any]]:
    """GET one of the agent's own pages; status and JSON object.

    Raises: DconnectError if nothing, or something else, answers there, or it wants a password that we do not know.
    """
    entry = passwords.find(config)
    signed = {"Authorization": entry.basic} if entry is not None else {}
    url = f"http://{config.reach}:{config.port}"
    try:
        async with (
            asyncio.timeout(deadline_s),
            aiohttp.ClientSession(headers=signed) as session,
            session.get(url + path, params=params, allow_redirects=False) as response,
        ):
            if response.status == 401:
                raise passwords.needed(config)
            body = json.loads(await response.read())
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        raise DconnectError(
            f"The agent runs, but does not answer at {url} ({str(error) or 'time-out'}); see `dconnect logs`."
        ) from error
    except ValueError as error:
        raise DconnectError(f"What answers at {url} is not dconnect; another program may have the port.") from error
    if not isinstance(body, dict):
        raise DconnectError(f"What answers at {url} is not dconnect; another program may have the port.")
    return response.status, body
