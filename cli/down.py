"""``dconnect down``: remove what is ours, so that the engine is as it was."""

from __future__ import annotations

from dconnect.agent import image
from dconnect.agent.docker.engine import Engine
from dconnect.agent.labels import AGENT_NAME, DIALER_NAME, LABEL_CONFIG, LABEL_ROLE, ROLE_AGENT, ROLE_DIALER
from dconnect.cli import client, install
from dconnect.cli.container import STOP_TIMEOUT_S
from dconnect.cli.host.environment import RealEnvironment
from dconnect.cli.output import say
from dconnect.core.address import Target
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError


async def down(engine: Engine, *, images: bool) -> None:
    """Stop and remove agent, dialer, volume and remains of builds, and with ``images`` our images too."""
    server = await _name_server(engine)
    removed = await clear(engine)
    swept = await image.sweep(engine)
    tags = await image.remove(engine) if images else []
    if removed:
        say(f"dconnect is down on {engine.name}.")
    else:
        say(f"dconnect was not running on {engine.name}.")
    if swept:
        say("Removed what a build had left behind.")
    for tag in tags:
        say(f"Removed the image {tag}.")
    if server is not None:
        install.after_down(RealEnvironment(), server)


async def _name_server(engine: Engine) -> Target | None:
    """Where the agent's name server was reached, which this host's resolver may have been told."""
    try:
        container = await client.find(engine)
        if container is None:
            return None
        return install.server_of(AgentConfig.from_json(client.label(container, LABEL_CONFIG)))
    except DconnectError:  # a stranger's container, or a configuration of another version
        return None


async def clear(engine: Engine, patience_s: int = STOP_TIMEOUT_S) -> bool:
    """Remove our containers and volume; True if there was a container.

    The agent goes first, in peace: it closes its connections, and nobody restarts the dialer.
    ``patience_s`` is how long it may take before it is killed.
    """
    found = False
    for role, name in ((ROLE_AGENT, AGENT_NAME), (ROLE_DIALER, DIALER_NAME)):
        for container in await engine.containers(label=f"{LABEL_ROLE}={role}"):
            if f"/{name}" not in (container.get("Names") or ()):
                continue  # a stranger's: images can carry labels
            found = True
            if container.get("State") == "running":
                await engine.stop(container["Id"], patience_s)
            await engine.remove(container["Id"])
    for volume in await engine.volumes(label=f"{LABEL_ROLE}={ROLE_AGENT}"):
        await engine.remove_volume(volume)
    return found
