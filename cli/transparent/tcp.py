"""The process that ends the host's TCP, as the pump sees it (``terminal`` is its program)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from dconnect.cli.transparent.channel import Channel
from dconnect.core.errors import MalformedMessage
from dconnect.tunnel.dial import Door
from dconnect.tunnel.wire.messages import Interface

_END_SECONDS = 2.0
"""For it to end by itself; its connections are cut at once."""


class TcpProcess:
    """Its owner. It ends with its channel, however we end."""

    def __init__(self, descriptors: Sequence[int], want_sockets: Callable[[int], None]) -> None:
        """Start it.

        Args:
            descriptors: the packet socket, and the SYNs' device; its own from now on.
            want_sockets: asks the helper for more sockets of the private network, of an IP version.
        Raises: OSError.
        """
        self._want_sockets = want_sockets
        self.moved = (0, 0)
        """Bytes that connections have sent and received, as it said last."""
        self.connections = self.dropped = 0
        """Open then; and SYNs that went no further so far."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "dconnect.cli.transparent.terminal",
                    json.dumps({"channel": theirs.fileno(), "descriptors": list(descriptors)}),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            for each in descriptors:
                os.close(each)
        self.channel = Channel(ours)
        """Readable when there is something for ``hear``."""

    def hear(self) -> bool:
        """Take what it says; False when it has ended. Raises: MalformedMessage."""
        messages = self.channel.receive()
        if messages is None:
            return False
        for message in messages:
            if "sockets" in message:
                self._want_sockets(int(message["sockets"]))
            else:
                up, down = message["moved"]
                self.moved, self.connections = (int(up), int(down)), int(message["connections"])
                self.dropped = int(message["dropped"])
        return True

    def tell_door(self, door: Door | None) -> None:
        """Where the agent is; None while there is no link."""
        self._tell({"door": [door.host, door.port, door.token] if door is not None else None})

    def tell_addresses(self, addresses: Iterable[Interface]) -> None:
        """Whose connections are taken: the host's own."""
        self._tell({"addresses": [str(each.ip) for each in addresses]})

    def supply(self, version: int, descriptors: Sequence[int]) -> None:
        """Bring sockets of the private network."""
        self._tell({"sockets": version, "count": len(descriptors)}, descriptors)
        for each in descriptors:
            os.close(each)

    def _tell(self, message: dict[str, object], descriptors: Sequence[int] = ()) -> None:
        with suppress(OSError):  # it has ended, which ``hear`` tells
            self.channel.send(message, descriptors)

    def close(self) -> None:
        """End it; its connections are cut."""
        self.channel.sock.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def door_of(message: dict[str, object]) -> Door | None:
    """The door in what ``tell_door`` said. Raises: MalformedMessage."""
    told = message["door"]
    if told is None:
        return None
    if not isinstance(told, list) or len(told) != 3:
        raise MalformedMessage("The pump names no door.")
    host, port, token = told
    return Door(str(host), int(port), str(token))
