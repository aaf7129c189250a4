"""``dconnect up``: from nothing, or from anything, to an agent that answers.

    ask the engine who it is ─► wait for any other `up` ─► same agent already answers? ─► yes: say so
          │ no
    build the image (unless there) ─► remove the old agent ─► create and start the new one
                                            (next port, next socket path, on the engine's refusal)
          │
    wait until it answers from here ─► remember the ports ─► say what to do next

Failure or Ctrl-C at any step removes what this call created, and the error says so. The old
agent has the ports that the new one may want, so it must go first; it is given up only once the
image of the new one exists, and when the new one does not come up, it is created anew from its
own label and image.
"""

from __future__ import annotations

import asyncio
import dataclasses
import platform
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dconnect.agent import image
from dconnect.agent.docker.engine import Engine, EngineInfo, EngineRefused
from dconnect.agent.labels import AGENT_NAME, DOCKER_SOCKET, LABEL_CONFIG, LABEL_VERSION
from dconnect.cli import client, container, handshake, lock, passwords, state
from dconnect.cli.down import clear
from dconnect.cli.output import Progress
from dconnect.cli.ports import candidates, taken
from dconnect.core.config import DNS_PORT, FRONT_DOOR_PORT, AgentConfig
from dconnect.core.credentials import Credentials
from dconnect.core.errors import DconnectError, Interrupted

Result = Literal["started", "replaced", "already running"]

GIVE_UP_S = 2
"""For an agent that nobody uses yet; one that has not come to its signal handlers would outwait Docker's ten."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What ``up`` was asked for."""

    config: AgentConfig
    """Its ports count only where the next two fields are None."""
    port: int | None
    dns_port: int | None
    base_image: str = image.DEFAULT_BASE
    wheels: Path | None = None
    docker_socket: str | None = None
    auth: bool = False
    """Whether a password is wanted at the front door."""
    credentials: Credentials | None = None
    """What it is to be; None stands for a generated one."""
    tun: bool = False
    """Whether the transparent mode is wanted."""
    token: Credentials | None = None
    """Of its link, once it is settled."""


async def up(engine: Engine, wish: Wish, state_file: Path) -> tuple[Result, AgentConfig]:
    """Make the agent run as wished; the configuration tells the ports it got.

    Raises: DconnectError; then nothing of this call is left on the engine.
    """
    file = state_file.with_name(passwords.default_file().name)
    tokens = state_file.with_name(passwords.token_file().name)
    with Progress() as progress, ExitStack() as held:
        try:
            progress(f"asking {engine.name}")
            info = await engine.ping()
            held.enter_context(await lock.take(state_file.parent, info.engine_id, progress))
            entry = passwords.settle(file, info.engine_id, wish.credentials) if wish.auth else None
            token = passwords.settle(tokens, info.engine_id, None) if wish.tun else None
            wish = _locked(wish, entry, token)
            ground = await _prepare(engine, info, wish, progress)
        except asyncio.CancelledError:
            raise Interrupted("interrupted; nothing was changed.") from None
        if ground.same is not None:
            _settled(file, entry)
            _settled(tokens, token)
            return "already running", ground.same
        progress("starting the agent")
        try:
            await clear(engine)
            container_id, config = await _start(engine, wish, ground, state_file)
            progress(f"waiting for the agent at {config.reach}:{config.port}")
            await handshake.wait(engine, container_id, config)
        except BaseException as error:
            progress("cleaning up")
            left = await _undo(engine, ground.old)
            if isinstance(error, asyncio.CancelledError):
                raise Interrupted(f"interrupted; {left}.") from None
            if ground.old is not None:
                error.add_note(f"{left[0].upper()}{left[1:]}.")
            raise
        _settled(file, entry)
        _settled(tokens, token)
        state.remember(state_file, info.engine_id, state.Ports(config.port, config.dns_port))
        with suppress(DconnectError):  # a courtesy: the agent is up
            await image.remove_older(engine, ground.tag)
    return "replaced" if ground.occupied else "started", config


def _locked(wish: Wish, entry: passwords.Entry | None, token: passwords.Entry | None) -> Wish:
    """The wish with the password and the token that were settled, and what the agent keeps of them."""
    if entry is not None:
        config = dataclasses.replace(wish.config, auth=passwords.lock("", entry.credentials))
        wish = dataclasses.replace(wish, config=config, credentials=entry.credentials)
    if token is not None:
        config = dataclasses.replace(wish.config, tun=passwords.lock("", token.credentials))
        wish = dataclasses.replace(wish, config=config, token=token.credentials)
    return wish


def _settled(file: Path, entry: passwords.Entry | None) -> None:
    """The agent is up: the passwords that it does not take are of no more use."""
    if entry is not None:
        passwords.forget_others(file, entry)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What ``up`` finds, and the image it builds there; no agent is touched up to here."""

    info: EngineInfo
    tag: str
    occupied: bool
    """Whether there is an agent."""
    same: AgentConfig | None = None
    """That agent's configuration, if it is all that was wished and answers."""
    old: dict[str, Any] | None = None
    """The body that creates that agent anew, if it runs."""


async def _prepare(engine: Engine, info: EngineInfo, wish: Wish, progress: Progress) -> _Ground:
    if info.os and info.os != "linux":
        raise DconnectError(f"The engine {engine.name} runs {info.os} containers; dconnect needs Linux containers.")
    recipe = image.recipe(wish.base_image, wish.wheels)
    old = await client.find(engine)
    same = _same(old, wish, recipe.tag) if old is not None else None
    if old is not None and same is not None and await handshake.healthy(str(old["Id"]), same):
        return _Ground(info, recipe.tag, occupied=True, same=same)
    await image.ensure(engine, recipe, progress)
    return _Ground(info, recipe.tag, occupied=old is not None, old=_again(old) if old is not None else None)


