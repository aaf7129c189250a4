"""Happy Eyeballs (RFC 8305): a name with several addresses, some of which are dead, on loopback.

A silent address is one whose backlog is full: the kernel then drops every further SYN.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from dconnect.core.address import IPAddress, Target
from dconnect.core.errors import DialError
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.inventory import Inventory
from dconnect.core.limits import CONNECT_SECONDS, MAX_ATTEMPTS, PARALLEL_ATTEMPTS
from dconnect.core.rules import Rules
from dconnect.proxy import dial as dial_module
from dconnect.proxy.dial import Dial
from dconnect.proxy.fake import FakeResolve, FakeSockets
from dconnect.proxy.judge import Judge
from dconnect.proxy.policy import Policy
from dconnect.proxy.poller import Poller
from dconnect.proxy.race import Race, interleaved
from kit.door import open_descriptors

GOOD = "127.0.9.1"
REFUSING = "127.0.9.2"
SILENT = "127.0.9.3"
FORBIDDEN = "127.0.66.1"
UNREACHABLE = "203.0.113.9"
NO_SOCKET = "192.0.2.77"


class _Sockets(FakeSockets):
    """An address has no socket, and another no route: as the engine's kernel may say."""

    async def stream(self, address: IPAddress) -> socket.socket:
        if str(address) == NO_SOCKET:
            raise DialError(Failure.NOT_READY, "There is no socket.")
        if str(address) == UNREACHABLE:
            raise DialError(Failure.NETWORK_UNREACHABLE, "There is no route.")
        return await super().stream(address)


