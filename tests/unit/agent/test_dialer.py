from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dconnect.agent.dialer import MAX_CLIENTS, MAX_DESCRIPTORS, SOCKET_NAME, Dialer

WAIT = 5.0


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A dialer in a thread; it ends by itself once its last client has left."""
    made = Dialer(tmp_path / SOCKET_NAME, lonely_seconds=0.2)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield tmp_path / SOCKET_NAME
    thread.join(WAIT)
    assert not thread.is_alive(), "a dialer without clients must end"
    made.close()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(WAIT)
    client.connect(str(path))
    return client


def ask(client: socket.socket, request: bytes) -> tuple[bytes, list[socket.socket]]:
    client.send(request)
    message, descriptors, _, _ = socket.recv_fds(client, 16, MAX_DESCRIPTORS)
    return message, [socket.socket(fileno=descriptor) for descriptor in descriptors]


@pytest.mark.parametrize(
    ("kind", "family", "style"),
    [
        (b"4", socket.AF_INET, socket.SOCK_STREAM),
        (b"6", socket.AF_INET6, socket.SOCK_STREAM),
        (b"u", socket.AF_INET, socket.SOCK_DGRAM),
        (b"v", socket.AF_INET6, socket.SOCK_DGRAM),
    ],
)
def test_each_kind_gives_sockets_of_its_family_and_type(
    path: Path, kind: bytes, family: socket.AddressFamily, style: socket.SocketKind
) -> None:
    with connect(path) as client:
        message, sockets = ask(client, kind + b"\x03")
        assert message == kind + b"\x00"
        assert [(sock.family, sock.type) for sock in sockets] == [(family, style)] * 3
        assert not any(os.get_blocking(sock.fileno()) for sock in sockets)
        for sock in sockets:
            sock.close()


def test_a_socket_it_made_connects(path: Path) -> None:
    with connect(path) as client, socket.create_server(("127.0.0.1", 0)) as server:
        _, (sock,) = ask(client, b"4\x01")
        with sock:
            sock.settimeout(WAIT)
            sock.connect(server.getsockname())
            assert sock.getpeername() == server.getsockname()


def test_more_than_one_message_can_carry_is_cut_to_what_it_can(path: Path) -> None:
    with connect(path) as client:
        _, sockets = ask(client, b"4\xff")
        assert len(sockets) == MAX_DESCRIPTORS
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize("nonsense", [b"4", b"x\x01", b"4\x01\x01", b"\x00\x00", b"4" * 16])
def test_nonsense_ends_that_client_alone(path: Path, nonsense: bytes) -> None:
    with connect(path) as good, connect(path) as bad:
        bad.send(nonsense)
        assert bad.recv(16) == b""
        message, sockets = ask(good, b"4\x01")
        assert message == b"4\x00"
        sockets[0].close()


def test_it_keeps_no_descriptor_that_it_gave_away(path: Path) -> None:
    with connect(path) as client:

        def count(rounds: int) -> int:
            for _ in range(rounds):
                for sock in ask(client, b"4\x40")[1]:
                    sock.close()
            ask(client, b"4\x00")  # its copies are closed after the reply, and before it reads on
            return open_descriptors()

        assert count(1) == count(20)


def test_a_client_that_takes_no_replies_is_sent_away_and_none_is_lost_before(path: Path) -> None:
    with connect(path) as client:
        asked = answered = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while asked < 10_000:
                client.send(b"4\x00")
                asked += 1
        with contextlib.suppress(ConnectionResetError):
            while client.recv(16):
                answered += 1
        assert 0 < answered < asked < 10_000


def test_one_client_too_many_is_sent_away(path: Path) -> None:
    clients = [connect(path) for _ in range(MAX_CLIENTS)]
    for client in clients:
        ask(client, b"u\x01")[1][0].close()
    with connect(path) as late:
        assert late.recv(16) == b""
    for client in clients:
        client.close()


def test_errors_are_told_by_number(path: Path) -> None:
    with connect(path) as client:
        ask(client, b"4\x01")[1][0].close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The dialer is a thread of ours: its descriptors are ours too.
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + 3, hard))
        try:
            client.send(b"4\x40")
            message = client.recv(16, socket.MSG_PEEK)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert message == b"4\x18"  # EMFILE is 24
        _, descriptors, _, _ = socket.recv_fds(client, 16, MAX_DESCRIPTORS)
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_successor_takes_the_place_of_a_dead_predecessor(tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).touch()
    with Dialer(tmp_path / SOCKET_NAME, lonely_seconds=0.0) as made:
        made.run()


def test_the_kernel_notices_a_peer_that_vanished(path: Path) -> None:
    with connect(path) as client:
        _, (sock,) = ask(client, b"4\x01")
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            interval = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            probes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle + interval * probes <= 200
