"""Netlink, in a network namespace of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

import pytest

from bed.namespace import Namespace
from dconnect.core.address import IPNetwork
from dconnect.core.limits import DEVICE_PACKETS
from dconnect.tunnel.host_linux import LinuxHost
from dconnect.tunnel.linux import LinuxDevice
from dconnect.tunnel.subnets import Route
from kit.tun import private_namespace, why_not

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

A = ip_network("172.17.0.0/16")
T = TypeVar("T")


class Scene:
    """A namespace, its network as ``LinuxHost`` has it, and a device."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.ip("link", "set", "lo", "up")
        self.device = namespace.call(lambda: LinuxDevice.create(1500, "dconnect7"))

    def ip(self, *words: str) -> str:
        return self._namespace.run(["ip", *words], check=True).stdout

    def host(self, work: Callable[[LinuxHost], T]) -> T:
        """Do something with the namespace's network."""

        def whole() -> T:
            host = LinuxHost()
            try:
                return work(host)
            finally:
                host.close()

        return self._namespace.call(whole)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with private_namespace() as namespace:
        made = Scene(namespace)
        try:
            yield made
        finally:
            made.device.close()


def test_the_device_gets_its_addresses_and_no_others(scene: Scene) -> None:
    both = (ip_interface("10.213.0.2/24"), ip_interface("fd3b::2/64"))
    scene.host(lambda host: host.set_up("dconnect7", both, 9000))
    scene.host(lambda host: host.add(A, "dconnect7"))
    shown = scene.ip("addr", "show", "dconnect7")
    assert "inet 10.213.0.2/24" in shown
    assert "inet6 fd3b::2/64" in shown
    assert "tentative" not in shown
    assert "mtu 9000" in shown
    assert f"qlen {DEVICE_PACKETS}" in shown
    assert "fe80" not in shown
    scene.host(lambda host: host.set_up("dconnect7", (ip_interface("10.213.0.3/24"),), 9000))
    shown = scene.ip("addr", "show", "dconnect7")
    assert "inet 10.213.0.3/24" in shown
    assert "10.213.0.2" not in shown
    assert "fd3b" not in shown
    assert Route(A, "dconnect7") in scene.host(lambda host: host.net(without="")).routes  # it outlives the change


def test_routes_and_addresses_are_read_with_interface_and_gateway(scene: Scene) -> None:
    scene.ip("addr", "add", "192.168.7.1/24", "dev", "dconnect7")
    scene.ip("route", "add", "10.0.0.0/8", "via", "192.168.7.9")
    scene.ip("route", "add", "blackhole", "172.31.0.0/16")
    scene.ip("route", "add", "default", "via", "192.168.7.8", "table", "77")
    scene.ip("route", "add", "172.30.0.0/16", "nexthop", "via", "192.168.7.5", "nexthop", "via", "192.168.7.6")
    found = scene.host(lambda host: host.net(without=""))
    assert set(found.routes) >= {
        Route(ip_network("192.168.7.0/24"), "dconnect7"),
        Route(ip_network("10.0.0.0/8"), "dconnect7", ip_address("192.168.7.9")),
        Route(ip_network("172.31.0.0/16"), "no interface"),
        Route(ip_network("0.0.0.0/0"), "dconnect7", ip_address("192.168.7.8")),
        Route(ip_network("172.30.0.0/16"), "dconnect7", ip_address("192.168.7.5")),
        Route(ip_network("172.30.0.0/16"), "dconnect7", ip_address("192.168.7.6")),
    }
    assert (ip_address("192.168.7.1"), "dconnect7") in found.addresses
    without = scene.host(lambda host: host.net(without="dconnect7"))
    assert {each.interface for each in without.routes} == {"no interface"} | {
        each.interface for each in found.routes if each.interface == "lo"
    }


@pytest.mark.parametrize("subnet", [A, ip_network("fd17::/64")])
def test_a_route_is_added_removed_and_removed_again(scene: Scene, subnet: IPNetwork) -> None:
    scene.host(lambda host: host.add(subnet, "dconnect7"))
    assert Route(subnet, "dconnect7") in scene.host(lambda host: host.net(without="")).routes
    assert "congctl reno" in scene.ip(f"-{subnet.version}", "route", "show", str(subnet))
    for _ in range(2):
        scene.host(lambda host: host.remove(subnet, "dconnect7"))
        assert Route(subnet, "dconnect7") not in scene.host(lambda host: host.net(without="")).routes


def test_a_route_of_somebody_else_is_not_replaced(scene: Scene) -> None:
    scene.ip("route", "add", str(A), "dev", "lo")
    with pytest.raises(FileExistsError):
        scene.host(lambda host: host.add(A, "dconnect7"))
    assert scene.ip("route", "show", str(A)).split()[:3] == [str(A), "dev", "lo"]


def test_a_device_is_found_and_deleted_even_while_it_is_held(scene: Scene) -> None:
    assert scene.host(lambda host: host.devices("dconnect")) == ["dconnect7"]
    scene.host(lambda host: host.delete("dconnect7"))
    assert scene.host(lambda host: host.devices("dconnect")) == []
    scene.host(lambda host: host.delete("dconnect7"))
    with pytest.raises(OSError, match=os.strerror(77)):
        scene.device.read_into(bytearray(100))  # EBADFD


class GoneAfterLook:
    """Netlink, where a device is gone as soon as it has been looked for."""

    def __init__(self, netlink: Any) -> None:
        self._netlink = netlink

    def link_lookup(self, ifname: str) -> list[int]:
        found: list[int] = self._netlink.link_lookup(ifname=ifname)
        for index in found:
            self._netlink.link("del", index=index)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._netlink, name)


def test_a_device_that_goes_by_itself_meanwhile_is_deleted_as_well(scene: Scene) -> None:
    """As a private network's does, with its last connection."""
    scene.ip("link", "add", "dconnect20", "type", "veth")

    def delete(host: LinuxHost) -> None:
        host._netlink = GoneAfterLook(host._netlink)
        host.delete("dconnect20")

    scene.host(delete)
    assert scene.host(lambda host: host.devices("dconnect")) == ["dconnect7"]


def test_a_device_that_is_not_there_is_an_error(scene: Scene) -> None:
    with pytest.raises(OSError, match="no device dconnect9"):
        scene.host(lambda host: host.add(A, "dconnect9"))
