"""What a direction borrows while bytes are on their way: a pipe, or a buffer if none is to be had.

``splice(2)`` moves bytes from a socket to a pipe and from a pipe to a socket without copying
them. Pipes are scarce: the kernel accounts their pages per user (pipe-user-pages-soft, 64 MiB
engine-wide for uid 0 without CAP_SYS_RESOURCE), so beyond 57 pipes of 1 MiB ``F_SETPIPE_SZ``
fails with EPERM and new ones are small. Hence a direction owns a pipe only while bytes wait in
it, EPERM means "use it as it is", and when not even a small pipe is to be had (descriptors
exhausted) a plain buffer takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Protocol

from dconnect.core.limits import COPY_BYTES, FREE_PIPES, PIPE_BYTES

F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032
PAGE_BYTES = 4096
SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Conduit(Protocol):
    """A place for bytes between two sockets."""

    slots: int
    """A fill of fewer bytes than this cannot have been cut short by the conduit's own size: a pipe
    has this many slots and each holds at least one byte."""

    def fill(self, fd: int, *, urgent: bool = False) -> int:
        """Take bytes from a socket: how many, 0 at FIN. Raises OSError, BlockingIOError when dry.

        ``urgent``: the stream has urgent data, before which ``splice(2)`` stops as if at its end.
        """

    def drain(self, fd: int, count: int) -> int:
        """Give at most ``count`` held bytes to a socket: how many. Raises OSError likewise."""

    def close(self) -> None:
        """Drop it with whatever it holds."""


class Pipe:
    """A kernel pipe for splice."""

    __slots__ = ("_capacity", "_read", "_write", "slots")

    def __init__(self, size: int = PIPE_BYTES) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._write, F_SETPIPE_SZ, size)
        self._capacity = fcntl.fcntl(self._write, F_GETPIPE_SZ)
        self.slots = self._capacity // PAGE_BYTES

    def fill(self, fd: int, *, urgent: bool = False) -> int:
        if urgent:  # an empty pipe takes as many bytes as it holds, so this write is never short
            return os.write(self._write, os.read(fd, min(COPY_BYTES, self._capacity)))
        return os.splice(fd, self._write, self._capacity, flags=SPLICE_FLAGS)

    def drain(self, fd: int, count: int) -> int:
        return os.splice(self._read, fd, count, flags=SPLICE_FLAGS)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Buffer:
    """The same by copying, for one direction, when the process has no descriptors left."""

    __slots__ = ("_held", "slots")

    def __init__(self) -> None:
        self._held = memoryview(b"")
        self.slots = COPY_BYTES

    def fill(self, fd: int, *, urgent: bool = False) -> int:  # noqa: ARG002 - reading stops at nothing
        self._held = memoryview(os.read(fd, COPY_BYTES))
        return len(self._held)

    def drain(self, fd: int, count: int) -> int:
        sent = os.write(fd, self._held[:count])
        self._held = self._held[sent:]
        return sent

    def close(self) -> None:
        self._held = memoryview(b"")


class PipePool:
    """A bounded list of empty pipes, lent and taken back."""

    def __init__(self, size: int = PIPE_BYTES) -> None:
        """Begin with none; ``size`` is asked for each, in bytes."""
        self._size = size
        self._free: list[Pipe] = []

    def borrow(self) -> Conduit:
        """An empty conduit; never fails."""
        if self._free:
            return self._free.pop()
        try:
            return Pipe(self._size)
        except OSError:
            return Buffer()

    def give_back(self, conduit: Conduit, held: int = 0) -> None:
        """Return a conduit; with bytes still held in it, it is dropped."""
        if not held and isinstance(conduit, Pipe) and len(self._free) < FREE_PIPES:
            self._free.append(conduit)
        else:
            conduit.close()

    def close(self) -> None:
        """Close the pipes that lie here."""
        while self._free:
            self._free.pop().close()
