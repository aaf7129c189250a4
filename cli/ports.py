"""Published ports: what was asked for, what to try next, and reading an engine's refusal.

Whether a port is free is known only where it is published, which may be another machine or
a VM. So nothing is probed: the engine is asked to start the agent, and its refusal says
which port was taken.
"""

from __future__ import annotations

import re
from typing import Literal

MAX_TRIES = 32
"""Ports tried above a default before giving up: that many neighbours mean something else is wrong."""

# "Bind for 127.0.0.1:1080 failed: port is already allocated" (dockerd, a container has it)
# "listen tcp4 127.0.0.1:1080: bind: address already in use" (docker-proxy, a process has it)
# "failed to bind host port for 127.0.0.1:1080:172.17.0.2:1080/tcp: address already in use" (28 and later)
# "ports are not available: exposing port TCP 127.0.0.1:1080 -> 127.0.0.1:0: …" (Docker Desktop)
_TAKEN = (
    "port is already allocated",
    "address already in use",
    "ports are not available",
    "forbidden by its access permissions",  # Windows, for a reserved range
)


def candidates(asked: int | None, remembered: int | None, default: int) -> list[int]:
    """The ports to try, in order: only the one asked for, else the remembered one and the default's neighbours."""
    if asked is not None:
        return [asked]
    neighbours = list(range(default, default + MAX_TRIES))
    return neighbours if remembered is None else [remembered, *(port for port in neighbours if port != remembered)]


def taken(reason: str, front: int, dns: int) -> Literal["front", "dns"] | None:
    """Which of our ports the engine found taken; None if it refused for another reason."""
    if not any(words in reason.lower() for words in _TAKEN):  # Docker Desktop begins with a capital
        return None
    # The first address:port is the host's; later ones are the container's. Protocol tells when the numbers do not.
    for match in re.finditer(r"[\d.\]*]:(\d{1,5})\b", reason):
        if int(match.group(1)) == dns:
            return "dns"
        if int(match.group(1)) == front:
            return "front"
    return "front"
