"""From a destination to a connected socket: resolve → policy → socket → connect, one path for all fronts."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dconnect.core.address import IPAddress, Target, canonical, parse_ip
from dconnect.core.errors import DialError
from dconnect.core.events import Session
from dconnect.core.failure import Failure, from_errno
from dconnect.core.limits import ATTEMPT_DELAY_SECONDS, CONNECT_SECONDS, MAX_ATTEMPTS
from dconnect.proxy.fiber import Cut
from dconnect.proxy.judge import Judge
from dconnect.proxy.poller import Channel, Poller, connect, connect_unwatched
from dconnect.proxy.race import Race, interleaved

_SENTENCES = {
    Failure.REFUSED: "{target} refused the connection: nothing listens on port {port} there.",
    Failure.NETWORK_UNREACHABLE: "{target} is not reachable from the engine: it has no route to that network.",
    Failure.HOST_UNREACHABLE: "{target} is not reachable: no container or host answers at that address.",
    Failure.TIMEOUT: "{target} did not answer within {seconds:.0f} seconds.",
    Failure.NOT_READY: "{target} could not be dialed: the agent has no free sockets; try again shortly.",
    Failure.POLICY: "{target} was refused by the engine's own firewall.",
}

_TELLING = {
    failure: rank
    for rank, failure in enumerate(
        (
            Failure.REFUSED,
            Failure.TIMEOUT,
            Failure.NOT_READY,
            Failure.POLICY,
            Failure.HOST_UNREACHABLE,
            Failure.NETWORK_UNREACHABLE,
        )
    )
}
"""Which failure is told when the addresses of a name failed in different ways: the one that got furthest. An answer
says most, then a silence; that we could not or must not try says more than that there is no way."""


@dataclass(frozen=True, slots=True)
class OwnService:
    """The destination is the agent's own API."""


class Resolve(Protocol):
    """Names → addresses; implemented over the zone."""

    async def __call__(self, host: str) -> Sequence[IPAddress] | OwnService:
        """Addresses in the order of preference, never empty.

        Raises: DialError: NAME_UNKNOWN, STOPPED, POLICY, NOT_READY or TIMEOUT.
        """


class Sockets(Protocol):
    """Where outgoing sockets come from."""

    async def stream(self, address: IPAddress) -> socket.socket:
        """A new, unconnected, non-blocking TCP socket that can reach the address.

        Raises: DialError NOT_READY.
        """

    async def datagram(self, address: IPAddress) -> socket.socket:
        """A new, unconnected, non-blocking UDP socket that can reach the address.

        Raises: DialError NOT_READY.
        """

    async def is_local(self, address: IPAddress) -> bool:
        """Whether connecting there would reach the machine that the socket itself lives on.

        Raises: DialError NOT_READY.
        """


