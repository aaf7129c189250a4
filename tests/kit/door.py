"""A real front door on loopback in a thread, and plain blocking sockets to talk to it.

A test is a conversation: it holds the client's and the server's end, so nothing needs to sleep.
Every socket that a test opens here has a deadline and is closed with the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import select
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from dconnect.core.address import IPAddress
from dconnect.core.config import Egress
from dconnect.core.inventory import Container, Endpoint, Inventory
from dconnect.core.limits import UDP_IDLE_SECONDS
from dconnect.core.rules import Rules
from dconnect.proxy.associate import Associations
from dconnect.proxy.dial import Dial, Resolve
from dconnect.proxy.door import Accepts, Describe, Links
from dconnect.proxy.fake import FakeDescribe, FakeResolve, FakeReverse, FakeSockets, Recorder
from dconnect.proxy.frontdoor import FrontDoor
from dconnect.proxy.judge import Judge
from dconnect.proxy.lookup import Lookup
from dconnect.proxy.policy import Policy
from dconnect.proxy.poller import Poller

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which a blocking call of a test has failed."""

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

NO_RULES = Rules()
WEB, DB = "127.0.0.1", "127.0.0.2"
NAMES: Mapping[str, Sequence[IPAddress]] = {
    "web": [ip_address(WEB)],
    "web.docker": [ip_address(WEB)],
    "db": [ip_address(DB)],
    "six": [ip_address("::1")],
    "both": [ip_address("127.0.0.3"), ip_address(WEB)],
    "metadata": [ip_address("169.254.169.254")],
    "stranger": [ip_address("127.0.0.9")],
}
_CONTAINERS = (WEB, DB, "127.0.0.3", "::1")


def inventory() -> Inventory:
    """Containers that have loopback addresses, so that test servers can be containers."""
    return Inventory(
        tuple(
            Container(f"{n:064x}", f"c{n}", "running", endpoints=(Endpoint("n", "n", None, None, ()), _place(text)))
            for n, text in enumerate(_CONTAINERS)
        )
    )


def _place(text: str) -> Endpoint:
    return Endpoint("net", "f" * 64, *((None, text) if ":" in text else (text, None)))


