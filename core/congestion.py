"""How fast a connection may send: as the buffers and windows say, without a pace of its own."""

from __future__ import annotations

import contextlib
import socket

CONGESTION_CONTROL = "reno"
"""It is in every Linux, for every user."""
_OPTION = getattr(socket, "TCP_CONGESTION", None)


def unpace(sock: socket.socket) -> None:
    """Have a connection, or all that a listener will accept, go without BBR, where that is a system's default.

    BBR takes its pace from what a line carries. Here there is none, but processes that take turns at processors: it
    mistakes each wait for a slower line, and sets a timer for each burst. To be called before the connection is there:
    once BBR has begun, the kernel keeps up the pace for whatever comes after it.
    """
    if _OPTION is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _OPTION, CONGESTION_CONTROL.encode())
