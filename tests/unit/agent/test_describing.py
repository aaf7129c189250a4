from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest

from dconnect.agent.describing import describe
from dconnect.dns import build
from dconnect.proxy.door import Known
from kit.inventories import container, endpoint, inventory

WEB = dataclasses.replace(
    container("web", endpoint("net", "172.18.0.2", "fd00::2"), endpoint("other", "172.19.0.2")),
    ports=("53/tcp", "53/udp", "80/tcp", "http/tcp", "8080"),
)
OLD = dataclasses.replace(container("old", endpoint("net", "172.18.0.9"), state="exited"), ports=("81/tcp",))
ZONE = build(inventory([WEB, OLD]), ("docker",), [ip_address("127.0.0.1")])


@pytest.mark.parametrize("address", ["172.18.0.2", "172.19.0.2", "fd00::2"])
def test_an_address_tells_its_container_and_the_tcp_ports_it_exposes(address: str) -> None:
    assert describe(ZONE, "whatever", address) == Known("web", (53, 80))


@pytest.mark.parametrize("address", ["172.18.0.9", "192.0.2.1", "the agent"])
def test_an_address_of_no_running_container_tells_nothing(address: str) -> None:
    assert describe(ZONE, "web", address) == Known()


def test_a_name_tells_who_has_stopped_and_what_may_have_been_meant() -> None:
    assert describe(ZONE, "old.docker", "") == Known("old")
    assert describe(ZONE, "webb", "").candidates == ("web",)
    assert describe(ZONE, "web", "") == Known()
    assert describe(ZONE, "far.example", "") == Known()
    assert describe(None, "web", "") == Known()
