from __future__ import annotations

import json

import pytest

from dconnect.core.inventory import Container, Endpoint, Inventory, Network

_WEB = Container(
    id="a" * 64,
    name="web",
    state="running",
    image="nginx",
    hostname="web-1",
    health="healthy",
    project="shop",
    service="web",
    number=1,
    oneoff=True,
    role="agent",
    labels=(("dev.dconnect.domains", "shop.test"),),
    ports=("80/tcp", "443/tcp"),
    endpoints=(
        Endpoint("front", "f" * 64, "172.18.0.2", "fd00::2", ("www",)),
        Endpoint("none", "0" * 64, None, None),
    ),
)
_FULL = Inventory(
    containers=(_WEB, Container("b" * 64, "db", "exited", endpoints=(Endpoint("front", "f", "172.18.0.3", None),))),
    networks=(Network("f" * 64, "front", "bridge", True, ("172.18.0.0/16", "fd00::/64"), ("172.18.0.1",)),),
)


@pytest.mark.parametrize("inventory", [Inventory(), _FULL])
def test_json_gives_back_an_equal_inventory(inventory: Inventory) -> None:
    assert Inventory.from_json(inventory.to_json()) == inventory


def test_json_is_plain_json() -> None:
    assert json.loads(_FULL.to_json())["containers"][0]["endpoints"][0]["aliases"] == ["www"]


def test_addresses_are_those_of_running_containers() -> None:
    assert _FULL.addresses == {"172.18.0.2": _WEB, "fd00::2": _WEB}


@pytest.mark.parametrize(
    ("state", "running"), [("running", True), ("paused", True), ("exited", False), ("created", False), ("dead", False)]
)
def test_a_paused_container_keeps_its_address(state: str, running: bool) -> None:
    endpoint = Endpoint("front", "f", "172.18.0.9", None)
    container = Container("c" * 64, "x", state, endpoints=(endpoint,))  # type: ignore[arg-type]
    assert container.running is running
    assert bool(Inventory((container,)).addresses) is running


def test_the_short_id_is_twelve_digits() -> None:
    assert _WEB.short_id == "a" * 12


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", '{"containers": [], "networks": [{}]}', '{"containers": [{}], "networks": []}']
)
def test_text_that_is_no_inventory_is_refused_as_documented(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Inventory.from_json(text)
