"""The dialer: creates sockets in the engine's network namespace and passes them to the agent.

A socket belongs for life to the namespace it was created in, wherever the process lives that
uses it. So this small process, in a container with ``--network host``, makes unconnected sockets
on request and sends the descriptors over a unix socket on a shared volume; the agent connects
and relays them itself. It holds no state: when it dies, connections live on.

Wire (SOCK_SEQPACKET, one message each way):
    request   kind u8 | count u8                     kind: "4" "6" TCP, "u" "v" UDP, "i" "j" ping; over IPv4, IPv6
    reply     kind u8 | errno u8                     with up to count descriptors (SCM_RIGHTS)

Standard library only, so that it is small and starts fast.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Self

from dconnect.core.keepalive import watch_peer
from dconnect.core.limits import DIALER_LONELY_SECONDS

SOCKET_NAME = "dialer.sock"
MAX_DESCRIPTORS = 253
"""SCM_MAX_FD of the Linux kernel."""
MAX_CLIENTS = 64
"""Workers and control of one agent are five; the rest is room for a restart's overlap."""

KINDS = {
    b"4": (socket.AF_INET, socket.SOCK_STREAM),
    b"6": (socket.AF_INET6, socket.SOCK_STREAM),
    b"u": (socket.AF_INET, socket.SOCK_DGRAM),
    b"v": (socket.AF_INET6, socket.SOCK_DGRAM),
    b"i": (socket.AF_INET, socket.SOCK_RAW),
    b"j": (socket.AF_INET6, socket.SOCK_RAW),
}
_PING = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_SOL_RAW = 255
_ICMP_FILTER = 1
_ICMP6_FILTER = 1
"""Both are sets of types that are *not* heard, a bit for each (raw(7), RFC 3542 §3.2)."""
_ALL_BUT_REPLIES = ((1 << 32) - 1 - (1 << 0)).to_bytes(4, sys.byteorder)
_ALL_BUT_REPLIES6 = b"\xff" * 16 + ((1 << 32) - 1 - (1 << 129 % 32)).to_bytes(4, sys.byteorder) + b"\xff" * 12


def create(kind: bytes) -> socket.socket:
    """One unconnected, non-blocking socket. Raises OSError as ``socket(2)`` does."""
    family, style = KINDS[kind]
    protocol = _PING[family] if style == socket.SOCK_RAW else 0
    sock = socket.socket(family, style | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    if style == socket.SOCK_RAW:
        _hear_replies(sock)
    if style == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # relays forward small messages at once
        watch_peer(sock)
    return sock


def _hear_replies(sock: socket.socket) -> None:
    """Of a raw socket: the answers to pings, and of an IPv6 one how many hops they had left."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, _ALL_BUT_REPLIES)
    else:
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _ALL_BUT_REPLIES6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


class Dialer:
    """Serves descriptors to any number of clients until none has been there for a while."""

    def __init__(self, path: Path, lonely_seconds: float = DIALER_LONELY_SECONDS) -> None:
        path.unlink(missing_ok=True)  # a predecessor's; only the newest dialer listens
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        # With user namespaces remapped, agent and dialer are different users; only they have the volume.
        path.chmod(0o666)
        self._listener.listen(MAX_CLIENTS)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._clients: set[socket.socket] = set()
        self._lonely_seconds = lonely_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the listener and every client; descriptors that were passed on stay good."""
        for sock in (self._listener, *self._clients):
            sock.close()
        self._selector.close()

    def run(self) -> None:
        """Serve until no client has been connected for ``lonely_seconds``."""
        while True:
            events = self._selector.select(None if self._clients else self._lonely_seconds)
            if not events and not self._clients:
                return
            for key, _ in events:
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._serve(key.fileobj)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ)

    def _serve(self, client: socket.socket) -> None:
        try:
            request = client.recv(16)
        except BlockingIOError:
            return
        except OSError:
            request = b""
        if len(request) == 2 and request[:1] in KINDS:
            with contextlib.suppress(OSError):
                self._reply(client, request[:1], min(request[1], MAX_DESCRIPTORS))
                return
        # End of stream, nonsense, or a client that does not take what it asked for.
        self._selector.unregister(client)
        self._clients.discard(client)
        client.close()

    @staticmethod
    def _reply(client: socket.socket, kind: bytes, count: int) -> None:
        sockets: list[socket.socket] = []
        code = 0
        try:
            for _ in range(count):
                sockets.append(create(kind))  # noqa: PERF401 - what was made before an error must be closed
        except OSError as error:
            code = min(error.errno or errno.EIO, 255)
        try:
            socket.send_fds(client, [kind + bytes((code,))], [sock.fileno() for sock in sockets])
        finally:
            for sock in sockets:
                sock.close()


def main() -> None:
    """Entry point of the dialer container; the argument is the shared directory."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o077)
    with Dialer(Path(sys.argv[1]) / SOCKET_NAME) as dialer:
        dialer.run()


if __name__ == "__main__":
    main()
