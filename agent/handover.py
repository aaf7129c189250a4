"""One worker holds the UDP port and all associations; the others hand it the clients that ask for one.

Wire (SOCK_SEQPACKET, one message for each client, no answer):
    {"peer": "10.0.0.1:4711", "started": 12.5}     with the client's TCP socket (SCM_RIGHTS)

``started`` is monotonic time, which all processes of a machine share. The worker that gets the client answers it. When
there is no such worker at the moment, the one that asks finds nobody behind the path, and refuses the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from dconnect.core.errors import DialError
from dconnect.core.events import Session, UdpSession
from dconnect.core.failure import Failure
from dconnect.core.limits import HANDOVER_LINKS
from dconnect.proxy.door import Ended
from dconnect.proxy.poller import Channel

_MESSAGE_BYTES = 512
"""A peer's address and a number."""

log = structlog.get_logger()


class Handover:
    """``door.Associates`` of a worker that does not hold the UDP port."""

    def __init__(self, path: str) -> None:
        """Prepare; ``path`` is where the holder of the port listens."""
        self._path = path
        self._link: socket.socket | None = None

    def take(self, channel: Channel, record: UdpSession, ended: Ended) -> bool:  # noqa: ARG002 - it ends elsewhere
        message = json.dumps({"peer": record.peer, "started": record.started}).encode()
        try:
            self._send(message, channel.fd)
        except OSError:
            raise DialError(
                Failure.NOT_READY, "The worker that holds the UDP port is away or very busy; try again shortly."
            ) from None
        channel.leave()
        return False

    def sessions(self) -> list[UdpSession]:
        return []

    async def close(self) -> None:
        self._drop()

    def _send(self, message: bytes, descriptor: int) -> None:
        if self._link is not None:
            try:
                socket.send_fds(self._link, [message], [descriptor])
            except BlockingIOError:
                raise
            except OSError:
                self._drop()  # of a worker that died; its successor has another one
            else:
                return
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            link.connect(self._path)
            socket.send_fds(link, [message], [descriptor])
        except OSError:
            link.close()
            raise
        self._link = link

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class Reception:
    """The other side: gives the front door the clients that other workers hand over."""

    def __init__(self, path: str, adopt: Callable[[socket.socket, Session], None]) -> None:
        """Prepare.

        Args:
            path: where to listen.
            adopt: takes a client's socket, and its session so far.
        """
        self._path = Path(path)
        self._adopt = adopt
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
            message, descriptors, _, _ = socket.recv_fds(link, _MESSAGE_BYTES, 1, flags=socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._drop(link)
            return
        try:
            told = json.loads(message)
            session = Session(str(told["peer"]), "associate", started=float(told["started"]))
        except (ValueError, KeyError, TypeError):
            for descriptor in descriptors:
                os.close(descriptor)
            self._drop(link)
            return
        if not descriptors:  # we have no room for one; the kernel has closed the connection
            log.warning("a client's UDP association is lost: the worker has no descriptors left", peer=session.peer)
            return
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(False)
        self._adopt(sock, session)

    def _drop(self, link: socket.socket) -> None:
        with contextlib.suppress(ValueError):
            asyncio.get_running_loop().remove_reader(link)
        self._links.discard(link)
        link.close()
