"""From a destination to a connected socket: resolve → policy → socket → connect, one path for all fronts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dconnect.core.address import IPAddress, Target, canonical, parse_ip
from dconnect.core.errors import DialError
from dconnect.core.events import Session
from dconnect.core.failure import Failure, from_errno
from dconnect.core.limits import CONNECT_SECONDS
from dconnect.proxy.policy import Policy
from dconnect.proxy.poller import Channel, Poller, connect

_SENTENCES = {
    Failure.REFUSED: "{target} refused the connection: nothing listens on port {port} there.",
    Failure.NETWORK_UNREACHABLE: "{target} is not reachable from the engine: it has no route to that network.",
    Failure.HOST_UNREACHABLE: "{target} is not reachable: no container or host answers at that address.",
    Failure.TIMEOUT: "{target} did not answer within {seconds:.0f} seconds.",
    Failure.NOT_READY: "{target} could not be dialed: the agent has no free sockets; try again shortly.",
    Failure.POLICY: "{target} was refused by the engine's own firewall.",
}


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
        policy: Callable[[], Policy],
        own_service: str,
        own_ports: frozenset[int],
    ) -> None:
        """Wire it.

        Args:
            poller: watches the sockets.
            resolve: names.
            sockets: sources of sockets.
            policy: the judgement in force now.
            own_service: path of the unix socket of our API.
            own_ports: ports on which ``dconnect.<suffix>`` answers.
        """
        self._poller = poller
        self._resolve = resolve
        self._sockets = sockets
        self._policy = policy
        self._own_service = own_service
        self._own_ports = own_ports

    async def __call__(self, target: Target, session: Session) -> Channel:
        """Connect to a destination; ``session`` learns the address and how long it took.

        Raises: DialError with the true reason.
        """
        begun = time.monotonic()
        channel = await self._reach(target, session)
        session.connect = time.monotonic() - begun
        return channel

    async def _reach(self, target: Target, session: Session) -> Channel:
        addresses = await self._addresses(target)
        if isinstance(addresses, OwnService):
            if target.port not in self._own_ports:
                raise _failed(Failure.REFUSED, target)
            return await self.own(session)
        first: DialError | None = None
        for address in map(canonical, addresses):
            session.address = str(address)
            try:
                # An equal share for each: a silent one leaves time for the next.
                return await self._attempt(target, address, session.address, CONNECT_SECONDS / len(addresses))
            except DialError as error:
                first = first or error
        assert first is not None, "a resolver gives at least one address or raises"
        raise first

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
        return await self._resolve(target.host) if literal is None else (literal,)

    async def _attempt(self, target: Target, address: IPAddress, text: str, seconds: float) -> Channel:
        policy = self._policy()
        if not policy.is_container(address):
            objection = policy.objection(address)
            if not objection and await self._sockets.is_local(address):
                objection = "the engine's own addresses are refused"
            if objection:
                raise DialError(Failure.POLICY, f"{target} is not allowed: {objection}.")
        sock = await self._sockets.stream(address)
        try:
            channel = await connect(self._poller, sock, (text, target.port), seconds)
        except TimeoutError:
            raise _failed(Failure.TIMEOUT, target) from None
        except OSError as error:
            raise _failed(from_errno(error.errno or 0), target) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)  # what we send next carries the ACK
        return channel


def _failed(failure: Failure, target: Target) -> DialError:
    sentence = _SENTENCES.get(failure, "{target} could not be reached.")
    return DialError(failure, sentence.format(target=target, port=target.port, seconds=CONNECT_SECONDS))
