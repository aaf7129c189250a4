"""Destination names for the front door: the zone first, then, for other domains, the engine's resolver."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Iterable, Sequence

from dconnect.core.address import IPAddress, parse_ip
from dconnect.core.config import Egress
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure
from dconnect.core.limits import LOOKUPS_IN_FLIGHT, NAME_SECONDS
from dconnect.core.rules import Rules
from dconnect.dns import Agent, Found, NoAddress, NotOurs, Stopped, Unknown, Zone
from dconnect.proxy.dial import OwnService
from dconnect.proxy.fiber import UnlessCut

_GONE = {"exited": "has stopped", "created": "was never started", "dead": "is dead"}


def system_addresses(host: str) -> Iterable[str]:
    """What the engine's resolver says; returns when libc gives up, which no deadline of ours shortens."""
    return [str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def not_informed() -> DialError:
    """Nothing can be said before the first inventory."""
    return DialError(Failure.NOT_READY, "The agent is starting and has not heard from the engine yet; try again.")


def no_addresses(host: str, nothing: Stopped | NoAddress | Unknown | NotOurs) -> DialError:
    """Why a name leads to no container."""
    match nothing:
        case Stopped(container=name, state=state):
            what = _GONE.get(state, f"is {state}")
            return DialError(Failure.STOPPED, f"The container {name} {what}; start it with: docker start {name}")
        case NoAddress(container=name):
            return DialError(
                Failure.HOST_UNREACHABLE,
                f"The container {name} has no address of its own (network mode host, none or another container's).",
            )
        case Unknown(candidates=candidates) if candidates:
            hint = f"it may be one of {', '.join(candidates)}"
        case _:
            hint = "dconnect dns lists all names"
    return DialError(Failure.NAME_UNKNOWN, f"No container is called {host}; {hint}.")


class Names:
    """``dconnect.proxy.dial.Resolve`` over the zone in force."""

    def __init__(
        self,
        zone: Callable[[], Zone | None],
        egress: Egress,
        look_up: Callable[[str], Iterable[str]] = system_addresses,
        seconds: float = NAME_SECONDS,
        rules: Rules | None = None,
    ) -> None:
        """Wire it.

        Args:
            zone: the names in force now.
            egress: whether names outside Docker are looked up.
            look_up: name → address texts; called in a thread, raises OSError or UnicodeError.
            seconds: how long a dial waits for it.
            rules: which names outside Docker are looked up all the same.
        """
        self._zone = zone
        self._egress = egress
        self._look_up = look_up
        self._seconds = seconds
        self._rules = rules or Rules()
        self._slots = asyncio.Semaphore(LOOKUPS_IN_FLIGHT)

    async def __call__(self, host: str) -> Sequence[IPAddress] | OwnService:
        zone = self._zone()
        if zone is None:
            raise not_informed()
        match zone.resolve(host):
            case Found(addresses=addresses):
                return addresses
            case Agent():
                return OwnService()
            case NotOurs():
                return await self._elsewhere(host)
            case nothing:
                raise no_addresses(host, nothing)

    def name_of(self, address: IPAddress) -> str:
        """``dconnect.proxy.lookup.Reverse``: the name of the container at an address."""
        zone = self._zone()
        if zone is None:
            raise not_informed()
        name = zone.name_of(address)
        if name is None:
            raise DialError(Failure.NAME_UNKNOWN, f"No container has the address {address}.")
        return name

    def may_leave(self, host: str) -> bool:
        """Whether a name outside Docker may be asked elsewhere at all."""
        return self._egress != "deny" or self._rules.may_open(host)

    async def _elsewhere(self, host: str) -> Sequence[IPAddress]:
        if not self.may_leave(host):
            raise DialError(Failure.POLICY, f"{host} is no container, and other destinations are off (--egress deny).")
        try:
            with UnlessCut():
                async with asyncio.timeout(self._seconds):
                    await self._slots.acquire()
                    found = await self._in_thread(host)
        except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
            if isinstance(error, TimeoutError) or error.args[0] == socket.EAI_AGAIN:
                raise DialError(Failure.TIMEOUT, f"The engine's resolver did not answer for {host}.") from None
            raise DialError(Failure.NAME_UNKNOWN, f"{host} is no container's name and no other host's.") from None
        addresses = [address for text in found if (address := parse_ip(text)) is not None]
        if not addresses:
            raise DialError(Failure.NAME_UNKNOWN, f"{host} has no address.")
        return list(dict.fromkeys(addresses))

    def _in_thread(self, host: str) -> asyncio.Future[Iterable[str]]:
        """Look up in a thread of its own, which holds its slot until it ends, waited for or not.

        No pool's threads: the loop's are few, and an executor's would delay our exit.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Iterable[str]] = loop.create_future()

        def work() -> None:
            try:
                tell = functools.partial(answer.set_result, self._look_up(host))
            except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
                tell = functools.partial(answer.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended
                loop.call_soon_threadsafe(finish, tell)

        def finish(tell: Callable[[], None]) -> None:
            self._slots.release()
            if not answer.done():
                tell()

        try:
            threading.Thread(target=work, name="lookup", daemon=True).start()
        except RuntimeError:
            self._slots.release()
            raise DialError(Failure.NOT_READY, f"{host} cannot be looked up: the agent has no free threads.") from None
        return answer
