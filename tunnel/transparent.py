"""Sockets that take connections to addresses that are none of this network's (IP_TRANSPARENT, ip(7))."""

from __future__ import annotations

import socket

_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75
_OPTION = {4: (socket.IPPROTO_IP, _IP_TRANSPARENT), 6: (socket.IPPROTO_IPV6, _IPV6_TRANSPARENT)}


def transparent(version: int) -> socket.socket:
    """One of TCP, unbound, non-blocking; so ``getsockname`` of what it accepts is where the host wanted to go.

    Raises: OSError.
    """
    sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(*_OPTION[version], 1)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
