"""What processes without rights have of a private network (``private_linux`` makes it)."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from dconnect.tunnel.linux import LinuxDevice

HARDWARE_ADDRESS = "02:64:63:6f:6e:6e"
"""Of both ends of the pair; locally administered (IEEE 802)."""
_BOTH = bytes.fromhex(HARDWARE_ADDRESS.replace(":", "")) * 2
_HEADERS = {4: _BOTH + b"\x08\x00", 6: _BOTH + b"\x86\xdd"}
"""By IP version."""


class Answers:
    """What the host is sent: a packet socket (packet(7)) on the pair's inner end. It hears nothing."""

    def __init__(self, sock: socket.socket) -> None:
        """Own it."""
        sock.setblocking(False)
        self._sock = sock

    @classmethod
    def from_fd(cls, fd: int) -> Answers:
        """Own what another process passed on."""
        return cls(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, fd))

    def fileno(self) -> int:
        return self._sock.fileno()

    def write(self, packet: memoryview | bytes | bytearray) -> None:
        """Send one packet. Raises: OSError."""
        self._sock.sendmsg((_HEADERS[packet[0] >> 4], packet))

    def close(self) -> None:
        self._sock.close()


class PrivateDevice:
    """A ``Device`` whose packets come from one place and go to another."""

    def __init__(self, packets: LinuxDevice, answers: Answers, name: str) -> None:
        """Own them.

        Args:
            packets: gives what the host sends, but TCP.
            answers: what it is sent.
            name: of the host's end.
        """
        self._packets, self._answers = packets, answers
        self.name, self.mtu = name, packets.mtu

    @classmethod
    def from_fds(cls, fds: Sequence[int], name: str, mtu: int) -> PrivateDevice:
        """Own what another process passed on, in the order of ``descriptors``.

        Raises: DconnectError: they are not these.
        """
        answers, *packets = fds
        return cls(LinuxDevice.from_fds(packets, mtu), Answers.from_fd(answers), name)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self._answers.fileno(), *self._packets.descriptors)

    def fileno(self) -> int:
        return self._packets.fileno()

    def read_into(self, buffer: memoryview | bytearray) -> int:
        return self._packets.read_into(buffer)

    def write(self, packet: memoryview | bytes | bytearray) -> None:
        self._answers.write(packet)

    def close(self) -> None:
        self._packets.close()
        self._answers.close()
