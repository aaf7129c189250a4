"""Devices in memory, for whatever reads and writes packets: the executable form of ``Device``."""

from __future__ import annotations

import errno
import os
import socket


class MemoryDevice:
    """One end of a pair: what is written here is read there, packet by packet, in order.

    A unix socket pair is both queues, and their bound: about as many bytes as a socket's buffer has.
    """

    def __init__(self, sock: socket.socket, name: str, mtu: int) -> None:
        sock.setblocking(False)
        self._socket = sock
        self.name = name
        self.mtu = mtu

    @classmethod
    def pair(cls, mtu: int = 65_535, queue_bytes: int = 256 * 1024) -> tuple[MemoryDevice, MemoryDevice]:
        """Two ends: the one for the code under test, the other for whoever plays the system."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, queue_bytes)
        return cls(ends[0], "memory0", mtu), cls(ends[1], "memory1", mtu)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self._socket.fileno(),)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read_into(self, buffer: memoryview | bytearray) -> int:
        size = self._socket.recv_into(buffer)
        if not size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # the device was removed
        return size

    def write(self, packet: memoryview | bytes | bytearray) -> None:
        if not packet:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._socket.send(packet)

    def close(self) -> None:
        self._socket.close()
