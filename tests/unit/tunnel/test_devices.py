from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from dconnect.core.errors import DconnectError
from dconnect.tunnel.darwin import UtunDevice
from dconnect.tunnel.device import Device
from dconnect.tunnel.fake import MemoryDevice
from dconnect.tunnel.linux import LinuxDevice
from kit.packets import PING4, PING6


@pytest.fixture
def memory() -> Iterator[tuple[MemoryDevice, MemoryDevice]]:
    pair = MemoryDevice.pair()
    yield pair
    for end in pair:
        end.close()


def _readable(device: Device) -> bool:
    fd = device.fileno()
    assert fd is not None
    return bool(select.select([fd], [], [], 0)[0])


def test_packets_in_memory_arrive_whole_in_order_and_can_be_polled_for(
    memory: tuple[MemoryDevice, MemoryDevice],
) -> None:
    here, there = memory
    buffer = bytearray(65_535)
    assert not _readable(there)
    with pytest.raises(BlockingIOError):
        there.read_into(buffer)
    largest = os.urandom(65_535)
    for packet in (PING4, largest, PING6):
        here.write(packet)
    for packet in (PING4, largest, PING6):
        assert _readable(there)
        assert buffer[: there.read_into(memoryview(buffer))] == packet
    assert not _readable(there)


def test_memory_is_bounded(memory: tuple[MemoryDevice, MemoryDevice]) -> None:
    here, there = memory
    taken = 0
    try:
        while taken < 100:
            here.write(bytes(65_535))
            taken += 1
    except BlockingIOError:
        pass
    assert 1 <= taken < 100
    there.read_into(bytearray(65_535))
    here.write(PING4)


def test_a_device_in_memory_is_gone_when_the_other_end_is(memory: tuple[MemoryDevice, MemoryDevice]) -> None:
    here, there = memory
    assert (here.name, there.name, here.mtu) == ("memory0", "memory1", 65_535)
    there.close()
    there.close()
    with pytest.raises(OSError, match="Input/output"):
        here.read_into(bytearray(1500))
    with pytest.raises(OSError, match="pipe"):
        here.write(PING4)
    with pytest.raises(OSError, match="Invalid"):
        here.write(b"")


class _Control:
    """What xnu's source says that a utun's socket does; keeps what it is asked."""

    def __init__(self, *errors: OSError) -> None:
        self.calls: list[object] = []
        self.waiting: list[bytes] = []
        self.errors = list(errors)

    def _note(self, *call: object) -> None:
        self.calls.append(call)

    def fileno(self) -> int:
        return 7

    def connect(self, address: Any, /) -> None:
        self._note("connect", address)
        if self.errors:
            raise self.errors.pop()

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        self._note("getsockopt", level, option)
        return b"utun4\0"

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        self._note("setsockopt", level, option, int.from_bytes(value, "little"))

    def setblocking(self, flag: bool, /) -> None:
        self._note("setblocking", flag)

    def recvmsg_into(self, buffers: Sequence[memoryview | bytearray], /) -> tuple[int, Any, int, Any]:
        if not self.waiting:
            raise BlockingIOError
        received = self.waiting.pop(0)
        at = 0
        for buffer in buffers:
            piece = received[at : at + len(buffer)]
            buffer[: len(piece)] = piece
            at += len(piece)
        return at, [], 0, None

    def sendmsg(self, buffers: Sequence[memoryview | bytes | bytearray], /) -> int:
        if self.errors:
            raise self.errors.pop()
        self._note("sendmsg", b"".join(buffers))
        return sum(map(len, buffers))

    def close(self) -> None:
        self._note("close")


def _utun(control: _Control, mtu: int = 65_535) -> UtunDevice:
    def make(family: int, kind: int, protocol: int) -> _Control:
        control.calls.append(("socket", family, kind, protocol))
        return control

    return UtunDevice.create(mtu, make)


def test_a_utun_is_made_with_the_calls_that_xnu_wants() -> None:
    control = _Control()
    device = _utun(control)
    assert (device.name, device.mtu, device.fileno()) == ("utun4", 65_535, 7)
    assert control.calls == [
        ("socket", 32, socket.SOCK_DGRAM, 2),  # PF_SYSTEM, SYSPROTO_CONTROL
        ("connect", "com.apple.net.utun_control"),
        ("setsockopt", 2, 16, 8),  # UTUN_OPT_MAX_PENDING_PACKETS, behind connect, which resets it
        ("setblocking", False),
        ("getsockopt", 2, 2),  # UTUN_OPT_IFNAME
    ]


def test_a_utun_with_a_small_mtu_may_have_more_packets_pending() -> None:
    control = _Control()
    _utun(control, 1500)
    assert ("setsockopt", 2, 16, 349) in control.calls


def test_a_utuns_packets_have_their_family_before_them() -> None:
    control = _Control()
    device = _utun(control)
    device.write(PING4)
    device.write(memoryview(PING6))
    assert control.calls[-2:] == [("sendmsg", b"\0\0\0\x02" + PING4), ("sendmsg", b"\0\0\0\x1e" + PING6)]
    control.waiting = [b"\0\0\0\x1e" + PING6, b"\0\0\0\x02" + PING4]
    buffer = bytearray(65_535)
    for packet in (PING6, PING4):
        assert buffer[: device.read_into(buffer)] == packet
    with pytest.raises(BlockingIOError):
        device.read_into(buffer)
    control.waiting = [b""]
    with pytest.raises(OSError, match="gone"):
        device.read_into(buffer)


def test_a_utun_that_is_full_says_so_like_other_devices() -> None:
    control = _Control()
    device = _utun(control)
    control.errors = [OSError(errno.EIO, "Input/output error"), OSError(errno.ENOBUFS, "No buffer space available")]
    with pytest.raises(BlockingIOError):
        device.write(PING4)
    with pytest.raises(OSError, match="Input/output"):
        device.write(PING4)
    with pytest.raises(OSError, match="Invalid"):
        device.write(b"")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(errno.EPERM, "Operation not permitted"), "it needs root"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
    ],
)
def test_a_utun_that_cannot_be_made_says_why_and_leaves_no_socket(error: OSError, sentence: str) -> None:
    control = _Control(error)
    with pytest.raises(DconnectError, match=sentence):
        _utun(control)
    assert control.calls[-1] == ("close",)


def test_a_utun_can_be_inherited() -> None:
    control, asked = _Control(), []

    def make(family: int, kind: int, protocol: int, fd: int) -> _Control:
        asked.append((family, kind, protocol, fd))
        return control

    device = UtunDevice.from_fd(9, 1500, make)
    assert (device.name, device.mtu) == ("utun4", 1500)
    assert asked == [(32, socket.SOCK_DGRAM, 2, 9)]
    assert "connect" not in [call[0] for call in control.calls if isinstance(call, tuple)]


def test_a_descriptor_that_is_no_tun_device_is_refused_and_stays_its_owners() -> None:
    reading, writing = os.pipe()
    with pytest.raises(DconnectError, match=f"Descriptor {reading} is no TUN device's"):
        LinuxDevice.from_fds((reading, writing), 1500)
    os.close(reading)
    os.close(writing)


def test_a_name_that_is_too_long_is_told() -> None:
    with pytest.raises(DconnectError, match="name too long"):
        LinuxDevice.create(1500, "x" * 16)
