"""Two ends of a connection: a relay's, which does not block, and a test's, which has a deadline."""

from __future__ import annotations

import socket
import struct

from kit.door import PATIENCE


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.settimeout(PATIENCE)
    return near, far


def unix_pair() -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.settimeout(PATIENCE)
    return near, far


def give_carrier(link: socket.socket, number: int) -> tuple[socket.socket, socket.socket]:
    """Have a carrier relay, told by its owner's end of the link; the user's socket and the service's."""
    (client, user), (upstream, service) = tcp_pair(), tcp_pair()
    with client, upstream:
        socket.send_fds(link, [struct.pack("!Q", number)], (client.fileno(), upstream.fileno()))
    return user, service
