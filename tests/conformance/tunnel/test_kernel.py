"""Linux itself takes what we build, and we read what it sends: over a TUN device in a namespace of its own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import itertools
import os
import socket
from collections.abc import Iterator, Sequence

import pytest

from bed.namespace import Namespace
from dconnect.core.errors import DconnectError
from dconnect.tunnel.device import inherited_device, open_device
from dconnect.tunnel.gateway import errors
from dconnect.tunnel.linux import LinuxDevice
from dconnect.tunnel.wire import icmp, packets, tcp, udp
from dconnect.tunnel.wire.fragments import Reassembly, split
from dconnect.tunnel.wire.packets import FRAGMENT, ICMP, ICMP6, SYN, UDP, flow, parse
from kit.packets import UDP4
from kit.tun import HERE4, HERE6, answered, device_in, private_namespace, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

THERE = ["10.8.0.2", "fd08::2"]


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with private_namespace() as made:
        yield made


@pytest.fixture(scope="module")
def device(namespace: Namespace) -> Iterator[LinuxDevice]:
    with device_in(namespace, 65_535) as made:
        yield made


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _pong(packet: memoryview) -> Sequence[bytes]:
    if flow(packet)[0] not in {ICMP, ICMP6}:
        return ()
    found = parse(packet)
    echo = icmp.parse_echo(found)
    if echo is None or not echo.is_request:
        return ()
    return (icmp.echo_packet(found.destination, found.source, echo._replace(is_request=False)),)


@pytest.mark.parametrize("there", THERE)
@pytest.mark.parametrize("size", [0, 56, 20_000])
def test_a_ping_is_answered(namespace: Namespace, device: LinuxDevice, there: str, size: int) -> None:
    with answered(device, _pong):
        result = namespace.run(["busybox", "ping", "-c", "1", "-W", "5", "-s", str(size), there])
    assert "1 packets received" in result.stdout, result


def _reset(packet: memoryview) -> Sequence[bytes]:
    kind, key = flow(packet)
    if kind != SYN:
        return ()
    found = parse(packet)
    segment = tcp.parse(found)
    assert key == found.source + found.destination + bytes(found.payload[:4])
    assert (segment.destination_port, segment.flags & tcp.SYN) == (81, tcp.SYN)
    made = tcp.reset(found, segment)
    return () if made is None else (made,)


@pytest.mark.parametrize("there", THERE)
def test_a_connect_is_refused_by_our_reset(namespace: Namespace, device: LinuxDevice, there: str) -> None:
    with answered(device, _reset), pytest.raises(ConnectionRefusedError):
        namespace.connect(there, 81)


@pytest.mark.parametrize(
    ("there", "code", "number"),
    [
        ("10.8.0.2", icmp.NETWORK, errno.ENETUNREACH),
        ("10.8.0.2", icmp.HOST, errno.EHOSTUNREACH),
        ("10.8.0.2", icmp.PORT, errno.ECONNREFUSED),
        ("10.8.0.2", icmp.HOST_UNKNOWN, errno.EHOSTDOWN),
        ("10.8.0.2", icmp.PROHIBITED, errno.EHOSTUNREACH),
        ("fd08::2", icmp.NETWORK, errno.ENETUNREACH),
        ("fd08::2", icmp.HOST, errno.EHOSTUNREACH),
        ("fd08::2", icmp.PORT, errno.ECONNREFUSED),
        ("fd08::2", icmp.PROHIBITED, errno.EACCES),
        ("10.8.0.2", icmp.EXPIRED, errno.EHOSTUNREACH),
        ("fd08::2", icmp.EXPIRED, errno.EHOSTUNREACH),
    ],
)
def test_a_connect_fails_as_our_icmp_says(
    namespace: Namespace, device: LinuxDevice, there: str, code: int, number: int
) -> None:
    def unreachable(packet: memoryview) -> Sequence[bytes]:
        made = icmp.unreachable(parse(packet), code) if flow(packet)[0] == SYN else None
        return () if made is None else (made,)

    with answered(device, unreachable), pytest.raises(OSError, match=f"Errno {number}]"):
        namespace.connect(there, 81)


def _echo(packet: memoryview) -> Sequence[bytes]:
    if flow(packet)[0] != UDP:
        return ()
    found = parse(packet)
    datagram = udp.parse(found)
    here, there = (found.destination, datagram.destination_port), (found.source, datagram.source_port)
    return (udp.packet(here, there, bytes(datagram.payload)[::-1]),)


@pytest.mark.parametrize("there", THERE)
@pytest.mark.parametrize("size", [0, 1, 1400, 60_001])
def test_a_datagram_is_answered(namespace: Namespace, device: LinuxDevice, there: str, size: int) -> None:
    sent = os.urandom(size)
    with answered(device, _echo), namespace.socket(_family(there), socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((there, 53))
        client.send(sent)
        assert client.recv(65_535) == sent[::-1]


def test_a_datagram_larger_than_the_largest_packet_crosses_in_fragments(
    namespace: Namespace, device: LinuxDevice
) -> None:
    table = Reassembly()

    def echo(packet: memoryview) -> Sequence[bytes]:
        whole = table.add(parse(packet), 0.0) if flow(packet)[0] == FRAGMENT else None
        return () if whole is None else split(_echo(memoryview(whole))[0], device.mtu, 1)

    sent = os.urandom(65_527)
    with answered(device, echo), namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((THERE[1], 53))
        client.send(sent)
        assert client.recv(65_535) == sent[::-1]


@pytest.mark.parametrize("there", THERE)
def test_a_datagram_is_refused_by_our_icmp(namespace: Namespace, device: LinuxDevice, there: str) -> None:
    def refuse(packet: memoryview) -> Sequence[bytes]:
        made = icmp.unreachable(parse(packet), icmp.PORT) if flow(packet)[0] == UDP else None
        return () if made is None else (made,)

    with answered(device, refuse), namespace.socket(_family(there), socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((there, 53))
        client.send(bytes(2000))  # more than is quoted
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


@pytest.mark.parametrize("there", THERE)
@pytest.mark.parametrize("code", [icmp.HOST, icmp.PORT, icmp.EXPIRED])
def test_what_our_icmp_says_is_read_from_the_kernels_notes(
    namespace: Namespace, device: LinuxDevice, there: str, code: int
) -> None:
    def refuse(packet: memoryview) -> Sequence[bytes]:
        made = icmp.unreachable(parse(packet), code) if flow(packet)[0] == UDP else None
        return () if made is None else (made,)

    with answered(device, refuse), namespace.socket(_family(there), socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        errors.watch(client)
        client.connect((there, 53))
        client.send(b"word")
        with pytest.raises(OSError) as error:  # noqa: PT011 - what it means is asked below
            client.recv(1)
        assert errors.code_of(client, error.value) == code


@pytest.mark.parametrize(("there", "fragments"), [(THERE[0], 2 + 8 + 52), (THERE[1], 2 + 8 + 53)])
def test_datagrams_larger_than_the_mtu_cross_in_fragments_both_ways(there: str, fragments: int) -> None:
    table, numbers, kinds = Reassembly(), itertools.count(1), []

    def echo(packet: memoryview) -> Sequence[bytes]:
        kind = flow(packet)[0]
        kinds.append(kind)
        whole = table.add(parse(packet), 0.0) if kind == FRAGMENT else None
        if whole is None:
            return ()
        (answer,) = _echo(memoryview(whole))
        return split(answer, 1280, next(numbers))

    with (
        private_namespace() as narrow,
        device_in(narrow, 1280) as device,
        answered(device, echo),
        narrow.socket(_family(there), socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(5)
        if there == THERE[0]:
            client.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT: without DF
        client.connect((there, 53))
        for size in (1500, 9000, 65_000):
            sent = os.urandom(size)
            client.send(sent)
            assert client.recv(65_535) == sent[::-1]
    assert kinds.count(FRAGMENT) == fragments
    assert (len(table), table.held) == (0, 0)


def test_a_device_does_not_block_and_is_closed_on_exec(device: LinuxDevice) -> None:
    for fd in device.descriptors:
        assert os.get_blocking(fd) is False
    for fd in (device.fileno(), *device.descriptors):
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    buffer = bytearray(65_535)
    try:
        while device.read_into(buffer):
            pass  # what others left
    except BlockingIOError:
        return
    pytest.fail("a device without packets gave one of no bytes")


def test_a_device_is_up_and_has_its_mtu(namespace: Namespace, device: LinuxDevice) -> None:
    told = namespace.run(["ip", "link", "show", "dev", device.name], check=True).stdout
    assert "mtu 65535" in told
    assert ",UP" in told


def test_what_is_no_packet_is_not_taken(device: LinuxDevice) -> None:
    for packet in (b"", b"\x00" * 40, b"\xff" * 40):
        with pytest.raises(OSError, match="Invalid argument"):
            device.write(packet)


def test_a_device_that_is_down_takes_and_gives_no_packets(namespace: Namespace) -> None:
    device = namespace.call(lambda: open_device(1500))
    try:
        namespace.run(["ip", "link", "set", "dev", device.name, "down"], check=True)
        with pytest.raises(OSError, match="Input/output error"):
            device.write(UDP4)
        namespace.run(["ip", "link", "delete", device.name], check=True)
        with pytest.raises(OSError, match="bad state"):
            device.read_into(bytearray(1500))
    finally:
        device.close()
        device.close()


def test_inherited_descriptors_are_a_device_in_whatever_namespace(device: LinuxDevice) -> None:
    fds = tuple(map(os.dup, device.descriptors))
    for fd in fds:
        os.set_inheritable(fd, True)
        os.set_blocking(fd, True)
    lent = inherited_device(fds, 65_535)
    try:
        assert (lent.name, lent.mtu, lent.descriptors) == (device.name, 65_535, fds)
        for fd in fds:
            assert not os.get_inheritable(fd)
            assert not os.get_blocking(fd)
    finally:
        lent.close()


def test_half_a_device_is_refused_and_so_are_two_halves(namespace: Namespace, device: LinuxDevice) -> None:
    other = namespace.call(lambda: open_device(1500))
    try:
        for fds in (device.descriptors[:1], (device.descriptors[0], other.descriptors[1])):
            with pytest.raises(DconnectError, match="not the two queues of one TUN device"):
                inherited_device(fds, 1500)
    finally:
        other.close()


def _datagrams(device: LinuxDevice) -> list[tuple[int, int]]:
    """Source port and bytes of what the kernel has sent to port 7, as it is read."""
    found, buffer = list[tuple[int, int]](), memoryview(bytearray(65_535))
    with contextlib.suppress(BlockingIOError):
        while size := device.read_into(buffer):
            if flow(buffer[:size])[0] == UDP:
                datagram = udp.parse(parse(buffer[:size]))
                found.append((datagram.source_port, len(datagram.payload)))
    return found


@pytest.mark.parametrize(("here", "there"), [(HERE4, THERE[0]), (HERE6, THERE[1])])
def test_what_is_small_does_not_wait_behind_a_flow_with_large_packets(
    namespace: Namespace, device: LinuxDevice, here: str, there: str
) -> None:
    family = _family(there)
    with namespace.socket(family, socket.SOCK_DGRAM) as bulk, namespace.socket(family, socket.SOCK_DGRAM) as query:
        for each in (bulk, query):
            each.connect((there, 7))
        large, small = (each.getsockname()[1] for each in (bulk, query))
        bulk.send(bytes(1000))
        assert _datagrams(device) == [(large, 1000)]  # so it is known
        for port in (large, small):  # of a flow without an answer the kernel knows nothing
            ends = [(socket.inet_pton(family, address), of) for address, of in ((there, 7), (here, port))]
            device.write(udp.packet(ends[0], ends[1], b""))
        for size in (1000, 10, 2000, 3000):
            bulk.send(bytes(size))
        query.send(b"")
        assert _datagrams(device) == [(small, 0), (large, 1000), (large, 10), (large, 2000), (large, 3000)]


@pytest.mark.parametrize("flags", [0x5001, 0x1002])  # with offload headers; a TAP
def test_a_device_of_another_kind_is_refused(namespace: Namespace, flags: int) -> None:
    from pytun_pmd3 import TunTapDevice  # noqa: PLC0415 - Linux only

    other = namespace.call(lambda: TunTapDevice("other", flags))
    try:
        with pytest.raises(DconnectError, match="does not give IP packets alone"):
            LinuxDevice.from_fds((other.fileno(), other.fileno()), 1500)
    finally:
        other.close()


def test_a_name_that_is_taken_is_told_and_no_descriptor_is_closed_twice(
    namespace: Namespace, device: LinuxDevice
) -> None:
    with pytest.raises(
        DconnectError, match=f"{device.name} could not be made: there is a device of this name"
    ) as raised:
        namespace.call(lambda: LinuxDevice.create(1500, device.name))
    reading, writing = os.pipe()  # of the numbers that were free
    del raised  # with whatever its frames keep
    gc.collect()
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_name_of_another_kind_of_device_is_told(namespace: Namespace) -> None:
    with pytest.raises(DconnectError, match="lo could not be made: there is a device of this name;"):
        namespace.call(lambda: LinuxDevice.create(1500, "lo"))


def test_a_packet_that_we_take_apart_is_one_that_the_kernel_sent(namespace: Namespace, device: LinuxDevice) -> None:
    seen: list[bytes] = []

    def keep(packet: memoryview) -> Sequence[bytes]:
        seen.append(bytes(packet))
        return _reset(packet)

    with answered(device, keep), pytest.raises(ConnectionRefusedError):
        namespace.connect(THERE[0], 81)
    syn = parse(next(packet for packet in seen if flow(memoryview(packet))[0] == SYN))
    assert (syn.version, syn.protocol) == (4, packets.TCP)
    assert (socket.inet_ntoa(syn.source), socket.inet_ntoa(syn.destination)) == ("10.9.0.1", THERE[0])
