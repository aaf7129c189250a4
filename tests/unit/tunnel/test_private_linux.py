"""A private network beside a host's, both in namespaces of the test's own: what goes where, and what is left."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from bed.namespace import Namespace
from bed.waiting import wait_for
from dconnect.core.errors import DconnectError
from dconnect.core.limits import TUNNEL_SOCKETS
from dconnect.tunnel.host_linux import LinuxHost
from dconnect.tunnel.linux import LinuxDevice
from dconnect.tunnel.private import PrivateDevice
from dconnect.tunnel.private_linux import Lacking, PrivateNetwork
from dconnect.tunnel.wire.packets import SYN, flow
from kit.door import open_descriptors
from kit.packets import A4, A6, B4, B6, PONG4, PORT4, PORT6
from kit.tun import private_namespace, why_not

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

NAME, MTU, PATIENCE = "dconnect7", 9000, 5.0
OWN = [ip_network("10.0.0.0/24"), ip_network("fd00::/64")]
HOST = (ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64"))
FAR = {4: "172.17.0.2", 6: "fd17::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
NET = {4: ip_network("172.17.0.0/16"), 6: ip_network("fd17::/64")}
ENDS = {4: (A4, B4), 6: (A6, B6)}


class Scene:
    """A host's network, and the private one beside it."""

    def __init__(self, namespace: Namespace, held: contextlib.ExitStack) -> None:
        self.namespace = namespace
        self.held = held
        self.network = namespace.call(lambda: PrivateNetwork(NAME, MTU, OWN))
        held.callback(self.close)
        self._closed = False
        namespace.call(self._set_up)

    def _set_up(self) -> None:
        host = LinuxHost()
        try:
            host.set_up(NAME, HOST, MTU)
            for net in NET.values():
                host.add(net, NAME)
        finally:
            host.close()

    def sock(self, version: int, kind: socket.SocketKind) -> socket.socket:
        """The host's."""
        sock = self.held.enter_context(self.namespace.socket(FAMILY[version], kind))
        sock.settimeout(PATIENCE)
        return sock

    def dial(self, version: int, address: str, port: int) -> socket.socket:
        """The host begins a connection."""
        sock = self.sock(version, socket.SOCK_STREAM)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect((address, port))
        return sock

    def sockets(self, version: int, count: int = TUNNEL_SOCKETS) -> list[socket.socket]:
        made = self.network.sockets(version, count)
        for each in made:
            self.held.enter_context(each).settimeout(PATIENCE)
        return made

    def devices(self) -> str:
        return self.namespace.run(["ip", "-o", "link", "show"], check=True).stdout

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.network.device.close()
            self.network.syns.close()
            self.network.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    with private_namespace() as namespace, contextlib.ExitStack() as held:
        yield Scene(namespace, held)


def read(device: LinuxDevice | PrivateDevice, wanted: Callable[[bytes], bool]) -> bytes:
    """The next packet of that kind; the host's kernel says other things too, to its neighbours."""
    buffer, end = bytearray(65_535), time.monotonic() + PATIENCE
    while select.select([device.fileno()], [], [], max(0.0, end - time.monotonic()))[0]:
        with contextlib.suppress(BlockingIOError):
            packet = bytes(buffer[: device.read_into(buffer)])
            if wanted(packet):
                return packet
    raise AssertionError("no such packet came")


def protocol(packet: bytes) -> int:
    return packet[9] if packet[0] >> 4 == 4 else packet[6]


def towards(version: int, kind: int, address: bytes) -> Callable[[bytes], bool]:
    """Whether a packet is of that IP version and protocol, and goes there."""
    at = 16 if version == 4 else 24
    return lambda packet: (
        packet[0] >> 4 == version and protocol(packet) == kind and packet[at : at + len(address)] == address
    )


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def test_the_hosts_end_is_an_ordinary_device_with_its_mtu(scene: Scene) -> None:
    shown = scene.namespace.run(["ip", "-d", "link", "show", NAME], check=True).stdout
    assert f"mtu {MTU} " in shown
    assert "veth" in shown
    assert (scene.network.device.name, scene.network.device.mtu) == (NAME, MTU)
    for hidden in ("inner", "syns", "packets"):
        assert f": {hidden}" not in scene.devices(), "the rest is in a network of its own"


@pytest.mark.parametrize("version", [4, 6])
def test_a_syn_comes_out_where_syns_do(scene: Scene, version: int) -> None:
    sock = scene.dial(version, FAR[version], 80)
    packet = read(scene.network.syns, towards(version, 6, packed(FAR[version])))
    ports = struct.pack("!HH", sock.getsockname()[1], 80)
    assert flow(memoryview(packet)) == (SYN, b"".join(ENDS[version]) + ports)


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_comes_out_of_the_device(scene: Scene, version: int) -> None:
    sock = scene.sock(version, socket.SOCK_DGRAM)
    sock.sendto(b"query", (FAR[version], 53))
    packet = read(scene.network.device, towards(version, 17, packed(FAR[version])))
    header = 20 if version == 4 else 40
    assert packet[header + 2 : header + 4] == b"\x00\x35"
    assert packet[header + 8 :] == b"query"


