"""Probes of idle peers by the kernel, that no connection outlive its peer for ever (TCP keepalive, tcp(7))."""

from __future__ import annotations

import itertools
import socket

from dconnect.core.limits import PROBE_IDLE_SECONDS, PROBE_INTERVAL_SECONDS, PROBES

_TIMES = itertools.cycle(PROBE_IDLE_SECONDS)


def watch_peer(sock: socket.socket) -> None:
    """Have an idle peer probed; a listener hands that on, but ``probe_in_turn`` is for what it accepts."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_INTERVAL_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    probe_in_turn(sock)


def probe_in_turn(sock: socket.socket) -> None:
    """Give a connection a time of its own to be probed at.

    Timers of some minutes are due every 2 to 16 s only, and all of them at once (Linux, 250 Hz). Thousands of
    connections that were opened together had their probes lost in one burst, beyond the 1,000 packets that wait for a
    processor (netdev_max_backlog), and other people's packets too; four times in a row, which cut a third of them.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, next(_TIMES))
