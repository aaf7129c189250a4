"""Destination names for the front door: the zone first, then, for other domains, the engine's resolver."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from dconnect.core.address import IPAddress, parse_ip
from dconnect.core.config import Egress
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure
from dconnect.core.limits import LOOKUPS_IN_FLIGHT, NAME_SECONDS
from dconnect.dns import Agent, Found, NoAddress, NotOurs, Stopped, Unknown, Zone
from dconnect.proxy.dial import OwnService

_GONE = {"exited": "has stopped", "created": "was never started", "dead": "is dead"}


class Names:
    """``dconnect.proxy.dial.Resolve`` over the zone in force."""

    def __init__(self, zone: Callable[[], Zone | None], egress: Egress) -> None:
        self._zone = zone
        self._egress = egress
        self._lookups = asyncio.Semaphore(LOOKUPS_IN_FLIGHT)

    async def __call__(self, host: str) -> Sequence[IPAddress] | OwnService:
        zone = self._zone()
        if zone is None:
            raise DialError(
                Failure.NOT_READY, "The agent is starting and has not heard from the engine yet; try again."
            )
        match zone.resolve(host):
            case Found(addresses=addresses):
                return addresses
            case Agent():
                return OwnService()
            case Stopped(container=name, state=state):
                what = _GONE.get(state, f"is {state}")
                raise DialError(Failure.STOPPED, f"The container {name} {what}; start it with: docker start {name}")
            case NoAddress(container=name):
                raise DialError(
                    Failure.HOST_UNREACHABLE,
                    f"The container {name} has no address of its own (network mode host, none or another container's).",
                )
            case Unknown(candidates=candidates):
                hint = f"it may be one of {', '.join(candidates)}" if candidates else "dconnect dns lists all names"
                raise DialError(Failure.NAME_UNKNOWN, f"No container is called {host}; {hint}.")
            case NotOurs():
                return await self._elsewhere(host)

    async def _elsewhere(self, host: str) -> Sequence[IPAddress]:
        if self._egress == "deny":
            raise DialError(Failure.POLICY, f"{host} is no container, and other destinations are off (--egress deny).")
        loop = asyncio.get_running_loop()
        try:
            async with self._lookups, asyncio.timeout(NAME_SECONDS):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
            if isinstance(error, TimeoutError) or error.args[0] == socket.EAI_AGAIN:
                raise DialError(Failure.TIMEOUT, f"The engine's resolver did not answer for {host}.") from None
            raise DialError(Failure.NAME_UNKNOWN, f"{host} is no container's name and no other host's.") from None
        addresses = [address for item in found if (address := parse_ip(str(item[4][0]))) is not None]
        if not addresses:
            raise DialError(Failure.NAME_UNKNOWN, f"{host} has no address.")
        return list(dict.fromkeys(addresses))