def open_descriptors() -> int:
    """How many descriptors this process has."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class DoorThread:
    """A front door that serves in a thread of its own while the context is open."""

    def __init__(
        self,
        directory: Path,
        loop: str = "uvloop",
        *,
        resolve: Resolve | None = None,
        describe: Describe | None = None,
        admits: Callable[[str], bool] = lambda _: True,
        egress: Egress = "allow",
        rules: Rules = NO_RULES,
        max_clients: int = 100,
        listener: socket.socket | None = None,
        udp_idle_seconds: float = UDP_IDLE_SECONDS,
        accepts: Accepts | None = None,
        links: Links | None = None,
    ) -> None:
        """``listener``: another door's, to share as workers share theirs."""
        self.recorder = Recorder()
        self.errors: list[dict[str, Any]] = []
        """What the event loop's exception handler was told: must stay empty."""
        self._resolve = resolve or FakeResolve(NAMES)
        self._describe = describe or FakeDescribe({})
        self._admits = admits
        self.policy = Policy(inventory(), egress, rules=rules)
        """What is judged by from now on."""
        self._udp_idle_seconds = udp_idle_seconds
        self._max_clients = max_clients
        self._accepts = accepts
        self._links = links
        self.listener = listener if listener is not None else socket.create_server(("127.0.0.1", 0))
        self._owns_listener = listener is None
        self._api_path = str(directory / "api.sock")
        self._loop = LOOPS[loop]()
        self._thread = threading.Thread(target=self._run, name="front door", daemon=True)
        self._open = contextlib.ExitStack()
        self._ready = threading.Event()
        self.address = ("", 0)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert not self.errors

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        self._loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self._stop = asyncio.Event()
        poller = Poller()
        with self.listener if self._owns_listener else self.listener.dup() as listener:
            listener.setblocking(False)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the supervisor's listener has it
            self.address = listener.getsockname()
            sockets = FakeSockets([ip_address("127.0.0.9")])
            judge = Judge(lambda: self.policy, sockets.is_local)
            dial = Dial(
                poller=poller,
                resolve=self._resolve,
                sockets=sockets,
                judge=judge,
                own_service=self._api_path,
                own_ports=frozenset((80, 1080)),
            )
            self.associations = Associations(
                poller=poller,
                dial=dial,
                policy=lambda: self.policy,
                sock=self._port(),
                bound=(ip_address("127.0.0.1"), self.address[1]),
                idle_seconds=self._udp_idle_seconds,
            )
            self.door = FrontDoor(
                poller=poller,
                listener=listener,
                dial=dial,
                describe=self._describe,
                associates=self.associations,
                observer=self.recorder,
                admits=self._admits,
                hosts=frozenset(("127.0.0.1", "localhost", "dconnect.docker")),
                max_clients=self._max_clients,
                lookup=Lookup(resolve=self._resolve, reverse=FakeReverse(NAMES), judge=judge),
                accepts=self._accepts,
                links=self._links,
            )
            self.door.start()
            self._ready.set()
            await self._stop.wait()
            await self.door.drain()
            poller.close()

    def _port(self) -> socket.socket:
        """The UDP port of the same number; another door that shares the listener has it already."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind(self.address if self._owns_listener else ("127.0.0.1", 0))
        return sock

    def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in the door's loop."""
        return self.begin(function).result(PATIENCE)

    def begin(self, function: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Start a coroutine in the door's loop."""
        return asyncio.run_coroutine_threadsafe(function(), self._loop)

    async def never(self) -> None:
        """Wait until the door closes."""
        await self._stop.wait()

    def until(self, holds: Callable[[], bool]) -> Callable[[], Coroutine[Any, Any, None]]:
        """Something to ``call`` that returns when a condition of the door's own holds."""

        async def wait() -> None:
            while not holds():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)

        return wait

    def client(self) -> socket.socket:
        """A connection to the door."""
        return self._keep(socket.create_connection(self.address, timeout=PATIENCE))

    def server(self, host: str = WEB) -> Server:
        """A listening socket at a container's address."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return Server(self, self._keep(socket.create_server((host, 0), family=family)))

    def api(self) -> Server:
        """The agent's own service."""
        listener = self._keep(socket.socket(socket.AF_UNIX))
        listener.bind(self._api_path)
        listener.listen()
        return Server(self, listener)

    def _keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(PATIENCE)
        self._open.callback(sock.close)
        return sock

    def adopt(self, sock: socket.socket) -> socket.socket:
        """Give a socket the deadline and the end of all others."""
        return self._keep(sock)


class Server:
    """A test's own server."""

    def __init__(self, door: DoorThread, listener: socket.socket) -> None:
        self._door = door
        self.listener = listener

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    def accept(self) -> socket.socket:
        """The next connection that the door makes."""
        return self._door.adopt(self.listener.accept()[0])


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes, no more."""
    data = bytearray()
    while len(data) < count:
        part = sock.recv(min(count - len(data), 1 << 18))
        assert part, f"the stream ended after {bytes(data)!r}"
        data += part
    return bytes(data)


def head(sock: socket.socket) -> bytes:
    """An HTTP head with its empty line, no more."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += exactly(sock, 1)
    return data


def rest(sock: socket.socket) -> bytes:
    """Everything until FIN."""
    return b"".join(_parts(sock))


def _parts(sock: socket.socket) -> Iterator[bytes]:
    while part := sock.recv(1 << 18):
        yield part


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sock.close()


def stuff(sock: socket.socket) -> int:
    """Send to a peer that does not read, until the kernel takes no more and the door is blocked."""
    sock.setblocking(False)
    sent = 0
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while poll.poll(100):
        with contextlib.suppress(BlockingIOError):
            sent += sock.send(b"x" * 65536)
    sock.settimeout(PATIENCE)
    return sent


def was_reset(sock: socket.socket) -> bool:
    """Whether the stream ends with RST, after whatever bytes."""
    try:
        rest(sock)
    except ConnectionResetError:
        return True
    return False
