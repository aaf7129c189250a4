from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from dconnect.agent.dialer import SOCKET_NAME
from dconnect.agent.sockets import DialerSockets, LocalSockets
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure
from dconnect.core.limits import DIALER_BATCH, PROBE_BATCH
from kit.descriptors import no_descriptors
from kit.dialer import running_dialer

LOOPBACK = ip_address("127.0.0.1")
DEADLINE = 10.0


@asynccontextmanager
async def pool(directory: Path) -> AsyncIterator[DialerSockets]:
    sockets = DialerSockets(directory)
    sockets.start()
    try:
        yield sockets
    finally:
        await sockets.close()


async def connects(sock: socket.socket) -> bool:
    with sock, socket.create_server(("127.0.0.1", 0)) as server:
        await asyncio.get_running_loop().sock_connect(sock, server.getsockname())
        return bool(sock.getpeername() == server.getsockname())


def test_sockets_come_from_the_dialer_and_connect(tmp_path: Path) -> None:
    async def scenario() -> None:
        with running_dialer(tmp_path):
            async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
                await sockets.wait_connected(DEADLINE)
                assert sockets.connected
                # More than a batch, so the pool was refilled on the way.
                for _ in range(200):
                    assert await connects(await sockets.stream(LOOPBACK))

    asyncio.run(scenario())


