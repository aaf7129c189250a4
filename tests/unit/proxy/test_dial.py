from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from dconnect.core.address import IPAddress, Target
from dconnect.core.errors import DialError
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.rules import Rules
from dconnect.core.tasks import Tasks
from dconnect.proxy.dial import Dial, OwnService
from dconnect.proxy.fake import FakeResolve, FakeSockets
from dconnect.proxy.judge import Judge
from dconnect.proxy.policy import Policy
from dconnect.proxy.poller import Poller, connect_unwatched
from dconnect.proxy.upstreams import Upstreams
from kit.door import inventory

_NAMES: dict[str, Sequence[IPAddress]] = {
    "web": [ip_address("127.0.0.1")],
    "both": [ip_address("127.0.0.3"), ip_address("127.0.0.1")],
    "mixed": [ip_address("169.254.169.254"), ip_address("127.0.0.1")],
    "mapped": [ip_address("::ffff:127.0.0.1")],
    "local": [ip_address("192.0.2.1")],
}


class _NoSockets(FakeSockets):
    async def stream(self, address: IPAddress) -> socket.socket:
        raise DialError(Failure.NOT_READY, f"no socket for {address}.")


def _with_dial(
    scene: Callable[[Dial, int], Awaitable[None]], sockets: FakeSockets | None = None, api: str = "/nonexistent"
) -> None:
    async def main() -> None:
        poller, source = Poller(), sockets or FakeSockets([ip_address("192.0.2.1")])
        dial = Dial(
            poller=poller,
            resolve=FakeResolve(_NAMES),
            sockets=source,
            judge=Judge(lambda: Policy(inventory(), "allow"), source.is_local),
            own_service=api,
            own_ports=frozenset((80,)),
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await scene(dial, listener.getsockname()[1])
        poller.close()

    asyncio.run(main())


@pytest.mark.parametrize("host", ["web", "both", "mixed", "mapped", "127.0.0.1", "::ffff:127.0.0.1"])
def test_a_destination_is_reached_by_its_first_good_address(host: str) -> None:
    async def scene(dial: Dial, port: int) -> None:
        session = Session("peer")
        channel = await dial(Target(host, port), session)
        assert channel.sock.getpeername() == ("127.0.0.1", port)
        channel.close()
        assert session.address == "127.0.0.1"

    _with_dial(scene)


def test_a_connection_for_another_process_is_not_watched_here() -> None:
    """The kernel would go on telling of it, since it is closed here only."""

    async def scene(dial: Dial, port: int) -> None:
        session = Session("peer")
        sock = await dial.unwatched(ip_address("127.0.0.1"), port, session)
        with sock:
            assert sock.getpeername() == ("127.0.0.1", port)
            assert session.address == "127.0.0.1"
            assert session.connect > 0
            assert f"tfd: {sock.fileno():>8}" not in _watched()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 0

    _with_dial(scene)


def test_nor_is_one_that_had_to_be_waited_for() -> None:
    async def main() -> None:
        poller = Poller()
        with socket.socket() as listener, socket.socket() as first:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            first.connect(listener.getsockname())  # the backlog is full: the next SYN is answered when it comes again
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            waits = Tasks().start(connect_unwatched(poller, sock, listener.getsockname(), 10), "connect")
            await asyncio.sleep(0)
            assert f"tfd: {sock.fileno():>8}" in _watched()
            listener.accept()[0].close()
            await waits
            assert f"tfd: {sock.fileno():>8}" not in _watched()
            assert sock.getpeername() == listener.getsockname()
            sock.close()
        poller.close()

    asyncio.run(main())


def _watched() -> str:
    """What the epolls of this process watch (proc(5), /proc/PID/fdinfo)."""
    return "".join(each.read_text() for each in Path("/proc/self/fdinfo").iterdir() if each.exists())


@pytest.mark.parametrize(("address", "failure"), [("127.0.0.1", Failure.REFUSED), ("192.0.2.1", Failure.POLICY)])
def test_such_a_dial_fails_as_every_other(address: str, failure: Failure) -> None:
    async def scene(dial: Dial, _port: int) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with pytest.raises(DialError) as error:
                await dial.unwatched(ip_address(address), closed.getsockname()[1], Session("peer"))
        assert error.value.failure is failure

    _with_dial(scene)


def test_a_denied_name_is_not_even_looked_up_and_a_denied_address_is_not_dialed() -> None:
    asked: list[str] = []

    class Asked(FakeResolve):
        async def __call__(self, host: str) -> Sequence[IPAddress] | OwnService:
            asked.append(host)
            return await super().__call__(host)

    async def main() -> None:
        poller, sockets = Poller(), FakeSockets()
        rules = Rules(["192.0.2.1"], ["web", "127.0.0.3"])
        policy = Policy(inventory(), "allow", rules=rules)
        dial = Dial(
            poller=poller,
            resolve=Asked(_NAMES),
            sockets=sockets,
            judge=Judge(lambda: policy, sockets.is_local),
            own_service="",
            own_ports=frozenset(),
        )
        for host, words in (("x.web", "rule --deny web"), ("127.0.0.3", "rule --deny 127.0.0.3")):
            with pytest.raises(DialError, match=rf"{host}:80 is not allowed: {words}\.$") as refusal:
                await dial(Target(host, 80), Session("peer"))
            assert refusal.value.failure is Failure.POLICY
        poller.close()

    asyncio.run(main())
    assert asked == []


@pytest.mark.parametrize(
    ("allow", "objection"), [((), "the engine's own addresses are refused"), (("192.0.2.0/24",), "")]
)
def test_the_engines_own_address_is_opened_by_a_cidr(allow: tuple[str, ...], objection: str) -> None:
    sockets = FakeSockets([ip_address("192.0.2.1")])
    judge = Judge(lambda: Policy(inventory(), "allow", rules=Rules(allow)), sockets.is_local)
    assert asyncio.run(judge.objection(ip_address("192.0.2.1"))) == objection


@pytest.mark.parametrize(
    ("host", "failure"),
    [
        ("nobody", Failure.NAME_UNKNOWN),
        ("local", Failure.POLICY),
        ("192.0.2.1", Failure.POLICY),
        ("169.254.169.254", Failure.POLICY),
        ("::ffff:169.254.169.254", Failure.POLICY),
        ("dconnect", Failure.REFUSED),
    ],
)
def test_the_reason_is_the_true_one(host: str, failure: Failure) -> None:
    async def scene(dial: Dial, _port: int) -> None:
        with pytest.raises(DialError) as refusal:
            await dial(Target(host, 81), Session("peer"))
        assert refusal.value.failure is failure
        assert str(refusal.value).endswith(".")
        assert host in str(refusal.value)

    _with_dial(scene)


def test_a_refused_port_is_named() -> None:
    async def scene(dial: Dial, _port: int) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
            with pytest.raises(DialError, match=f"web:{port} refused the connection") as refusal:
                await dial(Target("web", port), Session("peer"))
        assert refusal.value.failure is Failure.REFUSED
        assert isinstance(refusal.value.__cause__, OSError)
        assert refusal.value.__cause__.errno == errno.ECONNREFUSED

    _with_dial(scene)


def test_no_socket_is_not_ready() -> None:
    async def scene(dial: Dial, port: int) -> None:
        with pytest.raises(DialError) as refusal:
            await dial(Target("web", port), Session("peer"))
        assert refusal.value.failure is Failure.NOT_READY

    _with_dial(scene, _NoSockets())


def test_our_own_service_being_away_is_not_ready() -> None:
    async def scene(dial: Dial, _port: int) -> None:
        session = Session("peer")
        with pytest.raises(DialError) as refusal:
            await dial(Target("dconnect", 80), session)
        assert refusal.value.failure is Failure.NOT_READY
        assert session.address == "the agent"

    _with_dial(scene)


def test_a_kept_connection_is_used_while_its_name_leads_there() -> None:
    async def scene(dial: Dial, port: int) -> None:
        upstreams, target = Upstreams(dial), Target("web", port)
        stream = await upstreams.open(target, Session("peer"))
        upstreams.keep(target, stream)
        assert await upstreams.reuse(target) is stream
        assert await upstreams.reuse(target) is None
        upstreams.keep(target, stream)
        upstreams.close()
        assert stream.channel.sock.fileno() == -1

    _with_dial(scene)


def test_a_kept_connection_is_closed_when_its_name_has_moved() -> None:
    resolve = FakeResolve(_NAMES)

    async def main() -> None:
        poller, sockets = Poller(), FakeSockets()
        dial = Dial(
            poller=poller,
            resolve=resolve,
            sockets=sockets,
            judge=Judge(lambda: Policy(inventory(), "allow"), sockets.is_local),
            own_service="",
            own_ports=frozenset(),
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            upstreams, target = Upstreams(dial), Target("web", listener.getsockname()[1])
            for moved in ([ip_address("127.0.0.2")], None):
                resolve.names["web"] = _NAMES["web"]
                stream = await upstreams.open(target, Session("peer"))
                upstreams.keep(target, stream)
                if moved is None:
                    del resolve.names["web"]
                else:
                    resolve.names["web"] = moved
                assert await upstreams.reuse(target) is None
                assert stream.channel.sock.fileno() == -1
        poller.close()

    asyncio.run(main())


def test_idle_connections_are_bounded_and_confused_ones_are_not_kept() -> None:
    async def scene(dial: Dial, port: int) -> None:
        upstreams, streams = Upstreams(dial), []
        for number in range(10):
            stream = await upstreams.open(Target("web", port), Session("peer"))
            upstreams.keep(Target(f"web{number}", port), stream)
            streams.append(stream)
        assert [stream.channel.sock.fileno() < 0 for stream in streams] == [True, True] + [False] * 8
        confused = await upstreams.open(Target("web", port), Session("peer"))
        confused.buffer += b"bytes nobody asked for"
        upstreams.keep(Target("web", port), confused)
        assert confused.channel.sock.fileno() == -1
        upstreams.close()
        assert all(stream.channel.sock.fileno() < 0 for stream in streams)

    _with_dial(scene)
