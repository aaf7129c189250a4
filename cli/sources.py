"""Who knows the names: the agent, or, where none runs, the engine itself."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from dconnect.agent import listing
from dconnect.agent.docker import model
from dconnect.agent.docker.engine import Engine
from dconnect.cli import client
from dconnect.cli.output import complain
from dconnect.core.config import DEFAULT_SUFFIXES, AgentConfig
from dconnect.core.errors import DconnectError, NotRunning
from dconnect.core.inventory import Inventory
from dconnect.dns import Resolver, Zone, build
from dconnect.dns.forward import ask_stream

_AT_ONCE = 16
"""Containers inspected at the same time, when there is no agent that has done it."""


class Source(Protocol):
    """Answers about names."""

    suffixes: tuple[str, ...]
    pause: float
    """Seconds to wait before everything is asked for again."""

    async def one(self, name: str) -> tuple[int, dict[str, Any]]:
        """As ``listing.one``."""

    async def everything(self) -> dict[str, Any]:
        """As ``listing.everything``.

        Raises: DconnectError.
        """

    async def ask(self, query: bytes) -> bytes:
        """A DNS message for a DNS message.

        Raises: DconnectError.
        """


async def source(engine: Engine) -> Source:
    """The agent if it runs; otherwise the engine, which is said on stderr.

    Raises: DconnectError.
    """
    try:
        config = await client.running(engine)
    except NotRunning:
        complain(f"dconnect: no agent runs on {engine.name}, so this is what the engine itself says.")
        return _OfEngine(engine)
    return _OfAgent(config)


class _OfAgent:
    pause = 0.5  # at once, for a person, and nothing for the agent

    def __init__(self, config: AgentConfig) -> None:
        self.suffixes: tuple[str, ...] = config.suffixes
        self._config = config

    async def one(self, name: str) -> tuple[int, dict[str, Any]]:
        return await client.get(self._config, "/api/v1/names", params={"name": name})

    async def everything(self) -> dict[str, Any]:
        status, body = await client.get(self._config, "/api/v1/names")
        if status != 200:
            raise DconnectError(f"The agent cannot list names (HTTP {status}); see `dconnect logs`.")
        return body

    async def ask(self, query: bytes) -> bytes:
        """Over TCP, where no answer is cut."""
        where = f"{self._config.reach}:{self._config.dns_port}"
        host = self._config.reach.strip("[]")
        try:
            return await ask_stream(host, self._config.dns_port, query, client.DEADLINE_S)
        except OSError as error:  # a TimeoutError is one
            raise DconnectError(f"The agent's name server does not answer at {where}; see `dconnect logs`.") from error


class _OfEngine:
    suffixes: tuple[str, ...] = DEFAULT_SUFFIXES
    pause = 3.0  # each container is inspected again

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def one(self, name: str) -> tuple[int, dict[str, Any]]:
        zone, _ = await self._zone()
        return listing.one(zone, name, reach="")

    async def everything(self) -> dict[str, Any]:
        return listing.everything(*await self._zone(), stale=False)

    async def ask(self, query: bytes) -> bytes:
        resolver = Resolver()
        zone, _ = await self._zone()
        resolver.publish(zone)
        answer = resolver.respond(query, stream=True)
        assert isinstance(answer, bytes)  # it does not forward, and queries of our own are queries
        return answer

    async def _zone(self) -> tuple[Zone, Inventory]:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def inspect(container_id: str) -> dict[str, Any] | None:
            async with slots:
                return await self._engine.inspect(container_id)

        listed = await self._engine.containers()
        found = await asyncio.gather(*(inspect(str(each["Id"])) for each in listed))
        inventory = model.inventory(
            (model.container(each) for each in found if each is not None),
            [model.network(each) for each in await self._engine.networks()],
        )
        return build(inventory, self.suffixes, []), inventory
