"""Sockets that go from one process of the agent to another, which goes on with them.

Wire (SOCK_SEQPACKET, one message for each client, no answer):
    a JSON object            with as many descriptors as that kind of message has (SCM_RIGHTS)

When the other process is not there at the moment, whoever asks finds nobody behind the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import structlog

from dconnect.core.limits import HANDOVER_LINKS, HANDOVER_MESSAGE_BYTES

Take: TypeAlias = Callable[[dict[str, Any], list[socket.socket]], None]

log = structlog.get_logger()


class Sender:
    """Passes sockets to whoever listens behind a path; the connection there is kept."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._link: socket.socket | None = None

    def send(self, told: dict[str, Any], *descriptors: int) -> None:
        """Pass them; ours stay open. Raises OSError: nobody is there, or too busy."""
        message = orjson.dumps(told)
        if self._link is not None:
            try:
                socket.send_fds(self._link, [message], descriptors)
            except BlockingIOError:
                raise
            except OSError:
                self.close()  # of a process that died; its successor has another one
            else:
                return
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            link.connect(self._path)
            socket.send_fds(link, [message], descriptors)
        except OSError:
            link.close()
            raise
        self._link = link

    def close(self) -> None:
        """Give up the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None


class Receiver:
    """The other side."""

    def __init__(self, path: str, count: int, take: Take) -> None:
        """Prepare.

        Args:
            path: where to listen.
            count: sockets in each message.
            take: takes a message and its sockets, non-blocking, which are its own from then on; it reads the message
                first, and what it does not understand (ValueError, KeyError, TypeError) ends the connection.
        """
        self._path = Path(path)
        self._count = count
        self._take = take
        self._links: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Listen, in place of a predecessor that died."""
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(self._path))
        self._listener.listen(HANDOVER_LINKS)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def close(self) -> None:
        """Take no more: whoever asks from now on finds nobody."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for link in tuple(self._links):
            self._drop(link)

    def _accept(self, listener: socket.socket) -> None:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        if len(self._links) >= HANDOVER_LINKS:
            link.close()
            return
        link.setblocking(False)
        self._links.add(link)
        asyncio.get_running_loop().add_reader(link, self._receive, link)

    def _receive(self, link: socket.socket) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(
                link, HANDOVER_MESSAGE_BYTES, self._count, flags=socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._drop(link)
            return
        try:
            told = orjson.loads(message)
            peer = str(told["peer"])
            if len(descriptors) == self._count:
                sockets = _sockets(descriptors)
                descriptors = []  # theirs now
                self._take(told, sockets)
                return
            # We have no room for them; the kernel has closed what did not fit.
            log.warning("a client is lost on its way here: the process has no descriptors left", peer=peer)
        except (OSError, ValueError, KeyError, TypeError):
            self._drop(link)
        for descriptor in descriptors:
            os.close(descriptor)

    def _drop(self, link: socket.socket) -> None:
        with contextlib.suppress(ValueError):
            asyncio.get_running_loop().remove_reader(link)
        self._links.discard(link)
        link.close()


def _sockets(descriptors: list[int]) -> list[socket.socket]:
    """Raises: OSError for what is none; the descriptors are still the caller's then."""
    sockets: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            # Type and protocol are given, which spares two system calls; asking for the family tells whether it is one.
            sockets.append(socket.socket(-1, socket.SOCK_STREAM, 0, descriptor))
            sockets[-1].setblocking(False)
    except OSError:
        for sock in sockets:
            sock.detach()
        raise
    return sockets
