"""Linux's TUN device: /dev/net/tun, whole packets without any header (IFF_NO_PI), no offload."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from dconnect.core.errors import DconnectError

_TUNGETIFF = 0x800454D2
_IFREQ = struct.Struct("16sH22x")
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000

_ADVICE = {
    errno.EPERM: "it needs root, or the capability NET_ADMIN.",
    errno.EACCES: "/dev/net/tun may not be opened by this user.",
    errno.ENOENT: "there is no /dev/net/tun; load the kernel module tun, or give the device to the container.",
    errno.ENODEV: "this kernel has no TUN devices; load the module tun.",
    errno.EBUSY: "another program has one of this name; stop it, or choose another name.",
    errno.EINVAL: "there is a device of this name that is no TUN; choose another name.",
}


class LinuxDevice:
    """A ``Device``."""

    def __init__(self, fd: int, name: str, mtu: int) -> None:
        """Own a descriptor that is one of a TUN device."""
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        self._fd = fd
        self.name = name
        self.mtu = mtu

    @classmethod
    def create(cls, mtu: int, name: str = "") -> LinuxDevice:
        """Make a device, in this process's network namespace, with its MTU, and up.

        Raises: DconnectError.
        """
        from pytun_pmd3 import TunTapDevice  # noqa: PLC0415 - it takes 2 MiB, and a lent device needs none of it

        try:
            made = TunTapDevice(name, _IFF_TUN | _IFF_NO_PI)
            try:
                made.mtu = mtu
                made.up()
                # It copies each packet that it writes, knows no buffer to read into, and closes when it is collected.
                return cls(os.dup(made.fileno()), made.name, mtu)
            finally:
                made.close()
        except OSError as error:
            reason = _ADVICE.get(error.errno or 0, f"{error.strerror}.")
        # Out of the handler, so that nothing keeps its half-made object: collected, that closes its descriptor again.
        raise DconnectError(f"The TUN device {name or 'for the tunnel'} could not be made: {reason}")

    @classmethod
    def from_fd(cls, fd: int, mtu: int) -> LinuxDevice:
        """Own a descriptor that another process opened; its namespace does not matter.

        Raises: DconnectError: it is no TUN device's, or a TAP's, or one with offload headers. One without IFF_NO_PI
                cannot be told: the kernel answers with IFF_NOFILTER, which is the same bit.
        """
        try:
            raw, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
        except OSError as error:
            raise DconnectError(f"Descriptor {fd} is no TUN device's: {error.strerror}.") from error
        if flags & (_IFF_TUN | _IFF_VNET_HDR) != _IFF_TUN:
            raise DconnectError(f"Descriptor {fd} is a device that does not give IP packets alone.")
        return cls(fd, raw.rstrip(b"\0").decode(), mtu)

    def fileno(self) -> int:
        return self._fd

    def read_into(self, buffer: memoryview | bytearray) -> int:
        return os.readv(self._fd, (buffer,))

    def write(self, packet: memoryview | bytes | bytearray) -> None:
        os.write(self._fd, packet)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
