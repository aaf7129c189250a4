"""A client of UDP ASSOCIATE, and the destinations that it speaks to, on a test's own front door."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from kit.door import PATIENCE, WEB, DoorThread, exactly

ANYBODY = b"\x01" + bytes(6)
"""ATYP, DST.ADDR and DST.PORT of a client that does not know where it will send from."""


def by_name(name: str, port: int) -> bytes:
    """A destination: ATYP, DST.ADDR, DST.PORT."""
    return b"\x03" + bytes((len(name),)) + name.encode() + struct.pack("!H", port)


def by_address(address: str, port: int) -> bytes:
    """A destination: ATYP, DST.ADDR, DST.PORT."""
    if ":" in address:
        return b"\x04" + socket.inet_pton(socket.AF_INET6, address) + struct.pack("!H", port)
    return b"\x01" + socket.inet_aton(address) + struct.pack("!H", port)


class Caller:
    """A client's UDP socket; ``reply`` is what its TCP connection was told, if it has one."""

    def __init__(self, door: DoorThread, *, associate: bytes | None = ANYBODY) -> None:
        """Ask for an association with that DST, or with None for nothing, and open a socket."""
        self._door = door
        self.tcp = door.client()
        self.reply = b""
        if associate is not None:
            self.tcp.sendall(b"\x05\x01\x00\x05\x03\x00" + associate)
            assert exactly(self.tcp, 2) == b"\x05\x00"
            self.reply = exactly(self.tcp, 10)
        self.udp = door.adopt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind((WEB, 0))

    def send(self, destination: bytes, payload: bytes, *, head: bytes = bytes(3)) -> None:
        """One datagram; ``head`` is RSV and FRAG."""
        self.udp.sendto(head + destination + payload, self._door.address)

    def receive(self) -> bytes:
        """The next datagram, with its header."""
        data, source = self.udp.recvfrom(65_535)
        assert source == self._door.address
        return data

    def hears_nothing(self) -> bool:
        """Whether nothing has come: to be asked when whatever was to come is known to have been handled."""
        self.udp.setblocking(False)
        try:
            self.udp.recv(1)
        except BlockingIOError:
            return True
        finally:
            self.udp.settimeout(PATIENCE)
        return False


class Service:
    """A destination's UDP socket."""

    def __init__(self, door: DoorThread, host: str = WEB) -> None:
        """Listen on a port of its own."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = door.adopt(socket.socket(family, socket.SOCK_DGRAM))
        self.sock.bind((host, 0))
        self.host = host
        self.port = int(self.sock.getsockname()[1])
        self.here = by_address(host, self.port)
        self.header = bytes(3) + self.here
        """What a client finds in front of what it sends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def receive(self) -> tuple[bytes, tuple[str, int]]:
        """The next datagram, and who sent it."""
        data, source = self.sock.recvfrom(65_535)
        return data, source[:2]

    def echo(self) -> tuple[str, int]:
        """Send the next datagram back; who sent it."""
        data, source = self.receive()
        self.sock.sendto(data, source)
        return source


def speaks(caller: Caller, service: Service, word: bytes = b"hello") -> tuple[str, int]:
    """A datagram goes there and comes back; the address that the service saw."""
    caller.send(service.here, word)
    seen = service.echo()
    assert caller.receive() == service.header + word
    return seen
