"""Writing to stderr without ever waiting for whoever reads it.

Its other end is dockerd, or a pager: when that hangs, a log line must be lost rather than a
connection delayed. O_NONBLOCK belongs to a description that others share (a user's shell, our
siblings), so a pipe is opened anew for ourselves; of anything else the kernel is asked first.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Iterator

_PIECE = select.PIPE_BUF
"""A pipe takes so much whole or not at all, so that lines of several processes never mix."""


@contextlib.contextmanager
def opened(fd: int) -> Iterator[int]:
    """The descriptor to write to in place of ``fd``."""
    try:
        pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK) if pipe else fd
    except OSError:  # nobody reads it, or /proc is hidden
        own = fd
    try:
        yield own
    finally:
        if own != fd:
            os.close(own)


def write(fd: int, text: bytes) -> bytes:
    """Write as many of the lines as are taken at once; what is left.

    Nothing is left of what nobody will ever read.
    """
    ready = select.poll()
    ready.register(fd, select.POLLOUT)
    begin, view = 0, memoryview(text)
    try:
        while begin < len(text) and ready.poll(0):
            end = begin + _PIECE
            if end < len(text):
                end = text.rfind(b"\n", begin, end) + 1 or end
            begin += os.write(fd, view[begin:end])
    except BlockingIOError:
        pass  # another process was faster
    except OSError:
        return b""
    return text[begin:]
