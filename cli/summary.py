"""What ``up`` prints: what there is now, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dconnect.agent.image import version
from dconnect.cli import client, passwords
from dconnect.cli.engines import Choice
from dconnect.cli.output import complain, say, say_json
from dconnect.cli.up import Result
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError

_WEB_PORTS = ("80/tcp", "8080/tcp", "8000/tcp", "3000/tcp", "5000/tcp")
"""Exposed ports that mean a web server, likeliest first; a curl line for them works as it stands."""


def as_json(choice: Choice, result: Result, config: AgentConfig) -> None:
    """For programs."""
    entry = passwords.find(config)
    door = f"{config.reach}:{config.port}"
    say_json(
        {
            "result": result,
            "version": version(),
            "engine": {"name": choice.name, "url": choice.url},
            "bind": config.bind,
            "port": config.port,
            "dns_port": config.dns_port,
            "suffixes": list(config.suffixes),
            "egress": config.egress,
            "allow": list(config.allow),
            "deny": list(config.deny),
            "dns_forward": config.dns_forward,
            "socks5": f"socks5h://{door}",
            "http": f"http://{door}",
            "pac": f"http://{door}/proxy.pac",
            "dns": f"{config.reach}:{config.dns_port}",
            "user": entry.user if entry is not None else None,
            "password": entry.password if entry is not None else None,
        }
    )


async def as_text(choice: Choice, result: Result, config: AgentConfig) -> None:
    """For a person."""
    door = f"{config.reach}:{config.port}"
    how = {"started": "is up", "replaced": "was replaced and is up", "already running": "is already running"}[result]
    say(f"dconnect {version()} {how} on {choice}.")
    await _warn(config)
    say()
    say(f"  SOCKS5 and HTTP proxy   {door}   (in a browser: PAC URL http://{door}/proxy.pac)")
    say(f"  DNS                     {config.reach}:{config.dns_port}   (UDP and TCP)")
    entry = passwords.find(config)
    if entry is not None:
        which = f"password {entry.password}" if entry.generated else "with the password that you gave"
        say(f"  user                    {entry.user}, {which}   (both kept in {passwords.default_file()})")
    say()
    say("Next:")
    say('  eval "$(dconnect env)"      proxy settings for this shell')
    say("  dconnect dns                every name")
    target = await _example(config)
    if target and entry is not None:
        say(f"  curl {target}      in that shell, which then knows the password")
    elif target:
        say(f"  curl --proxy socks5h://{door} {target}")
    else:
        say(f"  curl --proxy socks5h://{door} http://NAME.{config.suffixes[0]}/      once a container runs")


async def _warn(config: AgentConfig) -> None:
    """Say it at once when the agent runs and yet cannot reach containers on this engine."""
    try:
        _, body = await client.get(config, "/api/v1/status")
    except DconnectError:
        return
    strategy = body.get("strategy") or {}
    if strategy.get("name") == "unavailable":
        complain(f"dconnect: warning: containers cannot be reached on this engine. {strategy.get('detail', '')}")


async def _example(config: AgentConfig) -> str:
    try:
        _, body = await client.get(config, "/api/v1/names")
    except DconnectError:
        return ""  # the example is a courtesy
    return example(body.get("containers") or (), config.suffixes[0])


def example(containers: Iterable[Mapping[str, Any]], suffix: str) -> str:
    """A URL of a running container, one with a web port if there is one; empty if none runs."""
    best: tuple[int, str] | None = None
    for container in containers:
        if container.get("state") != "running" or not container.get("endpoints"):
            continue
        ports = [port for port in container.get("ports") or () if port.endswith("/tcp")]
        web = [port for port in _WEB_PORTS if port in ports]
        rank = _WEB_PORTS.index(web[0]) if web else len(_WEB_PORTS)
        port = (web or ports or ["80/tcp"])[0].removesuffix("/tcp")
        url = f"http://{container['name']}.{suffix}{'' if port == '80' else ':' + port}/"
        best = min(best or (rank, url), (rank, url))
    return best[1] if best else ""
