"""How fast a connection of the tunnel may send: as the buffers and windows say, without a pace of its own."""

from __future__ import annotations

import contextlib
import socket

_CONGESTION = getattr(socket, "TCP_CONGESTION", None)


def unpace(sock: socket.socket) -> None:
    """Have a connection, or all that a listener will accept, go without BBR, where that is a system's default.

    BBR takes its pace from what a line carries. Here there is none, but processes that take turns at processors: it
    mistakes each wait for a slower line, and sets a timer for each burst. Reno is in every Linux, for every user.
    """
    if _CONGESTION is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _CONGESTION, b"reno")
