"""What the command line remembers between calls: the ports last used on each engine, and the agents.

Two JSON objects in the user's state directory. ``ports.json``, ``{engine id: {"port": …, "dns_port": …}}``, keeps
browser settings right after ``down`` and ``up``. ``agents.json``, ``{engine's URL: configuration}``, leads to an agent
that outlives its engine, which could otherwise not be asked for it. Both are a convenience: a file that cannot be read
or written is as good as none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dconnect.core.config import AgentConfig
from dconnect.core.errors import UsageError

MAX_ENGINES = 64
"""Bound of the file; the engine used longest ago goes first."""
_VALID = range(1, 65536)


@dataclass(frozen=True, slots=True)
class Ports:
    """The two published ports."""

    front: int
    dns: int


def directory(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    """Where the state lives: the platform's own place for it."""
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "dconnect"
    if platform == "darwin":
        return home / "Library" / "Application Support" / "dconnect"
    return Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "dconnect"


def default_file() -> Path:
    """The file of ports on this machine."""
    return directory(os.environ, Path.home(), sys.platform) / "ports.json"


def agents_file() -> Path:
    """The file of agents on this machine."""
    return default_file().with_name("agents.json")


def recall(file: Path, engine_id: str) -> Ports | None:
    """The ports last used on an engine, if any."""
    try:
        entry = _load(file)[engine_id]
        front, dns = entry["port"], entry["dns_port"]
    except (KeyError, TypeError):
        return None
    # People edit files: a port that is none would be refused later as if it had been asked for.
    return Ports(front, dns) if all(port in _VALID for port in (front, dns)) else None


def remember(file: Path, engine_id: str, ports: Ports) -> None:
    """Note the ports in use, the newest entry last."""
    _store(file, engine_id, {"port": ports.front, "dns_port": ports.dns})


def recall_agent(file: Path, url: str) -> AgentConfig | None:
    """The configuration of the agent last seen on an engine, if any."""
    text = _load(file).get(url)
    try:
        return AgentConfig.from_json(text) if isinstance(text, str) else None
    except UsageError:
        return None


def remember_agent(file: Path, url: str, config: AgentConfig) -> None:
    """Note an agent that runs."""
    text = config.to_json()
    if _load(file).get(url) != text:
        _store(file, url, text)


def _store(file: Path, key: str, entry: object) -> None:
    entries = _load(file)
    entries.pop(key, None)
    entries[key] = entry
    kept = dict(list(entries.items())[-MAX_ENGINES:])
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.unlink(missing_ok=True)
        # For this user alone: a configuration holds the proof of a password.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(kept, opened, indent=1)
        draft.replace(file)


def _load(file: Path) -> dict[str, Any]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
