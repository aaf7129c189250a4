"""What the agent may answer to the upgrade, and what a person is told then."""

from __future__ import annotations

import socket
import threading

import pytest

from dconnect.core.errors import DconnectError
from dconnect.core.limits import LINK_UNTAKEN_SECONDS
from dconnect.tunnel.dial import Door, NoTunnel, TokenRefused, connect, upgrade

DOOR = Door("10.1.2.3", 1080, "s3cret")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: dconnect-link/1\r\n\r\n"


def _upgraded(answer: bytes, door: Door = DOOR) -> tuple[bytes, bytes]:
    """The request, and what came behind the answer's head."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(answer)
        far.shutdown(socket.SHUT_WR)
        rest = upgrade(near, door)
        return far.recv(65536), rest


def test_the_request_is_an_upgrade_whose_token_stands_in_authorization_alone() -> None:
    request, _ = _upgraded(SWITCH)
    assert request == (
        b"GET /api/v1/link HTTP/1.1\r\n"
        b"Host: 10.1.2.3:1080\r\n"
        b"Connection: Upgrade\r\n"
        b"Upgrade: dconnect-link/1\r\n"
        b"Authorization: Bearer s3cret\r\n"
        b"\r\n"
    )


def test_an_ipv6_host_has_brackets() -> None:
    assert b"\r\nHost: [fd00::1]:1081\r\n" in _upgraded(SWITCH, Door("fd00::1", 1081, "t"))[0]


def test_the_first_frames_may_come_with_the_answer() -> None:
    assert _upgraded(SWITCH + b"\x04\0\0\x0812345678")[1] == b"\x04\0\0\x0812345678"


def test_fields_may_be_spelled_and_ordered_otherwise() -> None:
    assert _upgraded(b"HTTP/1.1 101 OK\r\nupgrade:  DCONNECT-link/1\r\nConnection: upgrade\r\n\r\n")[1] == b""


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", TokenRefused, "does not take this user's token; `dconnect up --tun`"),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 20\r\n\r\nThere is no tunnel.\n",
            NoTunnel,
            "^There is no tunnel.$",
        ),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n\x1b[2Jboo", NoTunnel, "`dconnect up --tun` gives it one"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", NoTunnel, "10.1.2.3:1080 has no tunnel; `dconnect up --tun` gives it one"),
        (b"HTTP/1.1 421 Misdirected Request\r\n\r\n", DconnectError, "refuses the tunnel .HTTP 421."),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", DconnectError, "HTTP 101"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", DconnectError, "is not dconnect"),
        (b"x" * 40_000, DconnectError, "is not dconnect"),
    ],
)
def test_another_answer_is_explained(answer: bytes, error: type[DconnectError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        _upgraded(answer)


def test_a_connection_that_closes_is_an_error_of_the_connection() -> None:
    with pytest.raises(OSError, match="closed the connection"):
        _upgraded(b"")


def test_the_token_is_in_no_representation() -> None:
    assert "s3cret" not in repr(DOOR)
    assert "s3cret" not in str(DOOR)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone has it")
def test_what_nobody_takes_ends_the_link_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer() -> None:
            accepted, _ = door.accept()
            with accepted:
                accepted.sendall(SWITCH)

        agent = threading.Thread(target=answer)
        agent.start()
        link = connect(Door("127.0.0.1", door.getsockname()[1], "t"))
        agent.join()
    with link.sock as sock:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert told == LINK_UNTAKEN_SECONDS * 1000
