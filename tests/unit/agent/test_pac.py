from __future__ import annotations

import json
import re
from ipaddress import ip_address
from typing import Any

import pytest

from dconnect.agent.pac import render
from dconnect.core.config import AgentConfig
from dconnect.core.limits import PAC_DOMAINS
from dconnect.dns import build
from kit.inventories import container, endpoint, inventory, network

CONFIG = AgentConfig(bind="0.0.0.0", port=2080)


def variables(text: str) -> dict[str, Any]:
    first = text.splitlines()[0]
    return {name: json.loads(value) for name, value in re.findall(r"(\w+) = (.*?)(?=, \w+ = |;$)", first)}


def rendered(*domains: str, host: str = "127.0.0.1:1080") -> dict[str, Any]:
    made = [container(f"c{n}", endpoint("n", "10.0.0.2"), domains=each) for n, each in enumerate(domains)]
    found = inventory(made, [network("n", "10.0.0.0/24", "fd00:bed::/64"), network("m", "172.16.0.0/12")])
    return variables(render(CONFIG, found, build(found, CONFIG.suffixes, [ip_address("127.0.0.1")]), host))


def test_names_are_suffixes_and_label_domains_with_wildcards_below() -> None:
    assert rendered("app.example,*.wild.example,short.docker")["names"] == [
        ".docker",
        ".docker.test",
        ".wild.example",
        "app.example",
    ]


def test_subnets_are_their_leading_bits() -> None:
    assert rendered()["subnets"] == [
        "4" + "00001010" + "00000000" * 2,
        "4" + "10101100" + "0001",
        "6" + f"{0xFD00:016b}" + f"{0xBED:016b}" + "0" * 32,
    ]


@pytest.mark.parametrize(
    ("host", "door"),
    [
        ("192.0.2.1:1080", "PROXY 192.0.2.1:1080"),
        ("[fd00::1]:1080", "PROXY [fd00::1]:1080"),
        ("dconnect.docker", "PROXY 127.0.0.1:2080"),
        ("localhost:1080", "PROXY 127.0.0.1:2080"),
        ("", "PROXY 127.0.0.1:2080"),
        ('x";alert(1)', "PROXY 127.0.0.1:2080"),
    ],
)
def test_the_door_is_an_address_that_the_browser_reaches(host: str, door: str) -> None:
    assert rendered(host=host)["door"] == door


def test_domains_are_bounded() -> None:
    many = ",".join(f"n{number}.example" for number in range(PAC_DOMAINS + 100))
    assert len(rendered(many)["names"]) == len(CONFIG.suffixes) + PAC_DOMAINS


def test_before_the_first_zone_there_are_the_suffixes() -> None:
    assert variables(render(CONFIG, inventory([]), None, ""))["names"] == [".docker", ".docker.test"]
