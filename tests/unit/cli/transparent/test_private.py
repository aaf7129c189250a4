"""The helper with a private network, in a namespace of the test's own, and a pump that is scripted here."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from bed.namespace import Namespace
from dconnect.cli.transparent.channel import Channel
from dconnect.cli.transparent.helper import DEVICE, Helper, Order
from dconnect.core.limits import TUNNEL_SOCKETS
from dconnect.tunnel.host_linux import LinuxHost
from dconnect.tunnel.linux import LinuxDevice
from dconnect.tunnel.private import PrivateDevice
from dconnect.tunnel.wire.messages import TCP_BY_TRUNK, Config
from kit.descriptors import no_descriptors
from kit.door import open_descriptors
from kit.tun import private_namespace, why_not

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

PATIENCE = 5.0
A = ip_network("172.17.0.0/16")


class Scene:
    """A helper at work in a namespace, and the pump's end of its channel."""

    def __init__(self, namespace: Namespace, held: ExitStack, order: Order) -> None:
        self.namespace, self.held = namespace, held
        ours, theirs = socket.socketpair()
        held.enter_context(ours)
        self.pump = Channel(held.enter_context(theirs))
        self.pump.sock.settimeout(PATIENCE)
        self.reports: list[dict[str, Any]] = []
        self.started = threading.Event()
        self._thread = threading.Thread(target=lambda: namespace.call(lambda: self._serve(Channel(ours), order)))
        self._thread.start()
        held.callback(self.end)

    def _serve(self, channel: Channel, order: Order) -> None:
        signals, signal = socket.socketpair()
        host = LinuxHost()
        helper = Helper(order, host, self.reports.append)
        try:
            with signals, signal:
                self.started.set()
                helper.serve(channel, signals)
        finally:
            helper.close()
            host.close()

    def config(self, *features: str, address: str = "10.213.0.2/24") -> dict[str, Any]:
        """Have the helper set up; its answer."""
        told = Config(9000, (ip_interface(address),), (A,), (ip_address("10.213.0.1"),), frozenset(features))
        self.pump.send({"config": told.encode().decode(), "door": "127.0.0.1"})
        return self.answer()

    def answer(self) -> dict[str, Any]:
        messages = self.pump.receive()
        assert messages
        return messages[0]

    def take(self, count: int) -> list[int]:
        taken = self.pump.take(count)
        for fd in taken:
            self.held.callback(os.close, fd)
        return taken

    def devices(self) -> str:
        return self.namespace.run(["ip", "-o", "link", "show"], check=True).stdout

    def end(self) -> None:
        """The pump goes."""
        self.pump.sock.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def begin() -> Iterator[Callable[[Order], Scene]]:
    with private_namespace() as namespace, ExitStack() as held:
        yield lambda order: Scene(namespace, held, order)


def test_the_pump_gets_the_device_and_where_syns_come_out(begin: Callable[[Order], Scene]) -> None:
    scene = begin(Order(65_535))
    answer = scene.config(TCP_BY_TRUNK, "a-later-one")
    assert (answer["device"], answer["descriptors"], answer["private"]) == (DEVICE, 5, True)
    fds = [os.dup(fd) for fd in scene.take(5)]
    device, syns = PrivateDevice.from_fds(fds[:3], DEVICE, 9000), LinuxDevice.from_fds(fds[3:], 9000)
    scene.held.callback(device.close)
    scene.held.callback(syns.close)
    assert syns.name == "syns"
    assert "veth" in scene.namespace.run(["ip", "-d", "link", "show", DEVICE], check=True).stdout


def test_sockets_of_it_come_when_they_are_wanted(begin: Callable[[Order], Scene]) -> None:
    scene = begin(Order(65_535))
    scene.config(TCP_BY_TRUNK)
    scene.take(5)
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        scene.pump.send({"sockets": version})
        assert scene.answer() == {"sockets": version, "count": TUNNEL_SOCKETS}
        sockets = [socket.socket(fileno=os.dup(fd)) for fd in scene.take(TUNNEL_SOCKETS)]
        for each in sockets:
            scene.held.enter_context(each)
        assert {each.family for each in sockets} == {family}
        sockets[0].bind(("", 80))
        sockets[0].listen()


def test_a_helper_without_descriptors_says_that_there_are_no_sockets_now(begin: Callable[[Order], Scene]) -> None:
    scene = begin(Order(65_535))
    scene.config(TCP_BY_TRUNK)
    scene.take(5)
    with no_descriptors():
        scene.pump.send({"sockets": 4})
        assert scene.answer() == {"sockets": 4, "count": 0}
    scene.pump.send({"sockets": 4})
    assert scene.answer() == {"sockets": 4, "count": TUNNEL_SOCKETS}
    scene.take(TUNNEL_SOCKETS)


@pytest.mark.parametrize("packets", [False, True])
def test_an_agent_that_knows_it_not_or_a_person_who_wants_packets_gets_the_simple_device(
    begin: Callable[[Order], Scene], packets: bool
) -> None:
    scene = begin(Order(65_535, packets=packets))
    answer = scene.config(*([TCP_BY_TRUNK] if packets else ["a-later-one"]))
    assert (answer["device"], answer["descriptors"], answer["private"]) == (DEVICE, 2, False)
    device = LinuxDevice.from_fds([os.dup(fd) for fd in scene.take(2)], 9000)
    scene.held.callback(device.close)
    assert device.name == DEVICE
    scene.pump.send({"sockets": 4})  # it has none; and goes on
    assert "descriptors" not in scene.config("a-later-one")
    assert not scene.pump.descriptors


def test_its_end_removes_the_device_though_connections_hold_the_private_network(
    begin: Callable[[Order], Scene],
) -> None:
    scene = begin(Order(65_535))
    scene.config(TCP_BY_TRUNK)
    scene.take(5)
    scene.pump.send({"sockets": 4})
    scene.answer()
    scene.take(TUNNEL_SOCKETS)
    assert DEVICE in scene.devices()
    scene.end()
    assert DEVICE not in scene.devices()


def test_the_helper_keeps_nothing_but_the_private_network_itself(begin: Callable[[Order], Scene]) -> None:
    scene = begin(Order(65_535))
    assert scene.started.wait(PATIENCE)
    before = open_descriptors()
    scene.config(TCP_BY_TRUNK)
    scene.config(TCP_BY_TRUNK)  # once it is answered, what came before is done
    assert len(scene.take(5)) == 5
    assert open_descriptors() == before + 5 + 1
    scene.pump.send({"sockets": 4})
    scene.answer()
    scene.config(TCP_BY_TRUNK)
    assert len(scene.take(TUNNEL_SOCKETS)) == TUNNEL_SOCKETS
    assert open_descriptors() == before + 5 + 1 + TUNNEL_SOCKETS