def pace_of(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a connection cannot choose")
@pytest.mark.parametrize("dialer", [True, False])
def test_a_way_to_a_container_has_no_pace_and_one_to_the_internet_has_the_systems(tmp_path: Path, dialer: bool) -> None:
    async def scenario() -> None:
        with running_dialer(tmp_path):
            async with asyncio.timeout(DEADLINE), pool(tmp_path) as pooled:
                sockets = pooled if dialer else LocalSockets()
                with (
                    socket.socket() as as_ever,
                    await sockets.stream(ip_address("172.17.0.2")) as near,
                    await sockets.stream(ip_address("fd00:dc::2")) as near6,
                    await sockets.stream(ip_address("9.9.9.9")) as far,
                    await sockets.stream(ip_address("2620:fe::fe")) as far6,
                ):
                    assert [pace_of(sock) for sock in (near, near6)] == [b"reno"] * 2
                    assert [pace_of(sock) for sock in (far, far6)] == [pace_of(as_ever)] * 2

    asyncio.run(scenario())


def test_many_at_once_are_all_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        with running_dialer(tmp_path):
            async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
                made = await asyncio.gather(*(sockets.stream(LOOPBACK) for _ in range(300)))
                assert len({sock.fileno() for sock in made}) == 300
                for sock in made:
                    sock.close()

    asyncio.run(scenario())


def test_whoever_comes_in_between_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def scenario() -> None:
        with running_dialer(tmp_path):
            async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
                await sockets.wait_connected(DEADLINE)
                waiting = [asyncio.ensure_future(sockets.datagram(LOOPBACK)) for _ in range(PROBE_BATCH)]
                while not sockets._ready[b"u"]:  # noqa: ASYNC110 - it must be seen before anybody is woken
                    await asyncio.sleep(0)
                quick = [await sockets.datagram(LOOPBACK) for _ in range(PROBE_BATCH // 2 - 1)]
                for sock in (*quick, *await asyncio.gather(*waiting)):
                    sock.close()

    asyncio.run(scenario())


def test_when_the_dialer_dies_the_pool_serves_on_and_a_new_dialer_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
            with running_dialer(tmp_path):
                (await sockets.stream(LOOPBACK)).close()
            await sockets.wait_lost()
            assert not sockets.connected
            assert await connects(await sockets.stream(LOOPBACK))
            with running_dialer(tmp_path):
                await sockets.wait_connected(DEADLINE)
                for _ in range(100):
                    (await sockets.stream(LOOPBACK)).close()

    asyncio.run(scenario())


def test_what_was_asked_of_a_dead_dialer_is_asked_of_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
            with running_dialer(tmp_path) as first:
                (await sockets.stream(LOOPBACK)).close()
                first.send_signal(signal.SIGSTOP)
                for _ in range(DIALER_BATCH // 2):  # so many that more are asked for
                    (await sockets.stream(LOOPBACK)).close()
            await sockets.wait_lost()
            with running_dialer(tmp_path):
                for _ in range(DIALER_BATCH):
                    (await sockets.stream(LOOPBACK)).close()

    asyncio.run(scenario())


def test_without_a_dialer_a_dial_fails_in_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
            with pytest.raises(DialError, match="dialer") as caught:
                await sockets.stream(LOOPBACK)
            assert caught.value.failure is Failure.NOT_READY

    asyncio.run(scenario())


async def take(sockets: DialerSockets, count: int, taken: list[socket.socket]) -> None:
    for _ in range(count):
        taken.append(await sockets.stream(LOOPBACK))  # noqa: PERF401 - an error leaves what was taken


def test_without_room_for_descriptors_a_dial_fails_in_words_at_once_and_later_ones_do_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        with running_dialer(tmp_path):
            async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
                await sockets.wait_connected(DEADLINE)
                taken: list[socket.socket] = []
                await take(sockets, DIALER_BATCH, taken)
                while sockets._asked:  # noqa: ASYNC110 - until what was asked for has come
                    await asyncio.sleep(0)
                with no_descriptors(), pytest.raises(DialError, match="Too many open files") as caught:
                    await take(sockets, 2 * DIALER_BATCH, taken)
                assert caught.value.failure is Failure.NOT_READY
                taken.append(await sockets.stream(LOOPBACK))
                for sock in taken:
                    sock.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "failure", "words"),
    [
        (errno.EAFNOSUPPORT, Failure.NETWORK_UNREACHABLE, "IPv6 is off"),
        (errno.EMFILE, Failure.NOT_READY, "Too many open files"),
    ],
)
def test_when_no_socket_can_be_made_all_who_wait_are_told_why_and_the_next_dial_asks_again(
    tmp_path: Path, code: int, failure: Failure, words: str
) -> None:
    asked = []

    def serve(listener: socket.socket) -> None:
        link, _ = listener.accept()
        with link:
            while request := link.recv(16):
                asked.append(request)
                link.send(request[:1] + bytes((code,)))

    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
            await sockets.wait_connected(DEADLINE)
            address = ip_address("2001:db8::7")
            dials = [sockets.stream(address), sockets.stream(address), sockets.is_local(address)]
            for refusal in await asyncio.gather(*dials, return_exceptions=True):
                assert isinstance(refusal, DialError)
                assert refusal.failure is failure
                assert words in str(refusal)
            with pytest.raises(DialError, match=words):
                await sockets.stream(address)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        asyncio.run(scenario())
        thread.join(DEADLINE)
    assert [request[:1] for request in asked] == [b"4", b"6", b"v", b"6"]


def test_a_waiting_dial_that_is_cancelled_takes_no_socket_from_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE), pool(tmp_path) as sockets:
            first = asyncio.ensure_future(sockets.stream(LOOPBACK))
            second = asyncio.ensure_future(sockets.stream(LOOPBACK))
            await asyncio.sleep(0)
            first.cancel()
            with running_dialer(tmp_path):
                assert await connects(await second)

    asyncio.run(scenario())


def test_closing_leaves_no_descriptor(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE):
            async with pool(tmp_path) as sockets:
                (await sockets.stream(LOOPBACK)).close()
                assert await sockets.is_local(LOOPBACK)

    with running_dialer(tmp_path):
        asyncio.run(scenario())
        before = len(list(Path("/proc/self/fd").iterdir()))
        asyncio.run(scenario())
        assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("text", "local"),
    [("127.0.0.1", True), ("::1", True), ("198.51.100.7", False), ("2001:db8::7", False)],
)
def test_the_kernel_knows_its_own_addresses(text: str, local: bool) -> None:
    async def scenario() -> bool:
        sockets = LocalSockets()
        try:
            return await sockets.is_local(ip_address(text))
        finally:
            await sockets.close()

    assert asyncio.run(scenario()) is local


ADDRESSES = ("198.51.100.7", "127.0.0.1", "198.51.100.7", "2001:db8::7", "::1", "2001:db8::7", "127.0.0.1")


@pytest.mark.parametrize("own", [True, False])
def test_the_answer_does_not_depend_on_what_was_asked_before(tmp_path: Path, own: bool) -> None:
    async def scenario() -> list[bool]:
        async with asyncio.timeout(DEADLINE), pool(tmp_path) as dialed:
            sockets = LocalSockets() if own else dialed
            # More than a batch, so the pool was refilled on the way.
            return [await sockets.is_local(ip_address(text)) for text in ADDRESSES * PROBE_BATCH]

    with running_dialer(tmp_path):
        assert asyncio.run(scenario()) == [text in ("127.0.0.1", "::1") for text in ADDRESSES] * PROBE_BATCH
