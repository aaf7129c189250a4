"""What a connection of the tunnel takes its pace from."""

from __future__ import annotations

import socket
import sys

import pytest

from dconnect.core.congestion import unpace


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a connection cannot choose")
def test_what_a_listener_accepts_has_no_pace_of_its_own_either() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        unpace(listener)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            told = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    assert told.rstrip(b"\0") == b"reno"


def test_what_is_no_tcp_connection_is_left_as_it_is() -> None:
    near, far = socket.socketpair()
    with near, far:
        unpace(near)
        near.send(b"x")
        assert far.recv(1) == b"x"
