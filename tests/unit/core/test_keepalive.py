"""When idle peers are probed."""

from __future__ import annotations

import socket
from collections import Counter

from dconnect.core.keepalive import probe_in_turn, watch_peer
from dconnect.core.limits import PROBE_IDLE_SECONDS

COARSE_FROM = 131
"""From so many seconds on a timer of Linux at 250 Hz is due every 16 s only (kernel/time/timer.c: levels)."""


def idle_seconds(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)


def test_a_peer_that_vanished_is_given_up_within_minutes() -> None:
    with socket.socket() as sock:
        watch_peer(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        interval = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        probes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert 60 <= idle_seconds(sock) < COARSE_FROM
        assert 30 <= interval * probes <= 60


def test_connections_are_probed_one_after_the_other() -> None:
    times: Counter[int] = Counter()
    with socket.socket() as sock:
        for _ in range(10 * len(PROBE_IDLE_SECONDS)):
            probe_in_turn(sock)
            times[idle_seconds(sock)] += 1
    assert set(times) == set(PROBE_IDLE_SECONDS)
    assert set(times.values()) == {10}


def test_what_a_listener_accepts_has_a_time_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watch_peer(listener)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert idle_seconds(accepted) == idle_seconds(listener), "the kernel hands it on"
                probe_in_turn(accepted)
                assert idle_seconds(accepted) != idle_seconds(listener)