@dataclass(frozen=True)
class Place:
    """GOOD listens on the port, and SILENT does not answer until its backlog is emptied."""

    port: int
    silent: socket.socket

    async def speak(self) -> None:
        """Have SILENT answer from the next SYN on; the kernel repeats one after a second."""
        loop = asyncio.get_running_loop()
        self.silent.setblocking(False)
        for _ in range(2):
            accepted, _ = await loop.sock_accept(self.silent)
            accepted.close()


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Such a place for a test."""
    with contextlib.ExitStack() as open_, socket.create_server((GOOD, 0)) as listener:
        port = int(listener.getsockname()[1])
        silent = open_.enter_context(socket.socket())
        silent.bind((SILENT, port))
        silent.listen(0)
        for _ in range(3):
            filler = open_.enter_context(socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            assert filler.connect_ex((SILENT, port)) == errno.EINPROGRESS
        yield Place(port, silent)


def dialing(addresses: Sequence[str], scene: Callable[[Dial, Place], Awaitable[None]]) -> None:
    async def main() -> None:
        poller, sockets = Poller(), _Sockets()
        policy = Policy(Inventory(), "allow", rules=Rules(["127.0.9.0/24"]))
        dial = Dial(
            poller=poller,
            resolve=FakeResolve({"name": [ip_address(text) for text in addresses]}),
            sockets=sockets,
            judge=Judge(lambda: policy, sockets.is_local),
            own_service="",
            own_ports=frozenset(),
        )
        with place() as there:
            before = open_descriptors()
            await scene(dial, there)
            assert open_descriptors() == before, "every socket of the race is closed"
        poller.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1 10.0.0.2 fd00::1 fd00::2", "10.0.0.1 fd00::1 10.0.0.2 fd00::2"),
        ("fd00::1 fd00::2 10.0.0.1", "fd00::1 10.0.0.1 fd00::2"),
        ("fd00::1 10.0.0.1 10.0.0.2 10.0.0.3", "fd00::1 10.0.0.1 10.0.0.2 10.0.0.3"),
        ("10.0.0.1 10.0.0.1 fd00::1", "10.0.0.1 fd00::1"),
    ],
)
def test_s4_families_alternate_beginning_with_the_preferred_one(given: str, tried: str) -> None:
    assert interleaved(map(ip_address, given.split())) == [ip_address(text) for text in tried.split()]


@pytest.mark.parametrize(
    "first", [[], [REFUSING], [SILENT], [SILENT, REFUSING, SILENT], [FORBIDDEN, NO_SOCKET, UNREACHABLE]]
)
def test_s5_the_first_to_connect_wins_whatever_stands_before_it(first: list[str]) -> None:
    async def scene(dial: Dial, there: Place) -> None:
        session = Session("peer")
        async with asyncio.timeout(CONNECT_SECONDS / 2):  # one after the other it would take longer
            channel = await dial(Target("name", there.port), session)
        assert channel.sock.getpeername()[0] == session.address == GOOD
        channel.close()

    dialing([*first, GOOD, SILENT], scene)


def test_s5_a_slow_attempt_goes_on_when_the_next_begins() -> None:
    async def scene(dial: Dial, there: Place) -> None:
        attempt = asyncio.ensure_future(dial(Target("name", there.port), Session("peer")))
        await asyncio.sleep(0)  # it has begun: its first SYN is dropped
        await there.speak()
        channel = await attempt
        assert channel.sock.getpeername()[0] == SILENT
        channel.close()

    dialing([SILENT, REFUSING, REFUSING], scene)


@pytest.mark.parametrize(
    ("addresses", "told", "failure"),
    [
        ([FORBIDDEN, UNREACHABLE, REFUSING, NO_SOCKET], REFUSING, Failure.REFUSED),
        ([UNREACHABLE, SILENT, FORBIDDEN], SILENT, Failure.TIMEOUT),
        ([UNREACHABLE, FORBIDDEN, NO_SOCKET], NO_SOCKET, Failure.NOT_READY),
        ([UNREACHABLE, FORBIDDEN], FORBIDDEN, Failure.POLICY),
        ([SILENT, REFUSING], REFUSING, Failure.REFUSED),
        ([UNREACHABLE, UNREACHABLE], UNREACHABLE, Failure.NETWORK_UNREACHABLE),
    ],
)
def test_when_all_fail_the_failure_that_got_furthest_is_told(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], told: str, failure: Failure
) -> None:
    monkeypatch.setattr(dial_module, "CONNECT_SECONDS", 1.0)

    async def scene(dial: Dial, there: Place) -> None:
        session = Session("peer")
        async with asyncio.timeout(5):  # the whole dial has one deadline
            with pytest.raises(DialError) as refusal:
                await dial(Target("name", there.port), session)
        assert (refusal.value.failure, session.address) == (failure, told)

    dialing(addresses, scene)


def test_a_dial_that_is_cancelled_leaves_no_socket() -> None:
    async def scene(dial: Dial, there: Place) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await dial(Target("name", there.port), Session("peer"))

    dialing([SILENT, REFUSING], scene)


def test_attempts_under_way_are_bounded_and_the_oldest_is_given_up() -> None:
    async def main() -> None:
        poller = Poller()
        with place() as there:
            before = open_descriptors()
            race = Race(poller, there.port)
            for number in range(PARALLEL_ATTEMPTS + 3):
                sock = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                race.enter(sock, ip_address(SILENT))
                assert race.pending == min(number + 1, PARALLEL_ATTEMPTS)
            assert [type(error) for _, error in race.failed] == [TimeoutError] * 3
            race.close()
            assert open_descriptors() == before
        poller.close()

    asyncio.run(main())


@pytest.mark.parametrize(("dead", "reached"), [(MAX_ATTEMPTS - 1, True), (MAX_ATTEMPTS, False)])
def test_addresses_tried_are_bounded(dead: int, reached: bool) -> None:
    async def scene(dial: Dial, there: Place) -> None:
        try:
            channel = await dial(Target("name", there.port), Session("peer"))
        except DialError:
            assert not reached
        else:
            channel.close()
            assert reached

    dialing([*(f"127.0.10.{number}" for number in range(dead)), GOOD], scene)
