"""What the command line remembers between calls: the ports last used on each engine.

One JSON object ``{engine id: {"port": …, "dns_port": …}}`` in the user's state directory, so
that browser settings stay right after ``down`` and ``up``. It is a convenience: a file that
cannot be read or written is as good as none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
    """The file on this machine."""
    return directory(os.environ, Path.home(), sys.platform) / "ports.json"


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
    entries = _load(file)
    entries.pop(engine_id, None)
    entries[engine_id] = {"port": ports.front, "dns_port": ports.dns}
    kept = dict(list(entries.items())[-MAX_ENGINES:])
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        draft.replace(file)


def _load(file: Path) -> dict[str, dict[str, int]]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
