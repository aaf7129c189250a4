"""One client source's datagrams, to any number of destinations and back (RFC 1928 §7).

One unconnected socket for each address family serves all destinations of a source. So a source keeps its port
towards all of them (RFC 4787 §4.1), and costs two descriptors at most. The kernel tells nobody about an ICMP error
of an unconnected socket: a destination where nothing listens disturbs no other. Nor does the kernel filter for it:
a datagram from an address and port that the source has sent nothing to is dropped here (RFC 4787 §5, "address and
port-dependent filtering").

    datagram ─▶ route known, and names and rules unchanged? ─▶ yes: sendto
                     │ no
                     held (bounded) while a task resolves and judges, then sent, or dropped with the reason
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol

from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import UdpSession
from dconnect.core.failure import Failure, from_errno
from dconnect.core.limits import (
    UDP_DATAGRAMS_PER_SOCKET,
    UDP_DESTINATIONS,
    UDP_LOOKUPS_PER_SOURCE,
    UDP_REFUSED_SECONDS,
    UDP_ROUTE_SECONDS,
)
from dconnect.proxy.dial import Dial
from dconnect.proxy.policy import Policy
from dconnect.proxy.wire import udp

_OBJECT_BYTES = 64
"""What a payload that waits costs beside its bytes."""

Source = tuple[str, int] | tuple[str, int, int, int]
"""A client's address and port, as ``recvfrom`` tells it."""


def reason_of(error: OSError) -> str:
    """Why a datagram could not be sent, in the words of the log."""
    if isinstance(error, BlockingIOError):
        return "full"
    return "too_large" if error.errno == errno.EMSGSIZE else from_errno(error.errno or 0).name.lower()


