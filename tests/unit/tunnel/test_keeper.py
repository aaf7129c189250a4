"""The privileged half, over a host's network in memory."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dconnect.core.errors import DconnectError
from dconnect.tunnel.fake import MemoryDevice
from dconnect.tunnel.host import FakeHost
from dconnect.tunnel.keeper import Keeper
from dconnect.tunnel.subnets import Choice, HostNet, Route
from dconnect.tunnel.wire.messages import Config

DOOR = ip_address("127.0.0.1")
A, B = "172.17.0.0/16", "172.18.0.0/16"


class Scene:
    """A keeper, what it makes, and the host that it changes."""

    def __init__(self, net: HostNet | None = None) -> None:
        self.host = FakeHost(net)
        self.made: list[tuple[int, str]] = []
        self.keeper = Keeper(self.host, Choice(), 65_535, self._make, "dconnect0")

    def _make(self, _config: Config, mtu: int, name: str) -> MemoryDevice:
        self.made.append((mtu, name))
        device, other = MemoryDevice.pair(mtu)
        other.close()
        device.name = name
        return device

    def follow(self, *subnets: str, address: str = "10.213.0.2/24", mtu: int = 65_535) -> None:
        config = Config(mtu, (ip_interface(address),), tuple(map(ip_network, subnets)), ())
        device = self.keeper.follow(config, DOOR)
        if device is not None:
            device.close()

    @property
    def routed(self) -> set[str]:
        return {str(each) for each in self.host.routed.get("dconnect0", ())}


def test_the_first_config_makes_device_address_and_routes() -> None:
    scene = Scene()
    scene.follow(A, B)
    assert scene.made == [(65_535, "dconnect0")]
    assert scene.host.set == {"dconnect0": ((ip_interface("10.213.0.2/24"),), 65_535)}
    assert scene.routed == {A, B}


def test_routes_follow_and_the_device_stays() -> None:
    scene = Scene()
    scene.follow(A)
    scene.follow(B)
    assert scene.routed == {B}
    scene.follow(A, B)
    assert scene.routed == {A, B}
    assert len(scene.made) == 1


def test_the_same_config_again_changes_nothing() -> None:
    scene = Scene()
    scene.follow(A)
    changes = scene.host.changes
    scene.follow(A)
    assert scene.host.changes == changes


def test_another_address_is_taken_on() -> None:
    scene = Scene()
    scene.follow(A)
    scene.follow(A, address="10.213.0.3/24")
    assert scene.host.set["dconnect0"][0] == (ip_interface("10.213.0.3/24"),)
    assert len(scene.made) == 1


def test_the_mtu_is_the_smaller_one() -> None:
    scene = Scene()
    scene.follow(A, mtu=1400)
    assert scene.host.set["dconnect0"][1] == 1400
    assert scene.made == [(1400, "dconnect0")]


def test_conflicts_are_told_and_the_rest_goes_up() -> None:
    scene = Scene(HostNet((Route(ip_network(B), "br0"),)))
    scene.follow(A, B)
    assert scene.routed == {A}
    assert scene.keeper.kept is not None
    assert list(map(str, scene.keeper.kept.refused)) == [f"{B} is not routed: this host has the route {B} on br0."]


@pytest.mark.parametrize(
    ("net", "subnets", "sentence"),
    [
        (HostNet((Route(ip_network(A), "br0"),)), [A], f"nothing to route. {A} is not routed: this host has the route"),
        (HostNet(), [], "There is nothing to route. The agent names no subnet."),
        (
            HostNet((Route(ip_network("10.213.0.0/16"), "wg0"),)),
            [A],
            "The tunnel's own network 10.213.0.0/24 cannot be",
        ),
        (HostNet((), ((ip_address("10.213.0.9"), "en0"),)), [A], "holds this host's own address 10.213.0.9 on en0"),
    ],
)
def test_where_nothing_can_be_done_nothing_is_changed(net: HostNet, subnets: list[str], sentence: str) -> None:
    scene = Scene(net)
    with pytest.raises(DconnectError, match=sentence.replace(".", r"\.")):
        scene.follow(*subnets)
    assert not scene.host.changes
    assert not scene.made


@pytest.mark.parametrize("address", ["8.8.8.8/24", "127.0.0.1/8", "169.254.0.1/16", "fd00::2/64"])
def test_an_address_that_cannot_be_a_tunnels_is_refused(address: str) -> None:
    scene = Scene()
    with pytest.raises(DconnectError):
        scene.follow(A, address=address)
    assert not scene.made


def test_a_subnet_does_not_hold_the_tunnels_own_addresses() -> None:
    scene = Scene()
    scene.follow(A, "10.213.0.0/16")
    assert scene.routed == {A}


def test_a_network_that_the_host_gets_later_takes_its_route_back_and_gives_it_again() -> None:
    scene = Scene()
    scene.follow(A, B)
    scene.host.own = HostNet((Route(ip_network("172.16.0.0/14"), "wg0"),))
    assert scene.keeper.recheck()
    assert scene.routed == set()
    assert not scene.keeper.recheck()
    scene.host.own = HostNet()
    assert scene.keeper.recheck()
    assert scene.routed == {A, B}


def test_a_route_that_somebody_removed_is_made_again() -> None:
    scene = Scene()
    scene.follow(A)
    scene.host.routed["dconnect0"].clear()
    scene.keeper.recheck()
    assert scene.routed == {A}


class Sudden(FakeHost):
    """A host where somebody else routes a subnet between our look and our change."""

    def add(self, subnet: object, device: str) -> None:
        raise FileExistsError


def test_a_route_that_came_in_between_is_left_alone() -> None:
    scene = Scene()
    scene.host.__class__ = Sudden
    scene.follow(A)
    assert scene.keeper.kept is not None
    assert scene.keeper.kept.routed == ()
    assert "just now" in str(scene.keeper.kept.refused[0])
