"""ICMP errors about what a connected datagram or raw socket has sent, as the kernel keeps them (ip(7), IP_RECVERR)."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from dconnect.core.failure import Failure, from_errno
from dconnect.tunnel.wire import icmp

_IP_RECVERR, _IPV6_RECVERR = 11, 25
_EXTENDED = struct.Struct("=IBBBB")
"""The beginning of ``sock_extended_err``: errno, origin, type, code."""
_FROM_NETWORK = (2, 3)
"""SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6."""
_EXPIRED = ((2, 11, 0), (3, 3, 0))
"""Origin, type and code of "time exceeded in transit"."""
_ANSWERS = 16
"""Read at once: whoever is behind has more to do than to hear the same again."""


def watch(sock: socket.socket) -> None:
    """Have errors kept."""
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_RECVERR) if sock.family == socket.AF_INET6 else (socket.IPPROTO_IP, _IP_RECVERR)
    )
    sock.setsockopt(level, option, 1)


def code_of(sock: socket.socket, error: OSError) -> int | None:
    """Which code an ICMPv4 "destination unreachable" would have for what a socket call failed with, or EXPIRED.

    Takes the kernel's notes on the way, or the socket stays readable for ever. None: the network did not say so.
    """
    code = _code(error.errno or 0)
    with contextlib.suppress(OSError):
        for _ in range(_ANSWERS):
            _, ancillary, _, _ = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            for _, _, data in ancillary:
                if len(data) >= _EXTENDED.size:
                    number, origin, kind, told, _ = map(int, _EXTENDED.unpack_from(data))
                    if origin == _FROM_NETWORK[0] and kind == 3:
                        code = told
                    elif (origin, kind, told) in _EXPIRED:
                        code = icmp.EXPIRED
                    elif origin in _FROM_NETWORK:
                        code = _code(number)
    return code


def _code(number: int) -> int | None:
    """For an errno."""
    if number == errno.ECONNREFUSED:
        return icmp.PORT
    failure = from_errno(number)
    told = failure.value.icmp
    return told[1] if told is not None and failure is not Failure.GENERAL else None
