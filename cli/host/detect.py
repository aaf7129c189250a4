"""Who serves names on this host, found from its files and programs alone.

Only what programs' lookups really reach counts: ``/etc/resolv.conf``, or nsswitch.conf, must lead to a manager.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dconnect.cli.host.environment import Environment
from dconnect.core.errors import DconnectError

RESOLV_CONF = "/etc/resolv.conf"
ADDRESS = "127.0.0.153"
"""Nobody's loopback address: for what must stand on port 53, and for our link."""
_NSSWITCH = "/etc/nsswitch.conf"
_NM = "/etc/NetworkManager"
_NM_FOLDERS = ("/usr/lib/NetworkManager/conf.d", "/run/NetworkManager/conf.d", f"{_NM}/conf.d")
_STUBS = {"127.0.0.53", "127.0.0.54"}
"""systemd-resolved's own addresses (systemd-resolved.service(8))."""
_PORTS_SINCE = 246
"""The first systemd-resolved that takes ``address:port``."""


class Manager(enum.Enum):
    """Who serves names; the value is what people know it by."""

    MACOS = "macOS /etc/resolver"
    RESOLVED = "systemd-resolved"
    OLD_RESOLVED = "systemd-resolved before 246"
    NETWORK_MANAGER = "NetworkManager's dnsmasq"
    RESOLV_CONF = "/etc/resolv.conf"


ADDRESS = "127.0.0.153"
"""Nobody's loopback address: for what must stand on port 53, and for our link."""


@dataclass(frozen=True, slots=True)
class Found:
    """The manager, and why we think so."""

    manager: Manager
    clues: tuple[str, ...]
    """Sentences."""


def detect(env: Environment) -> Found:
    """Find the manager.

    Raises: DconnectError on a system whose resolver we do not know yet.
    """
    if env.platform == "darwin":
        return Found(Manager.MACOS, ("macOS asks the servers in /etc/resolver/<domain> for a domain.",))
    if env.platform != "linux":
        raise DconnectError(f"The resolver of {env.platform} cannot be changed yet; point it at the DNS port yourself.")
    clues: list[str] = []
    servers = _servers(env, clues)
    manager = _resolved(env, servers, clues) or _network_manager(env, servers, clues)
    if manager is None:
        clues.append(f"No manager that knows one domain from another is there, so {RESOLV_CONF} it is.")
    return Found(manager or Manager.RESOLV_CONF, tuple(clues))


def _servers(env: Environment, clues: list[str]) -> list[str]:
    """The name servers that libc asks."""
    path = env.leads_to(RESOLV_CONF)
    data = env.read(RESOLV_CONF)
    if data is None:
        clues.append(f"{RESOLV_CONF} cannot be read.")
        return []
    servers = [each for each in name_servers(data.decode(errors="replace")) if each != ADDRESS]  # ours is no clue
    names = ", ".join(servers) or "no name server"
    clues.append(f"{RESOLV_CONF} names {names}." if path == RESOLV_CONF else f"{RESOLV_CONF} leads to {path}: {names}.")
    return servers


def name_servers(text: str) -> list[str]:
    """The addresses in a resolv.conf(5)."""
    return re.findall(r"^nameserver[ \t]+([^\s;#]+)", text, re.MULTILINE)


def _resolved(env: Environment, servers: list[str], clues: list[str]) -> Manager | None:
    stub = bool(servers) and set(servers) <= _STUBS
    if stub:
        clues.append("That is systemd-resolved.")
    if _switched(env):
        clues.append(f"{_NSSWITCH} has libc ask systemd-resolved.")
    elif not stub:
        return None
    told = env.run(("resolvectl", "--version"))
    version = re.match(r"systemd (\d+)", told.output)
    if told.code or version is None:
        clues.append("resolvectl, which changes it, is not there.")
        return None
    clues.append(f"resolvectl tells systemd {version[1]}.")
    if env.run(("resolvectl", "dns")).code:
        clues.append("systemd-resolved does not answer resolvectl.")
        return None
    if int(version[1]) >= _PORTS_SINCE:
        return Manager.RESOLVED
    clues.append(f"It takes servers on port 53 only; {_PORTS_SINCE} and later take any.")
    return Manager.OLD_RESOLVED


def _switched(env: Environment) -> bool:
    """Whether libc asks systemd-resolved before it asks DNS itself (nss-resolve(8))."""
    found = re.search(r"^hosts:(.*)$", (env.read(_NSSWITCH) or b"").decode(errors="replace"), re.MULTILINE)
    words = found[1].split() if found else []
    return "resolve" in words and "dns" not in words[: words.index("resolve")]


def _network_manager(env: Environment, servers: list[str], clues: list[str]) -> Manager | None:
    chosen = [(path, value) for path in _configurations(env) for value in _dns_setting(env, path)]
    if not chosen or chosen[-1][1] != "dnsmasq":
        return None
    clues.append(f"{chosen[-1][0]} has dns=dnsmasq.")
    state = env.run(("nmcli", "-t", "-f", "RUNNING", "general"))
    if state.code or state.output != "running":
        clues.append("NetworkManager does not run.")
        return None
    if not servers or not servers[0].startswith("127."):
        clues.append(f"{RESOLV_CONF} does not lead to NetworkManager's dnsmasq.")
        return None
    clues.append("NetworkManager runs.")
    return Manager.NETWORK_MANAGER


def _configurations(env: Environment) -> Iterator[str]:
    """NetworkManager's files, the last that says something counts (NetworkManager.conf(5)).

    The folders' files go by their names, and one takes the place of its namesake in an earlier folder.
    """
    yield f"{_NM}/NetworkManager.conf"
    files = {
        name: f"{folder}/{name}" for folder in _NM_FOLDERS for name in env.listed(folder) if name.endswith(".conf")
    }
    yield from (files[name] for name in sorted(files))


def _dns_setting(env: Environment, path: str) -> list[str]:
    text = (env.read(path) or b"").decode(errors="replace")
    main = re.search(r"^\[main\]\s*$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^dns\s*=\s*(\S+)\s*$", main[1], re.MULTILINE)[-1:] if main else []
