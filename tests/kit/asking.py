"""HTTP requests of a test to a front door."""

from __future__ import annotations

import socket

from kit.door import DoorThread, Server


def get(server: Server, path: bytes = b"/", name: bytes = b"web") -> bytes:
    """An absolute-form GET of a test's server under a container's name."""
    return b"GET http://%s:%d%s HTTP/1.1\r\nHost: x\r\n\r\n" % (name, server.port, path)


def ask(door: DoorThread, request: bytes) -> socket.socket:
    """A fresh connection on which the request was sent."""
    client = door.client()
    client.sendall(request)
    return client


def status(response: bytes) -> int:
    """The status of a response's first line."""
    return int(response.split(b" ", 2)[1])
