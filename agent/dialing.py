"""The dialer's container: control keeps it running and proves that its sockets reach containers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Any

import structlog

from dconnect.agent import labels
from dconnect.agent.docker.engine import Engine
from dconnect.agent.ownnet import OwnNetwork
from dconnect.agent.sockets import DialerSockets
from dconnect.core.address import parse_ip
from dconnect.core.backoff import backoff
from dconnect.core.errors import DconnectError, DialError

_TEST_SECONDS = 3.0
_RETEST_SECONDS = 5.0
"""Longest pause between tests of a dialer that failed them: what was wrong may pass."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Strategy:
    """How this engine's containers are reached."""

    name: str
    """One of STRATEGIES."""
    detail: str


STRATEGIES = ("engine-netns", "embedded", "testing", "unavailable")
DIALER_STATES = ("absent", "starting", "running", "not needed")

TESTING = Strategy("testing", "The dialer has not been heard of yet.")
EMBEDDED = Strategy("embedded", "The agent runs on a machine that reaches containers itself; no dialer is needed.")


class Dialing:
    """Owns the dialer container: creates, starts and replaces it; nobody else does."""

    def __init__(self, engine: Engine, sockets: DialerSockets, own: OwnNetwork) -> None:
        self._engine = engine
        self._sockets = sockets
        self._own = own
        self.strategy = TESTING
        self.state = "absent"
        """One of DIALER_STATES, for ``status``."""

    async def keep(self) -> None:
        """Keep the dialer running for ever; a lost link is the first sign of its death."""
        attempt = 0
        while True:
            if self._sockets.connected:
                attempt = 0
                self.state = "running"
                await self._prove()
                await self._sockets.wait_lost()
                log.warning("the dialer is gone and is restarted")
                continue
            try:
                await self._ensure()
            except DconnectError as error:
                self._choose(Strategy("unavailable", f"The dialer cannot be started: {error}"))
            await self._sockets.wait_connected(backoff(attempt))
            attempt += 1

    async def _prove(self) -> None:
        """Test until the dialer's sockets reach containers, or it is gone."""
        attempt = 0
        while self.strategy.name != "engine-netns" and self._sockets.connected:
            self._choose(await self_test(self._sockets, self._own))
            if self.strategy.name != "engine-netns":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._sockets.wait_lost(), backoff(attempt, most=_RETEST_SECONDS))
                attempt += 1

    def _choose(self, strategy: Strategy) -> None:
        if strategy != self.strategy:
            self.strategy = strategy
            log.info("strategy chosen", strategy=strategy.name, detail=strategy.detail)

    async def _ensure(self) -> None:
        """One step towards a running dialer of our own image."""
        own = await self._engine.inspect(socket.gethostname()) or await self._engine.inspect(labels.AGENT_NAME)
        if own is None:
            raise DconnectError("the agent does not find its own container on this engine.")
        existing = await self._engine.inspect(labels.DIALER_NAME)
        if existing is not None and _label(existing, labels.LABEL_ROLE) != labels.ROLE_DIALER:
            raise DconnectError(
                f"a container called {labels.DIALER_NAME} is there already and is not dconnect's; "
                f"rename it with: docker rename {labels.DIALER_NAME} another-name"
            )
        if existing is not None and existing.get("Image") != own.get("Image"):
            await self._engine.remove(existing["Id"])
            existing = None
        if existing is None:
            self.state = "starting"
            container = await self._engine.create(labels.DIALER_NAME, dialer_config(own))
            await self._engine.start(container)
        elif not (existing.get("State") or {}).get("Running"):
            self.state = "starting"
            await self._engine.start(existing["Id"])


def _label(container: dict[str, Any], name: str) -> str:
    return str(((container.get("Config") or {}).get("Labels") or {}).get(name, ""))


def dialer_config(own: dict[str, Any]) -> dict[str, Any]:
    """The body of ``/containers/create``, made from the inspection of the agent's own container."""
    volume = next(
        (mount["Name"] for mount in own.get("Mounts") or () if mount.get("Destination") == labels.RUN_DIR),
        labels.VOLUME_NAME,
    )
    return {
        "Image": own["Image"],
        "Entrypoint": ["python3", "-m", "dconnect.agent.dialer", labels.RUN_DIR],
        "Cmd": [],
        "User": "0:0",
        "Labels": {
            labels.LABEL_ROLE: labels.ROLE_DIALER,
            labels.LABEL_VERSION: _label(own, labels.LABEL_VERSION),
        },
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "host",
            "UsernsMode": "host",  # with userns-remap, the host's network is not for remapped users
            "CapDrop": ["ALL"],
            "CapAdd": ["NET_RAW"],  # ping
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges", "label=disable"],
            "Mounts": [{"Type": "volume", "Source": volume, "Target": labels.RUN_DIR}],
            "Ulimits": (own.get("HostConfig") or {}).get("Ulimits") or [],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
            # No memory limit: a socket's buffers are charged to the cgroup of its creator.
        },
    }


async def self_test(sockets: DialerSockets, own: OwnNetwork) -> Strategy:
    """Dial ourselves through the dialer, as it would dial any container on our bridge.

    Only from the namespace that owns the bridge does such a connection arrive with the gateway as
    its source.
    """
    address = next((candidate for candidate in own.addresses if candidate.version == 4), None)
    if address is None:
        return Strategy("unavailable", "The agent has no IPv4 address on its own network to test with.")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_TEST_SECONDS):
            with contextlib.ExitStack() as stack:
                listener = stack.enter_context(socket.create_server((str(address), 0)))
                listener.setblocking(False)
                outgoing = stack.enter_context(await sockets.stream(address))
                await loop.sock_connect(outgoing, listener.getsockname())
                accepted, (peer, _) = await loop.sock_accept(listener)
                accepted.close()
    except (OSError, TimeoutError, DialError) as error:
        why = str(error) or "timeout"
        return Strategy(
            "unavailable",
            f"Sockets of the engine's network namespace do not reach the agent's own bridge ({why}); "
            "this engine keeps containers out of its host network (rootless Podman, for example), "
            "which dconnect does not support yet.",
        )
    if parse_ip(peer) not in own.gateways:
        return Strategy("unavailable", f"The dialer is not in the engine's network namespace: it appears as {peer}.")
    return Strategy("engine-netns", "Sockets of the engine's network namespace reach its bridges.")