class Dial:
    """Dials destinations."""

    def __init__(
        self,
        *,
        poller: Poller,
        resolve: Resolve,
        sockets: Sockets,
        judge: Judge,
        own_service: str,
        own_ports: frozenset[int],
    ) -> None:
        """Wire it.

        Args:
            poller: watches the sockets.
            resolve: names.
            sockets: sources of sockets.
            judge: what may be dialed.
            own_service: path of the unix socket of our API.
            own_ports: ports on which ``dconnect.<suffix>`` answers.
        """
        self._poller = poller
        self._resolve = resolve
        self._sockets = sockets
        self._judge = judge
        self._own_service = own_service
        self._own_ports = own_ports

    async def __call__(self, target: Target, session: Session) -> Channel:
        """Connect to a destination; ``session`` learns the address and how long it took.

        Raises: DialError with the true reason; Cut when the client, for whom it is done, is cut.
        """
        begun = time.monotonic()
        try:
            channel = await self._reach(target, session)
        except Cut:
            session.detail = f"The client left while {target} was being dialed."
            raise
        session.connect = time.monotonic() - begun
        return channel

    async def _reach(self, target: Target, session: Session) -> Channel:
        addresses = await self._addresses(target)
        if isinstance(addresses, OwnService):
            if target.port not in self._own_ports:
                raise _told(Failure.REFUSED, target)
            return await self.own(session)
        if len(addresses) > 1:
            return await self._race(target, addresses, session)
        address = canonical(addresses[0])
        session.address = str(address)
        sock = await self._socket(target, address)
        try:
            channel = await connect(self._poller, sock, (session.address, target.port), CONNECT_SECONDS)
        except OSError as error:
            raise _failed(target, error) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)  # what we send next carries the ACK
        return channel

    async def unwatched(self, address: IPAddress, port: int, session: Session) -> socket.socket:
        """The same to a canonical address, for another process: a connected socket that the poller does not know.

        Raises: DialError with the true reason.
        """
        begun = time.monotonic()
        session.address = str(address)
        target = Target(session.address, port)
        sock = await self._socket(target, address)
        try:
            await connect_unwatched(self._poller, sock, target, CONNECT_SECONDS)
        except OSError as error:
            raise _failed(target, error) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        session.connect = time.monotonic() - begun
        return sock

    async def own(self, session: Session) -> Channel:
        """Connect to the agent's own API.

        Raises: DialError NOT_READY while control restarts.
        """
        session.address = "the agent"
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            return await connect(self._poller, sock, self._own_service)
        except OSError as error:
            raise DialError(Failure.NOT_READY, "The agent's control process is restarting; try again.") from error

    async def datagrams_to(self, target: Target) -> IPAddress:
        """The first of a destination's addresses to which datagrams may be sent; canonical.

        Names and rules change: whoever goes on sending asks again.

        Raises: DialError with the true reason.
        """
        addresses = await self._addresses(target)
        if isinstance(addresses, OwnService):
            raise _told(Failure.REFUSED, target)
        refusals: list[DialError] = []
        for address in map(canonical, addresses[:MAX_ATTEMPTS]):
            try:
                await self._allow(target, address)
            except DialError as error:
                refusals.append(error)
            else:
                return address
        raise refusals[0]

    async def datagram_socket(self, address: IPAddress) -> socket.socket:
        """An unconnected UDP socket of the address's family.

        Raises: DialError NOT_READY.
        """
        return await self._sockets.datagram(address)

    async def still_right(self, target: Target, channel: Channel) -> bool:
        """Whether a kept-alive connection still leads to where the name points now."""
        try:
            addresses = await self._addresses(target)
        except DialError:
            return False
        if isinstance(addresses, OwnService):
            return True
        try:
            peer = parse_ip(channel.sock.getpeername()[0])
        except OSError:
            return False
        return peer in addresses

    async def _addresses(self, target: Target) -> Sequence[IPAddress] | OwnService:
        literal = parse_ip(target.host)
        if literal is not None:
            return (literal,)
        objection = self._judge.name_objection(target.host)
        if objection:
            raise _forbidden(target, objection)
        return await self._resolve(target.host)

    async def _socket(self, target: Target, address: IPAddress) -> socket.socket:
        """A socket for an address that may be dialed."""
        if not self._judge.policy().is_container(address):
            await self._allow(target, address)
        return await self._sockets.stream(address)

    async def _allow(self, target: Target, address: IPAddress) -> None:
        objection = await self._judge.objection(address, target.host)
        if objection:
            raise _forbidden(target, objection)

    async def _race(self, target: Target, addresses: Sequence[IPAddress], session: Session) -> Channel:
        """Try all addresses of a name, the next one when the last is slow or has failed (RFC 8305 §5)."""
        loop = self._poller.loop
        deadline = loop.time() + CONNECT_SECONDS
        race = Race(self._poller, target.port)
        failures: dict[IPAddress, DialError] = {}
        won = None
        try:
            for address in interleaved(map(canonical, addresses))[:MAX_ATTEMPTS]:
                try:
                    race.enter(await self._socket(target, address), address)
                except DialError as error:
                    failures[address] = error
                    continue
                won = await race.winner(min(ATTEMPT_DELAY_SECONDS, deadline - loop.time()))
                if won is not None:
                    break
            while won is None and race.pending and loop.time() < deadline:
                won = await race.winner(deadline - loop.time())
        finally:
            race.close()
        if won is None:
            failures |= {address: _failed(target, error) for address, error in race.failed}
            address = min(failures, key=lambda each: _TELLING.get(failures[each].failure, len(_TELLING)))
            session.address = str(address)
            raise failures[address]
        channel, address = won
        session.address = str(address)
        channel.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        return channel


def _forbidden(target: Target, objection: str) -> DialError:
    return DialError(Failure.POLICY, f"{target} is not allowed: {objection}.")


def _failed(target: Target, error: OSError) -> DialError:
    failure = Failure.TIMEOUT if isinstance(error, TimeoutError) else from_errno(error.errno or 0)
    return _told(failure, target)


def _told(failure: Failure, target: Target) -> DialError:
    sentence = _SENTENCES.get(failure, "{target} could not be reached.")
    return DialError(failure, sentence.format(target=target, port=target.port, seconds=CONNECT_SECONDS))
