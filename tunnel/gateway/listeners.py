"""Listeners in the agent's own network: through them its kernel takes the hosts' connections, whatever their address.

Each is for one destination port of one family, for any address, on the TUN device alone. ``IP_TRANSPARENT`` lets a
connection have an address that is none of the machine's; so ``getsockname`` is where the host wanted to go.
"""

from __future__ import annotations

import contextlib
import socket
from collections import OrderedDict
from collections.abc import Callable

from dconnect.core.congestion import unpace
from dconnect.core.limits import LISTEN_BACKLOG, TUNNEL_LISTENERS, TUNNEL_SOCKET_BYTES
from dconnect.tunnel.transparent import transparent


def listen(version: int, port: int, device: str) -> socket.socket:
    """One listener, non-blocking. Raises: OSError."""
    sock = transparent(version)
    try:
        # The front door and DNS have ports of their own here, on all devices.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with contextlib.suppress(PermissionError):  # before Linux 5.7 it takes NET_RAW; strangers are cut in any case
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TUNNEL_SOCKET_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TUNNEL_SOCKET_BYTES)
    except BaseException:
        sock.close()
        raise
    return open_at(sock, port)


def open_at(sock: socket.socket, port: int) -> socket.socket:
    """Have a transparent socket listen at a port; it is closed where it cannot. Raises: OSError."""
    try:
        unpace(sock)
        sock.bind(("", port))
        sock.listen(LISTEN_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class Listeners:
    """Those that are open: the one used last stands last."""

    def __init__(
        self,
        make: Callable[[int, int], socket.socket],
        opened: Callable[[socket.socket], None],
        closing: Callable[[socket.socket], None],
    ) -> None:
        """Begin with none.

        Args:
            make: version and port → a listener; raises OSError.
            opened: watches a new one.
            closing: watches it no more.
        """
        self._make = make
        self._opened = opened
        self._closing = closing
        self._open: OrderedDict[tuple[int, int], socket.socket] = OrderedDict()
        self._users: dict[tuple[int, int], int] = {}
        """Connections that are still to come; such a listener is not closed."""

    def hold(self, version: int, port: int) -> None:
        """Have one, for one connection more. Raises: OSError."""
        key = version, port
        if key in self._open:
            self._open.move_to_end(key)
        else:
            if len(self._open) >= TUNNEL_LISTENERS:
                self._close_oldest()
            sock = self._make(version, port)
            self._open[key] = sock
            self._opened(sock)
        self._users[key] = self._users.get(key, 0) + 1

    def release(self, version: int, port: int) -> None:
        """That connection came, or will not."""
        key = version, port
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]

    def close(self) -> None:
        """Close all."""
        for sock in self._open.values():
            self._closing(sock)
            sock.close()
        self._open.clear()

    def _close_oldest(self) -> None:
        """Those in use are no more than the connections that are held; then there is one more for a moment."""
        oldest = next((key for key in self._open if key not in self._users), None)
        if oldest is not None:
            sock = self._open.pop(oldest)
            self._closing(sock)
            sock.close()
