"""macOS's utun: a socket of the kernel's, whose packets have their address family before them.

Wire:  AF u32 big-endian: 2 (AF_INET) or 30 (AF_INET6) | IP packet                     (xnu, bsd/net/if_utun.c)

Never yet run on macOS: the tests show the calls and bytes that it makes, by what xnu's source says.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dconnect.core.errors import DconnectError

_PF_SYSTEM, _SYSPROTO_CONTROL = 32, 2
"""Python has them by name on macOS only."""
_CONTROL = "com.apple.net.utun_control"
_OPT_IFNAME, _OPT_MAX_PENDING = 2, 16
_FAMILY4, _FAMILY6 = b"\0\0\0\x02", b"\0\0\0\x1e"
_RECEIVE_BYTES = 512 * 1024
"""The socket's receive buffer (ctl_recvsize)."""


class ControlSocket(Protocol):
    """What is used of a socket."""

    def fileno(self) -> int: ...
    def connect(self, address: Any, /) -> None: ...
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def recvmsg_into(self, buffers: Sequence[memoryview | bytearray], /) -> tuple[int, Any, int, Any]: ...
    def sendmsg(self, buffers: Sequence[memoryview | bytes | bytearray], /) -> int: ...
    def close(self) -> None: ...


class UtunDevice:
    """A ``Device``. Its MTU is set with its addresses, by the one ifconfig that needs root anyway."""

    def __init__(self, control: ControlSocket, mtu: int) -> None:
        """Own a connected socket."""
        control.setblocking(False)
        self._socket = control
        self._family = bytearray(4)
        self.name = control.getsockopt(_SYSPROTO_CONTROL, _OPT_IFNAME, 32).rstrip(b"\0").decode()
        self.mtu = mtu

    @classmethod
    def create(cls, mtu: int, make: Callable[[int, int, int], ControlSocket] = socket.socket) -> UtunDevice:
        """Make a device, the first that is free; the descriptor is closed on exec, as all of Python's are.

        Raises: DconnectError.
        """
        control = make(_PF_SYSTEM, socket.SOCK_DGRAM, _SYSPROTO_CONTROL)
        try:
            control.connect(_CONTROL)
            # By default the interface stops after each packet until it is read; connect resets it.
            pending = struct.pack("@I", max(1, _RECEIVE_BYTES // mtu))
            control.setsockopt(_SYSPROTO_CONTROL, _OPT_MAX_PENDING, pending)
            return cls(control, mtu)
        except OSError as error:
            control.close()
            reason = "it needs root." if error.errno == errno.EPERM else f"{error.strerror}."
            raise DconnectError(f"The TUN device could not be made: {reason}") from error

    @classmethod
    def from_fd(
        cls, fd: int, mtu: int, make: Callable[[int, int, int, int], ControlSocket] = socket.socket
    ) -> UtunDevice:
        """Own a descriptor that another process opened.

        Raises: DconnectError: it is no utun's.
        """
        try:
            return cls(make(_PF_SYSTEM, socket.SOCK_DGRAM, _SYSPROTO_CONTROL, fd), mtu)
        except OSError as error:
            raise DconnectError(f"Descriptor {fd} is no utun device's: {error.strerror}.") from error

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self._socket.fileno(),)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read_into(self, buffer: memoryview | bytearray) -> int:
        size = self._socket.recvmsg_into((self._family, buffer))[0]
        if size <= 4:  # a socket whose kernel end is gone gives nothing
            raise OSError(errno.EIO, "the utun device is gone")
        return size - 4

    def write(self, packet: memoryview | bytes | bytearray) -> None:
        if not packet:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        try:
            self._socket.sendmsg((_FAMILY4 if packet[0] >> 4 == 4 else _FAMILY6, packet))
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise BlockingIOError(errno.ENOBUFS, "the utun device takes no more now") from error
            raise

    def close(self) -> None:
        self._socket.close()
