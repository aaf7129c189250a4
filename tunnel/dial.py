"""Opening the link: TCP to the front door, and HTTP's upgrade (RFC 9110 §7.8). Blocking; it runs in a thread."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import NamedTuple

from dconnect.core.congestion import unpace
from dconnect.core.errors import DconnectError, NotRunning
from dconnect.core.limits import (
    LINK_ANSWER_BYTES,
    LINK_CONNECT_SECONDS,
    LINK_RECEIVE_BYTES,
    LINK_SEND_BYTES,
    LINK_UNSENT_BYTES,
    LINK_UNTAKEN_SECONDS,
)

PATH = "/api/v1/link"
PROTOCOL = "dconnect-link/1"
_OPTIONAL = {"TCP_NOTSENT_LOWAT": LINK_UNSENT_BYTES, "TCP_USER_TIMEOUT": round(LINK_UNTAKEN_SECONDS * 1000)}
"""What not every system has; the second, RFC 5482's, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the agent's front door is, and what opens it to a tunnel."""

    host: str
    """An address without brackets."""
    port: int
    token: str = field(repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection(NamedTuple):
    """An open link."""

    sock: socket.socket
    received: bytes
    """What came right behind the answer: the first frames."""
    door: Door


class TokenRefused(DconnectError):
    """The agent does not take the token."""


class NoTunnel(DconnectError):
    """The agent runs without a tunnel."""


def connect(door: Door) -> Connection:
    """Open the link.

    Raises: NotRunning when nothing listens; TokenRefused, NoTunnel; DconnectError for other answers and none.
    """
    try:
        sock = _socket(door)
    except ConnectionRefusedError:
        raise NotRunning(f"Nothing listens at {door}; start the agent with `dconnect up --tun`.") from None
    except OSError as error:
        raise DconnectError(
            f"The agent cannot be reached at {door} ({_words(error)}); see `dconnect status`."
        ) from error
    try:
        return Connection(sock, upgrade(sock, door), door)
    except OSError as error:
        sock.close()
        raise DconnectError(f"The agent at {door} does not answer ({_words(error)}); see `dconnect logs`.") from error
    except BaseException:
        sock.close()
        raise


def _socket(door: Door) -> socket.socket:
    """A connection whose kernel buffers are small: what waits is to wait where the order can still be changed."""
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(LINK_CONNECT_SECONDS)
        # Before connecting: the window's scale is told in the SYN (RFC 7323 §2.2).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINK_SEND_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LINK_RECEIVE_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unpace(sock)
        for name, value in _OPTIONAL.items():
            with contextlib.suppress(AttributeError, OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.connect((door.host, door.port))
    except BaseException:
        sock.close()
        raise
    return sock


def upgrade(sock: socket.socket, door: Door) -> bytes:
    """Ask for the link on an open connection; the bytes behind the answer's head.

    Raises: DconnectError for a refusal; OSError.
    """
    lines = (
        f"GET {PATH} HTTP/1.1",
        f"Host: {door}",
        "Connection: Upgrade",
        f"Upgrade: {PROTOCOL}",
        f"Authorization: Bearer {door.token}",
        "",
        "",
    )
    sock.sendall("\r\n".join(lines).encode())
    received = b""
    while b"\r\n\r\n" not in received:
        part = sock.recv(LINK_ANSWER_BYTES)
        if not part:
            raise ConnectionResetError("it closed the connection")
        received += part
        if len(received) > LINK_ANSWER_BYTES:
            break
    head, _, rest = received.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    words = status.split(" ", 2)
    code = words[1] if len(words) > 1 and words[0].startswith("HTTP/1.") else ""
    if code == "101" and any(each.lower().replace(" ", "") == f"upgrade:{PROTOCOL}" for each in fields):
        return rest
    raise _refusal(door, code, rest, sock)


def _refusal(door: Door, code: str, body: bytes, sock: socket.socket) -> DconnectError:
    if code == "401":
        return TokenRefused(
            f"The agent at {door} does not take this user's token; `dconnect up --tun` makes the right one known."
        )
    if code == "503":
        with contextlib.suppress(OSError):
            while len(body) < LINK_ANSWER_BYTES and (part := sock.recv(LINK_ANSWER_BYTES)):
                body += part
        text = body.decode(errors="replace").strip()
        if text and len(text) <= 512 and text.isprintable():
            return NoTunnel(text)
    if code in ("404", "405", "426", "501", "503"):
        return NoTunnel(f"The agent at {door} has no tunnel; `dconnect up --tun` gives it one.")
    if code:
        return DconnectError(f"The agent at {door} refuses the tunnel (HTTP {code}); see `dconnect logs`.")
    return DconnectError(f"What answers at {door} is not dconnect; another program may have the port.")


def _words(error: OSError) -> str:
    return "time-out" if isinstance(error, TimeoutError) else error.strerror or str(error)
