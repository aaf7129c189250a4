"""Relays that move much go on in a process of their own, so that whoever is new does not wait for them.

An event loop that moves bulk has a processor nearly for itself, and a handshake in it waits for turns of milliseconds,
and for the scheduler, which owes such a process nothing. So a relay is given away once it has moved a few megabytes at
once: its sockets go (SCM_RIGHTS, unix(7)), its record stays. The process is started by the first one.

Wire (SOCK_SEQPACKET), big-endian:
    there   number u64, with two descriptors: the client's and the upstream's
    back    number u64 | up u64 | down u64 | state i32, repeated: bytes since it was given away; the state is -1 while
            it goes on, 0 when both sides have ended, else the errno that cut it
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
import sys
import time

from dconnect.core.limits import CARRIED_RELAYS, CARRIER_AGAIN_SECONDS
from dconnect.proxy.poller import Poller
from dconnect.proxy.relay.splice import Relay

NUMBER = struct.Struct("!Q")
RECORD = struct.Struct("!QQQi")
OPEN = -1
RECORDS = 512
"""In one message: 14 KiB."""


class Carrier:
    """The process, as its owner sees it."""

    def __init__(self, poller: Poller) -> None:
        """Prepare, within the event loop."""
        self._loop = poller.loop
        self._link: socket.socket | None = None
        self._pid = 0
        self._relays: dict[int, Relay] = {}
        self._number = 0
        self._due = 0.0
        """Before it no process is started again."""
        self._closed = False

    def take(self, relay: Relay, client: int, upstream: int) -> bool:
        """Have a relay go on there; False when it must stay. Our descriptors stay open."""
        if self._closed or len(self._relays) >= CARRIED_RELAYS or not self._is_there():
            return False
        assert self._link is not None
        self._number += 1
        try:
            socket.send_fds(self._link, [NUMBER.pack(self._number)], (client, upstream))
        except OSError:  # busy, or gone, which will be told
            return False
        self._relays[self._number] = relay
        return True

    def close(self) -> None:
        """End it; what it carries is cut."""
        self._closed = True
        self._end(errno.ESHUTDOWN)

    def _is_there(self) -> bool:
        """Start it if need be."""
        if self._link is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + CARRIER_AGAIN_SECONDS
            with contextlib.suppress(OSError):
                self._start()
        return self._link is not None

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            theirs.set_inheritable(True)
            argv = [sys.executable, "-P", "-m", "dconnect.proxy.relay.carrying", str(theirs.fileno())]
            self._pid = os.posix_spawn(sys.executable, argv, os.environ, setsid=True)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._link = ours
        self._loop.add_reader(ours, self._told)

    def _told(self) -> None:
        assert self._link is not None
        try:
            records = self._link.recv(RECORD.size * RECORDS)
        except BlockingIOError:
            return
        except OSError:
            records = b""
        if not records:
            self._end(errno.ECONNRESET)
            return
        for number, up, down, state in RECORD.iter_unpack(records):
            relay = self._relays.get(number)
            if relay is None:
                continue
            relay.carried(up, down)
            if state != OPEN:
                del self._relays[number]
                relay.ended_there(OSError(state, os.strerror(state)) if state else None)

    def _end(self, code: int) -> None:
        """It is gone, or must go."""
        if self._link is None:
            return
        self._loop.remove_reader(self._link)
        self._link.close()
        self._link = None
        relays, self._relays = self._relays, {}
        for relay in relays.values():
            relay.ended_there(OSError(code, os.strerror(code)))
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)  # its sockets tell their peers of a cut (``Channel.cut_when_closed``)
            os.waitpid(self._pid, 0)