class Port(Protocol):
    """What a flow needs of the UDP port that it belongs to."""

    loop: asyncio.AbstractEventLoop
    dial: Dial
    relayed: dict[str, int]
    """Datagrams ``up`` and ``down``."""
    view: memoryview
    """One buffer for all: ``udp.MAX_HEADER_BYTES`` for a header, then a datagram."""

    def policy(self) -> Policy:
        """The rules in force now; another object whenever containers changed. Raises DialError NOT_READY."""

    def look_up(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Run a lookup in a task; False when there are too many."""

    def hold(self, count: int) -> bool:
        """Account for bytes that wait; False when too many do."""

    def release(self, count: int) -> None:
        """They wait no more."""

    def watch(self, sock: socket.socket, flow: Flow) -> None:
        """Call ``flow.receive(sock)`` whenever the socket is readable."""

    def unwatch(self, sock: socket.socket) -> None:
        """No more, and close it."""

    def send_back(self, start: int, end: int, flow: Flow) -> None:
        """Send a part of ``view`` to the flow's source."""

    def drop(self, reason: str, flow: Flow, detail: str = "") -> None:
        """Count a datagram that goes no further."""


class Route(NamedTuple):
    """Where one destination's datagrams go, or why they do not."""

    until: float
    """Monotonic seconds."""
    policy: Policy | None
    """What it was judged by."""
    peer: tuple[str, int] = ("", 0)
    version: int = 0
    header: bytes = b""
    """In front of what comes back."""
    reason: str = ""
    detail: str = ""


class Flow:
    """A source's sockets, routes, and whom it has sent to."""

    __slots__ = ("_held", "_permitted", "_port", "_routes", "_sockets", "closed", "last", "record", "source")

    def __init__(self, port: Port, source: Source, record: UdpSession) -> None:
        """Begin without a socket.

        Args:
            port: the UDP port that it belongs to.
            source: the client's address and port.
            record: the association whose account it is on; its owner may change that.
        """
        self._port = port
        self.source = source
        self.record = record
        self.last = port.loop.time()
        """When the last datagram was relayed, either way."""
        self.closed = False
        self._sockets: dict[int, socket.socket] = {}
        self._routes: dict[bytes, Route] = {}
        self._permitted: dict[tuple[str, int], bytes] = {}
        """Whom it has sent to, the latest last, with the header for what they answer."""
        self._held: dict[bytes, list[bytes]] = {}
        """Payloads that wait for their destination's route."""

    def close(self) -> None:
        """Close the sockets; lookups under way come to nothing."""
        self.closed = True
        for sock in self._sockets.values():
            self._port.unwatch(sock)
        self._sockets.clear()

    def send(self, destination: bytes, payload: memoryview) -> None:
        """Send a client's payload to a destination in its wire form. Raises DialError NOT_READY."""
        port = self._port
        self.last = now = port.loop.time()
        route = self._routes.get(destination)
        if route is None or now >= route.until or route.policy is not port.policy():
            self._hold(destination, payload)
        else:
            self._send(route, payload)

    def receive(self, sock: socket.socket) -> None:
        """Send back what destinations have sent, a few datagrams; the socket tells if there are more."""
        port, view = self._port, self._port.view[udp.MAX_HEADER_BYTES :]
        for _ in range(UDP_DATAGRAMS_PER_SOCKET):
            try:
                count, peer = sock.recvfrom_into(view)
            except OSError:  # mostly BlockingIOError
                return
            header = self._permitted.get(peer[:2])
            if header is None:
                port.drop("stranger", self)
                continue
            self.last = port.loop.time()
            start = udp.MAX_HEADER_BYTES - len(header)
            port.view[start : udp.MAX_HEADER_BYTES] = header
            port.send_back(start, udp.MAX_HEADER_BYTES + count, self)

    def _send(self, route: Route, payload: memoryview | bytes) -> None:
        record = self.record
        if route.reason:
            self._port.drop(route.reason, self, route.detail)
            return
        try:
            self._sockets[route.version].sendto(payload, route.peer)
        except OSError as error:
            self._port.drop(reason_of(error), self)
            return
        self._port.relayed["up"] += 1
        record.bytes_up += len(payload)
        record.datagrams_up += 1
        self._permitted.pop(route.peer, None)
        self._permitted[route.peer] = route.header
        if len(self._permitted) > UDP_DESTINATIONS:
            del self._permitted[next(iter(self._permitted))]

    def _hold(self, destination: bytes, payload: memoryview) -> None:
        """Keep a payload until its destination is looked up and judged."""
        port = self._port
        if destination not in self._held:
            if len(self._held) >= UDP_LOOKUPS_PER_SOURCE or not port.look_up(self._find(destination)):
                port.drop("full", self)
                return
            self._held[destination] = []
        if port.hold(_OBJECT_BYTES + len(payload)):
            self._held[destination].append(bytes(payload))
        else:
            port.drop("full", self)

    async def _find(self, destination: bytes) -> None:
        try:
            route = await self._route(destination)
        finally:
            held = self._held.pop(destination)
            self._port.release(sum(_OBJECT_BYTES + len(payload) for payload in held))
        if self.closed:
            return
        if self._routes.pop(destination, None) is None:
            self.record.targets += 1
        self._routes[destination] = route
        if len(self._routes) > UDP_DESTINATIONS:
            del self._routes[next(iter(self._routes))]
        for payload in held:
            self._send(route, payload)

    def _watch(self, sock: socket.socket, version: int) -> None:
        try:
            self._port.watch(sock, self)
        except OSError as error:
            sock.close()
            raise DialError(Failure.NOT_READY, f"The agent can watch no further sockets ({error.strerror}).") from None
        self._sockets[version] = sock

    async def _route(self, destination: bytes) -> Route:
        port, policy = self._port, None
        try:
            target = udp.parse_destination(destination)
            self.record.target = self.record.target or str(target)
            policy = port.policy()  # asked first: if it changes meanwhile, the route is out of date at once
            address = await port.dial.datagrams_to(target)
            if address.version not in self._sockets:
                sock = await port.dial.datagram_socket(address)
                if self.closed or address.version in self._sockets:
                    sock.close()
                else:
                    self._watch(sock, address.version)
        except MalformedMessage as error:
            return Route(port.loop.time() + UDP_REFUSED_SECONDS, policy, reason="malformed", detail=str(error))
        except DialError as error:
            reason = error.failure.name.lower()
            return Route(port.loop.time() + UDP_REFUSED_SECONDS, policy, reason=reason, detail=str(error))
        self.record.address = str(address)
        return Route(
            port.loop.time() + UDP_ROUTE_SECONDS,
            policy,
            (str(address), target.port),
            address.version,
            udp.header(address, target.port),
        )