@pytest.mark.parametrize(("version", "address"), [(4, "10.0.0.9"), (6, "fd00::9")])
def test_tcp_to_the_tunnels_own_networks_comes_out_of_the_device_too(scene: Scene, version: int, address: str) -> None:
    scene.dial(version, address, 53)
    packet = read(scene.network.device, towards(version, 6, packed(address)))
    assert flow(memoryview(packet))[0] == SYN


@pytest.mark.parametrize("version", [4, 6])
def test_the_tunnels_own_networks_may_become_others(scene: Scene, version: int) -> None:
    scene.network.keep_apart([*OWN, NET[version]])
    scene.dial(version, FAR[version], 80)
    read(scene.network.device, towards(version, 6, packed(FAR[version])))
    scene.network.keep_apart(OWN)
    scene.dial(version, FAR[version], 81)
    read(scene.network.syns, towards(version, 6, packed(FAR[version])))


@pytest.mark.parametrize(("version", "packet"), [(4, PORT4), (6, PORT6)])
def test_what_is_written_to_the_device_arrives_at_the_host(scene: Scene, version: int, packet: bytes) -> None:
    sock = scene.sock(version, socket.SOCK_DGRAM)
    sock.bind((str(HOST[0 if version == 4 else 1].ip), 5353))
    sock.connect((FAR[version], 53))
    sock.send(b"query")
    read(scene.network.device, towards(version, 17, packed(FAR[version])))
    scene.network.device.write(memoryview(packet))  # "there is no such port"
    with pytest.raises(ConnectionRefusedError):
        sock.recv(100)


def test_a_device_that_was_passed_on_is_the_same(scene: Scene) -> None:
    """As the pump has it, after the helper has closed its own."""
    fds = [os.dup(fd) for fd in scene.network.device.descriptors]
    device = PrivateDevice.from_fds(fds, NAME, MTU)
    scene.held.callback(device.close)
    scene.network.device.close()
    sock = scene.namespace.call(_raw_icmp)
    scene.held.enter_context(sock)
    sock.settimeout(PATIENCE)
    device.write(PONG4)
    assert sock.recv(100)[20:] == PONG4[20:]


def _raw_icmp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_is_the_kernels_own_once_its_syn_is_written_back(scene: Scene, version: int) -> None:
    listener, *_ = scene.sockets(version, 2)
    listener.bind(("", 80))
    listener.listen()
    sock = scene.dial(version, FAR[version], 80)
    scene.network.syns.write(read(scene.network.syns, towards(version, 6, packed(FAR[version]))))
    accepted, peer = listener.accept()
    with accepted:
        accepted.settimeout(PATIENCE)
        sock.settimeout(PATIENCE)
        assert accepted.getsockname()[:2] == (FAR[version], 80), "where the host wanted to go"
        assert peer[:2] == sock.getsockname()[:2]
        sock.sendall(b"question")
        assert accepted.recv(100) == b"question"
        accepted.sendall(b"answer")
        assert sock.recv(100) == b"answer"


def listens_as_nobody(sock: socket.socket, port: int) -> bool:
    """Whether a process without rights can listen there."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setuid(65_534)
            sock.bind(("", port))
            sock.listen()
            code = 0
        finally:
            os._exit(code)
    return not os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("version", [4, 6])
def test_whoever_has_a_socket_of_it_may_listen_on_any_port(scene: Scene, version: int) -> None:
    sockets = scene.sockets(version)
    assert len(sockets) == TUNNEL_SOCKETS
    assert listens_as_nobody(sockets[0], 80)
    sockets[1].bind(("", 81))
    sockets[1].listen()
    here = scene.sock(version, socket.SOCK_STREAM)
    here.bind(("", 80))  # and it is another network than the host's
    here.listen()


def test_a_second_one_of_the_name_is_refused_and_leaves_nothing(scene: Scene) -> None:
    def second() -> None:
        with pytest.raises(DconnectError, match=rf"There is a device {NAME} already") as raised:
            scene.namespace.call(lambda: PrivateNetwork(NAME, MTU, OWN))
        assert not isinstance(raised.value, Lacking)

    second()
    before = open_descriptors()
    second()
    assert open_descriptors() == before
    assert f": {NAME}@" in scene.devices()


def test_this_thread_is_where_it_was(scene: Scene) -> None:
    def own() -> tuple[Path, Path]:
        before = Path("/proc/thread-self/ns/net").readlink()
        for each in scene.network.sockets(4, 1):
            each.close()
        scene.network.keep_apart([])
        return before, Path("/proc/thread-self/ns/net").readlink()

    before, after = scene.namespace.call(own)
    assert before == after


def test_when_all_is_closed_nothing_is_left() -> None:
    with private_namespace() as namespace:
        before = open_descriptors()
        with contextlib.ExitStack() as held:
            scene = Scene(namespace, held)
            (listener,) = scene.sockets(4, 1)
            listener.bind(("", 80))
            listener.listen()
            scene.close()
            assert f": {NAME}@" in scene.devices(), "it lives while somebody has a socket of it"
        assert open_descriptors() == before
        wait_for("the device is gone", lambda: f": {NAME}@" not in scene.devices(), PATIENCE)
        assert "172.17.0.0" not in namespace.run(["ip", "route", "show"], check=True).stdout
