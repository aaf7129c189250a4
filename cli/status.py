"""``dconnect status``: what runs, and how well."""

from __future__ import annotations

from typing import Any

from dconnect.agent.docker.engine import Engine
from dconnect.cli import client, passwords
from dconnect.cli.engines import Choice
from dconnect.cli.output import say, say_json
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError


async def status(engine: Engine, choice: Choice, *, as_json: bool) -> None:
    """Print the agent's own account of itself.

    Raises: NotRunning.
    """
    config = await client.running(engine)
    code, body = await client.get(config, "/api/v1/status")
    if code != 200:
        raise DconnectError(f"The agent cannot tell its status (HTTP {code}); see `dconnect logs`.")
    if as_json:
        door = {"host": choice.name, "url": choice.url, "bind": config.bind, "port": config.port}
        say_json(body | {"endpoint": door | {"dns_port": config.dns_port}})
        return
    for name, text in _rows(body, choice, config):
        say(f"{name:<11} {text}")


def _rows(body: dict[str, Any], choice: Choice, config: AgentConfig) -> list[tuple[str, str]]:
    engine, strategy, inventory = body["engine"], body["strategy"], body["inventory"]
    detail = f": {strategy['detail']}" if strategy.get("detail") else ""
    rows = [
        ("agent", f"{body['version']} on {choice}"),
        ("engine", _engine(engine)),
        ("front door", f"{config.reach}:{config.port} (SOCKS5, HTTP proxy)"),
        *_password(config),
        ("DNS", f"{config.reach}:{config.dns_port} for {', '.join(body['suffixes'])}{_forward(config)}"),
        ("egress", _egress(body)),
        ("strategy", f"{strategy['name']}{detail}"),
        ("dialer", str(body["dialer"]["state"])),
        ("inventory", f"{inventory['containers']} containers on {inventory['networks']} networks{_age(inventory)}"),
    ]
    rows.append(("connections", f"{sum(worker['open'] for worker in body['workers'])} open"))
    if (tunnel := body.get("tunnel")) is not None:
        rows.append(("tunnel", _tunnel(tunnel)))
    for worker in body["workers"]:
        counts = f"{worker['open']} open, {worker['accepted']} accepted, {worker['failed']} failed"
        rows.append(("worker", f"pid {worker['pid']}: {counts}"))
    return rows


def _tunnel(tunnel: dict[str, Any]) -> str:
    if not tunnel["ready"]:
        return "NOT READY: the agent's gateway is not there; see `dconnect logs`"
    dropped = sum(tunnel["dropped"].values())
    return f"{tunnel['links']} links, addresses from {tunnel['subnet']}, {dropped} packets dropped"


def _password(config: AgentConfig) -> list[tuple[str, str]]:
    """Where a password stands, if one is wanted; never what it is, for people show others what this prints."""
    entry = passwords.find(config)
    return [("password", f"in {passwords.default_file()}, for user {entry.user}")] if entry is not None else []


def _forward(config: AgentConfig) -> str:
    servers = {"": "", "auto": "; other domains from the engine's name servers"}
    return servers.get(config.dns_forward, f"; other domains from {config.dns_forward}")


def _egress(body: dict[str, Any]) -> str:
    rules = [f"--{option} {matter}" for option in ("allow", "deny") for matter in body.get(option) or ()]
    return ", ".join((str(body["egress"]), *rules))


def _engine(engine: dict[str, Any]) -> str:
    # An agent that never reached its engine does not know the versions.
    known = f"{engine['version']}, API {engine['api_version']}, " if "version" in engine else ""
    if engine["connected"]:
        return f"{known}connected"
    return f"{known}NOT CONNECTED: {engine['error'] or 'no answer yet'}"


def _age(inventory: dict[str, Any]) -> str:
    age = inventory.get("age_s")
    confirmed = "" if age is None else f", confirmed {age:.0f} s ago"
    return f"{confirmed}; NOT UP TO DATE: names are answered as they were then" if inventory.get("stale") else confirmed
