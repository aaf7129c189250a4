"""Clients of UDP ASSOCIATE go from the worker that accepted them to the one that holds the UDP port."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dconnect.agent.handover import Handover, reception
from dconnect.agent.passing import Receiver, Sender
from dconnect.core.errors import DialError
from dconnect.core.events import Session, UdpSession
from dconnect.core.failure import Failure
from dconnect.core.limits import HANDOVER_LINKS
from dconnect.proxy.poller import Channel, Poller
from kit.descriptors import no_descriptors

DEADLINE = 10.0


class Adopted(asyncio.Queue[tuple[socket.socket, Session]]):
    """What a front door is given."""

    def take(self, sock: socket.socket, session: Session) -> None:
        self.put_nowait((sock, session))

    async def next(self) -> tuple[socket.socket, Session]:
        return await asyncio.wait_for(self.get(), DEADLINE)


def run(scenario: Callable[[Poller], Awaitable[None]]) -> None:
    async def main() -> None:
        poller = Poller()
        try:
            async with asyncio.timeout(DEADLINE):
                await scenario(poller)
        finally:
            poller.close()

    asyncio.run(main())


def record() -> UdpSession:
    return UdpSession("10.0.0.1:4711", "associate", started=12.5)


def nobody(_record: UdpSession, _error: OSError | None) -> None:
    raise AssertionError("its end is not told here")


def test_a_client_goes_to_the_other_worker_with_what_is_known_of_it(tmp_path: Path) -> None:
    async def scenario(poller: Poller) -> None:
        path, adopted = str(tmp_path / "h.sock"), Adopted()
        receiver, handover = reception(path, adopted.take), Handover(path)
        receiver.start()
        for n in range(3):  # over one link
            ours, client = socket.socketpair()
            with client:
                ours.setblocking(False)
                channel = Channel(poller, ours)
                assert not handover.take(channel, record(), nobody)
                assert ours.fileno() < 0
                sock, session = await adopted.next()
                with sock:
                    assert (session.peer, session.front, session.started) == ("10.0.0.1:4711", "associate", 12.5)
                    assert not sock.getblocking()
                    sock.send(bytes((n,)))
                    assert client.recv(10) == bytes((n,))
        await handover.close()
        receiver.close()

    run(scenario)


def test_what_happens_to_a_client_that_was_handed_over_is_no_event_here_any_more(tmp_path: Path) -> None:
    async def scenario(poller: Poller) -> None:
        path, adopted = str(tmp_path / "h.sock"), Adopted()
        receiver, handover = reception(path, adopted.take), Handover(path)
        receiver.start()
        ours, client = socket.socketpair()
        ours.setblocking(False)
        handover.take(Channel(poller, ours), record(), nobody)
        sock, _ = await adopted.next()
        client.send(b"word")
        client.close()
        assert poller._epoll.poll(0) == []
        sock.close()
        await handover.close()
        receiver.close()

    run(scenario)


def test_while_the_other_worker_is_away_the_client_is_refused_and_kept(tmp_path: Path) -> None:
    async def scenario(poller: Poller) -> None:
        path, adopted = str(tmp_path / "h.sock"), Adopted()
        receiver, handover = reception(path, adopted.take), Handover(path)
        ours, client = socket.socketpair()
        ours.setblocking(False)
        channel = Channel(poller, ours)

        def refused() -> None:
            with pytest.raises(DialError, match="away or very busy") as error:
                handover.take(channel, record(), nobody)
            assert error.value.failure is Failure.NOT_READY

        refused()
        receiver.start()
        handover.take(channel, record(), nobody)
        (await adopted.next())[0].close()
        receiver.close()
        ours, _ = socket.socketpair()
        channel = Channel(poller, ours)
        refused()
        channel.close()
        second = reception(path, adopted.take)  # its successor, at the path of the dead one
        second.start()
        ours, other = socket.socketpair()
        handover.take(Channel(poller, ours), record(), nobody)
        (await adopted.next())[0].close()
        client.close()
        other.close()
        _.close()
        await handover.close()
        second.close()

    run(scenario)


@pytest.mark.parametrize("message", [b"{}", b"no JSON", b'{"peer": 1}', b'{"peer": "x", "started": "soon"}', b"[]"])
def test_nonsense_ends_the_link_and_leaves_no_descriptor(tmp_path: Path, message: bytes) -> None:
    async def scenario(_poller: Poller) -> None:
        path, adopted = str(tmp_path / "h.sock"), Adopted()
        receiver = reception(path, adopted.take)
        receiver.start()
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(path)
            read, write = os.pipe()
            socket.send_fds(link, [message], [write])
            os.close(write)
            link.setblocking(False)
            assert await loop.sock_recv(link, 1) == b""
            assert os.read(read, 1) == b""  # nobody holds the other end
            os.close(read)
        assert adopted.empty()
        receiver.close()

    run(scenario)


def test_what_blocks_is_taken_as_what_does_not_and_what_is_no_socket_ends_the_link(tmp_path: Path) -> None:
    async def scenario(_poller: Poller) -> None:
        path = str(tmp_path / "h.sock")
        came: asyncio.Queue[list[socket.socket]] = asyncio.Queue()
        receiver = Receiver(path, 2, lambda _, sockets: came.put_nowait(sockets))
        receiver.start()
        sender = Sender(path)
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        far.setblocking(False)
        sender.send({"peer": "x"}, near.fileno(), near.fileno())
        taken = await asyncio.wait_for(came.get(), DEADLINE)
        assert [(sock.family, sock.type, sock.getblocking()) for sock in taken] == [
            (socket.AF_UNIX, socket.SOCK_STREAM, False)
        ] * 2
        for sock in taken:
            sock.close()
        read, write = os.pipe()
        sender.send({"peer": "x"}, near.fileno(), write)
        near.close()
        os.close(write)
        assert await asyncio.wait_for(loop.sock_recv(far, 1), DEADLINE) == b""  # nobody holds the other end
        assert os.read(read, 1) == b""
        os.close(read)
        far.close()
        assert came.empty()
        sender.close()
        receiver.close()

    run(scenario)


def test_links_are_bounded(tmp_path: Path) -> None:
    async def scenario(_poller: Poller) -> None:
        path = str(tmp_path / "h.sock")
        receiver = reception(path, Adopted().take)
        receiver.start()
        links = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(HANDOVER_LINKS + 1)]
        for link in links:
            link.connect(path)
            await asyncio.sleep(0)
        links[-1].setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(links[-1], 1) == b""
        for link in links:
            link.close()
        receiver.close()

    run(scenario)


def test_without_a_descriptor_for_it_the_client_is_lost_and_the_link_serves_on(tmp_path: Path) -> None:
    async def scenario(poller: Poller) -> None:
        path, adopted = str(tmp_path / "h.sock"), Adopted()
        receiver, handover = reception(path, adopted.take), Handover(path)
        receiver.start()
        pairs = [socket.socketpair() for _ in range(3)]
        channels = [Channel(poller, ours) for ours, _ in pairs]
        handover.take(channels[0], record(), nobody)
        (await adopted.next())[0].close()
        handover.take(channels[1], record(), nobody)
        pairs[1][1].setblocking(False)
        with no_descriptors():
            assert await asyncio.get_running_loop().sock_recv(pairs[1][1], 1) == b""
        handover.take(channels[2], record(), nobody)
        (await adopted.next())[0].close()
        for _, client in pairs:
            client.close()
        await handover.close()
        receiver.close()

    run(scenario)
