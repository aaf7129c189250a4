"""Linux's TUN device: /dev/net/tun, whole packets without any header (IFF_NO_PI), no offload, two queues.

A device's queue is a FIFO, in which a SYN or a query would wait behind all that a few fast flows have there. So there
are two (IFF_MULTI_QUEUE), and the second is read when the first is empty. The kernel puts a flow's packets into the
queue by which the last packet for it was written (tun_automq_select_queue, drivers/net/tun.c): what answers a flow with
large packets goes by the second. A flow that nothing was written for yet is in either.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from collections.abc import Sequence

from dconnect.core.errors import DconnectError
from dconnect.core.limits import EXPRESS_BYTES
from dconnect.tunnel.bulk import BulkFlows

_TUNGETIFF = 0x800454D2
_IFREQ = struct.Struct("16sH22x")
_IFF_TUN, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0001, 0x0100, 0x1000, 0x4000, 0x8000

_ADVICE = {
    errno.EPERM: "it needs root, or the capability NET_ADMIN.",
    errno.EACCES: "/dev/net/tun may not be opened by this user.",
    errno.ENOENT: "there is no /dev/net/tun; load the kernel module tun, or give the device to the container.",
    errno.ENODEV: "this kernel has no TUN devices; load the module tun.",
    errno.EBUSY: "there is a device of this name; stop the program that has it, or choose another name.",
}


class LinuxDevice:
    """A ``Device``."""

    def __init__(self, fds: Sequence[int], name: str, mtu: int) -> None:
        """Own descriptors that are a TUN device's two queues."""
        self._poll = select.epoll()
        for fd in fds:
            os.set_inheritable(fd, False)
            os.set_blocking(fd, False)
            self._poll.register(fd, select.EPOLLIN)
        self.descriptors = tuple(fds)
        self._first, self._second = fds
        self._bulk = BulkFlows()
        self.name = name
        self.mtu = mtu

    @classmethod
    def create(cls, mtu: int, name: str = "") -> LinuxDevice:
        """Make a device, in this process's network namespace, with its MTU, and up.

        Raises: DconnectError.
        """
        from pytun_pmd3 import TunTapDevice  # noqa: PLC0415 - it takes 2 MiB, and a lent device needs none of it

        fds: list[int] = []
        try:
            for how in (_IFF_TUN_EXCL, 0):  # the first makes the device, the second adds a queue to it
                made = TunTapDevice(name, _IFF_TUN | _IFF_NO_PI | _IFF_MULTI_QUEUE | how)
                try:
                    made.mtu = mtu
                    made.up()
                    # It copies each packet that it writes, knows no buffer to read into, and closes when collected.
                    fds.append(os.dup(made.fileno()))
                    name = made.name
                finally:
                    made.close()
            return cls(fds, name, mtu)
        except OSError as error:
            for fd in fds:
                os.close(fd)
            reason = _ADVICE.get(error.errno or 0, f"{error.strerror}.")
        # Out of the handler, so that nothing keeps its half-made object: collected, that closes its descriptor again.
        raise DconnectError(f"The TUN device {name or 'for the tunnel'} could not be made: {reason}")

    @classmethod
    def from_fds(cls, fds: Sequence[int], mtu: int) -> LinuxDevice:
        """Own the descriptors that another process opened; its namespace does not matter.

        Raises: DconnectError: they are not a TUN device's two, or a TAP's, or have offload headers. One without
                IFF_NO_PI cannot be told: the kernel answers with IFF_NOFILTER, which is the same bit.
        """
        names = {_name(fd) for fd in fds}
        if len(fds) != 2 or len(names) != 1:
            raise DconnectError(f"The descriptors {fds} are not the two queues of one TUN device.")
        return cls(fds, names.pop(), mtu)

    def fileno(self) -> int:
        return self._poll.fileno()

    def read_into(self, buffer: memoryview | bytearray) -> int:
        try:
            size = os.readv(self._first, (buffer,))
        except BlockingIOError:
            size = os.readv(self._second, (buffer,))
        if size > EXPRESS_BYTES:
            self._bulk.saw(buffer)
        return size

    def write(self, packet: memoryview | bytes | bytearray) -> None:
        os.write(self._second if self._bulk.answered_by(packet) else self._first, packet)

    def close(self) -> None:
        self._poll.close()
        fds, self.descriptors = self.descriptors, ()
        self._first = self._second = -1
        for fd in fds:
            os.close(fd)


def _name(fd: int) -> str:
    """The interface's whose queue it is. Raises: DconnectError: it is none that we can use."""
    try:
        raw, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    except OSError as error:
        raise DconnectError(f"Descriptor {fd} is no TUN device's: {error.strerror}.") from error
    if flags & (_IFF_TUN | _IFF_VNET_HDR) != _IFF_TUN:
        raise DconnectError(f"Descriptor {fd} is a device that does not give IP packets alone.")
    name: str = raw.rstrip(b"\0").decode()
    return name
