"""What helper and pump tell one another: JSON objects, one a line, over a socket pair; a descriptor may come along."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import CHANNEL_LINE_BYTES

_MOST_DESCRIPTORS = 64
"""In one message: a device has five, and sockets come TUNNEL_SOCKETS at a time."""


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._received = b""
        self.descriptors: list[int] = []
        """Received and not yet taken."""

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Tell something.

        Raises: OSError when the other end is gone.
        """
        line = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(self.sock, [line], fds)
        self.sock.sendall(line[sent:])

    def take(self, count: int) -> list[int]:
        """So many of the descriptors that were received, the oldest; they are the caller's."""
        taken, self.descriptors = self.descriptors[:count], self.descriptors[count:]
        return taken

    def receive(self) -> list[dict[str, Any]] | None:
        """What has come, once something has; None: the other end is gone.

        Raises: MalformedMessage.
        """
        try:
            part, fds, _, _ = socket.recv_fds(self.sock, 65536, _MOST_DESCRIPTORS)
        except OSError:
            return None
        for fd in fds:
            os.set_inheritable(fd, False)
        self.descriptors += fds
        if not part:
            return None
        *lines, self._received = (self._received + part).split(b"\n")
        if len(self._received) > CHANNEL_LINE_BYTES:
            raise MalformedMessage("The other half of the tunnel sends a line without end.")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            raise MalformedMessage("The other half of the tunnel sends what is not JSON.") from None
        if not all(isinstance(message, dict) for message in messages):
            raise MalformedMessage("The other half of the tunnel sends what is no JSON object.")
        return messages
