"""Names and addresses for clients that only ask (Tor's RESOLVE and RESOLVE_PTR): no connection follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dconnect.core.address import IPAddress, canonical, parse_ip
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure
from dconnect.core.limits import MAX_ATTEMPTS
from dconnect.proxy.dial import OwnService, Resolve
from dconnect.proxy.judge import Judge


class Reverse(Protocol):
    """Address → name; implemented over the zone."""

    def __call__(self, address: IPAddress) -> str:
        """The container's name, in full.

        Raises: DialError: NAME_UNKNOWN or NOT_READY.
        """


class Lookup:
    """What a client may be told: only what it may also dial, so that rules do not close half a door."""

    def __init__(self, *, resolve: Resolve, reverse: Reverse, judge: Judge) -> None:
        """Wire it.

        Args:
            resolve: names, the same as for dialing.
            reverse: addresses.
            judge: what may be dialed.
        """
        self._resolve = resolve
        self._reverse = reverse
        self._judge = judge

    async def address(self, host: str, versions: Sequence[int] = (4, 6)) -> IPAddress:
        """The first address of a host that may be dialed, of one of the IP versions; a literal is its own address.

        Raises: DialError with the true reason.
        """
        found = [each for each in map(canonical, await self._addresses(host)) if each.version in versions]
        if not found:
            raise DialError(Failure.HOST_UNREACHABLE, f"{host} has no address that this request can be answered with.")
        objection = ""
        for address in found[:MAX_ATTEMPTS]:
            objection = await self._judge.objection(address, host)
            if not objection:
                return address
        raise _forbidden(host, objection)

    async def name(self, address: IPAddress) -> str:
        """The name of what has the address.

        Raises: DialError with the true reason.
        """
        objection = await self._judge.objection(address)
        if objection:
            raise _forbidden(str(address), objection)
        return self._reverse(address)

    async def _addresses(self, host: str) -> Sequence[IPAddress]:
        literal = parse_ip(host)
        if literal is not None:
            return (literal,)
        objection = self._judge.name_objection(host)
        if objection:
            raise _forbidden(host, objection)
        found = await self._resolve(host)
        if isinstance(found, OwnService):
            raise DialError(Failure.HOST_UNREACHABLE, f"{host} is the agent itself: connect to it by name.")
        return found


def _forbidden(what: str, objection: str) -> DialError:
    return DialError(Failure.POLICY, f"{what} is not allowed: {objection}.")
