"""A TUN device: what whole IP packets are read from and written to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from dconnect.core.errors import DconnectError


class Device(Protocol):
    """One device, that this process alone reads.

    Where ``fileno`` gives a descriptor, nothing blocks: whoever reads polls it. Where it gives None, as wintun would,
    ``read_into`` blocks and belongs into a thread of its own; ``close``, from another thread, wakes it with an OSError.
    ``write`` never blocks, anywhere.
    """

    @property
    def name(self) -> str:
        """The interface's, as the system's own commands know it."""

    @property
    def mtu(self) -> int:
        """The largest packet, in bytes, as it was set."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What another process needs to have the device (``inherited_device``), in this order; none where it cannot."""

    def fileno(self) -> int | None:
        """What to poll for packets to read; None where there is no such thing."""

    def read_into(self, buffer: memoryview | bytearray) -> int:
        """Read one packet; the bytes that it has.

        Args:   buffer: as large as the MTU at least, else a larger packet is cut, and nothing tells.
        Raises: BlockingIOError: none is waiting. OSError: the device is gone.
        """

    def write(self, packet: memoryview | bytes | bytearray) -> None:
        """Give one packet to the system.

        Raises: BlockingIOError: there is no room now, and the packet was not taken. OSError: the system does not
                accept it (EINVAL: no IP packet), or the device is down or gone (EIO, EBADFD).
        """

    def close(self) -> None:
        """Give the device up, once or again; the system removes it and its routes, unless others have it open."""


def open_device(mtu: int, name: str = "") -> Device:
    """Make a device and give it an MTU; on Linux it is up then. Addresses and routes are the caller's.

    Args:   name: one that is free; "" lets the system choose, and macOS always does.
    Raises: DconnectError: it could not be made, and why.
    """
    if sys.platform == "linux":
        from dconnect.tunnel.linux import LinuxDevice  # noqa: PLC0415 - only there

        return LinuxDevice.create(mtu, name)
    if sys.platform == "darwin":
        from dconnect.tunnel.darwin import UtunDevice  # noqa: PLC0415 - only there

        return UtunDevice.create(mtu)
    raise DconnectError("dconnect has no TUN device for this system; use its proxy instead.")


def inherited_device(fds: Sequence[int], mtu: int) -> Device:
    """The device that another process made, whose ``descriptors`` were passed on; this process owns them now.

    Raises: DconnectError: they are no device's.
    """
    if sys.platform == "linux":
        from dconnect.tunnel.linux import LinuxDevice  # noqa: PLC0415 - only there

        return LinuxDevice.from_fds(fds, mtu)
    if sys.platform == "darwin":
        from dconnect.tunnel.darwin import UtunDevice  # noqa: PLC0415 - only there

        return UtunDevice.from_fd(fds[0], mtu)
    raise DconnectError("dconnect has no TUN device for this system; use its proxy instead.")