async def _undo(engine: Engine, old: dict[str, Any] | None) -> str:
    """Remove what was begun and start the old agent again; what there is now, in words."""
    try:
        await clear(engine, GIVE_UP_S)
    except DconnectError as error:
        return f"cleaning up failed, and `dconnect down` removes what is left: {error}"
    if old is None:
        return "what was begun is removed, and no agent runs"
    try:
        await _create_and_start(engine, old)
    except DconnectError as error:
        with suppress(DconnectError):
            await clear(engine, GIVE_UP_S)
        return f"what was begun is removed, but the agent that ran before could not be started again: {error}"
    return "what was begun is removed, and the agent that ran before runs again"


def _again(old: dict[str, Any]) -> dict[str, Any] | None:
    """The body that creates a running agent once more; None where that cannot be told."""
    try:
        config = AgentConfig.from_json(client.label(old, LABEL_CONFIG))
    except DconnectError:
        return None
    tag, version, sockets = old["Config"]["Image"], client.label(old, LABEL_VERSION), _sockets(old)
    if not old["State"].get("Running") or not sockets:
        return None
    return container.body(config, image=tag, version=version, docker_socket=sockets[0])


def _sockets(old: dict[str, Any]) -> list[str]:
    """Where on the engine's machine an agent's socket is: one path."""
    return [mount["Source"] for mount in old.get("Mounts") or () if mount.get("Destination") == DOCKER_SOCKET]


def _same(old: dict[str, Any], wish: Wish, tag: str) -> AgentConfig | None:
    """The old agent's configuration, if it runs and is all that was wished."""
    try:
        has = AgentConfig.from_json(client.label(old, LABEL_CONFIG))
    except DconnectError:
        return None
    wanted = dataclasses.replace(wish.config, port=wish.port or has.port, dns_port=wish.dns_port or has.dns_port)
    if wish.credentials is not None and has.auth == passwords.lock(has.auth, wish.credentials):
        wanted = dataclasses.replace(wanted, auth=has.auth)  # the same password under another salt
    if wish.token is not None and has.tun == passwords.lock(has.tun, wish.token):
        wanted = dataclasses.replace(wanted, tun=has.tun)
    if not old["State"].get("Running") or old["Config"].get("Image") != tag or has != wanted:
        return None
    return has if wish.docker_socket in (None, *_sockets(old)) else None


async def _start(engine: Engine, wish: Wish, ground: _Ground, state_file: Path) -> tuple[str, AgentConfig]:
    """Create and start the agent on the first ports and with the first socket path that the engine accepts."""
    known = state.recall(state_file, ground.info.engine_id)
    fronts = candidates(wish.port, known.front if known else None, FRONT_DOOR_PORT)
    dnses = candidates(wish.dns_port, known.dns if known else None, DNS_PORT)
    paths = [wish.docker_socket] if wish.docker_socket else list(_socket_paths(engine.url, ground.info))
    tried = paths.copy()
    while True:
        config = dataclasses.replace(wish.config, port=fronts[0], dns_port=dnses[0])
        body = container.body(config, image=ground.tag, version=image.version(), docker_socket=paths[0])
        try:
            return await _create_and_start(engine, body), config
        except EngineRefused as error:
            await clear(engine)
            which = taken(error.reason, config.port, config.dns_port)
            if which == "front":
                _next(fronts, wish, "--port")
            elif which == "dns":
                _next(dnses, wish, "--dns-port")
            elif config.tun and container.TUN_DEVICE in error.reason:
                raise DconnectError(
                    f"The engine {engine.name} has no {container.TUN_DEVICE}, which --tun needs; load the kernel "
                    "module tun on its machine, or leave --tun away."
                ) from error
            elif config.tun and "disable_ipv6" in error.reason:
                raise DconnectError(
                    f"The kernel of the engine {engine.name} was started without IPv6 (ipv6.disable=1), which --tun "
                    "needs; leave that away, or --tun."
                ) from error
            elif paths[0] in error.reason and any(words in error.reason for words in ("not exist", "no such file")):
                del paths[0]
                if not paths:
                    raise DconnectError(
                        f"The engine {engine.name} has no Docker socket at {' or '.join(tried)} on its own machine; "
                        "name it with --docker-socket."
                    ) from error
            else:
                raise


def _next(ports: list[int], wish: Wish, option: str) -> None:
    """Go on to the next port, or say that there is none."""
    port = ports.pop(0)
    if not ports:
        raise DconnectError(f"Port {port} on {wish.config.bind} is taken; choose another with {option}.")


async def _create_and_start(engine: Engine, body: dict[str, Any]) -> str:
    """Create, then start; when cancelled, only once that is done, so that all of it can be removed."""

    async def both() -> str:
        container_id = await engine.create(AGENT_NAME, body)
        await engine.start(container_id)
        return container_id

    making = asyncio.ensure_future(both())
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await asyncio.gather(making, return_exceptions=True)
        raise


def _socket_paths(url: str, info: EngineInfo) -> Iterator[str]:
    """Where the engine's socket may be on the engine's own machine, most certain first.

    On our own kernel the path we use is right by definition, and /var/run/docker.sock may be another engine's.
    Otherwise it is inside a VM, where ours (~/.colima/…) means nothing.
    """
    own = url.removeprefix("unix://")
    if url.startswith("unix://") and (info.hostname, info.kernel) == (socket.gethostname(), platform.release()):
        yield str(Path(own).resolve())
        if own == DOCKER_SOCKET:
            return
    yield DOCKER_SOCKET
