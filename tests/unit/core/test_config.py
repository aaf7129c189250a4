from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from dconnect.core.config import AgentConfig
from dconnect.core.errors import UsageError


def test_the_default_is_valid_and_on_loopback() -> None:
    config = AgentConfig()
    assert (config.bind, config.port, config.dns_port, config.reach) == ("127.0.0.1", 1080, 1053, "127.0.0.1")


@pytest.mark.parametrize(
    "config",
    [
        AgentConfig(),
        AgentConfig(
            bind="::1",
            port=0,
            suffixes=("a-b.c_d",),
            egress="deny",
            embedded=True,
            allow=("db.example",),
            deny=("10.0.0.0/8", "::/0"),
            dns_forward="auto",
        ),
    ],
)
def test_json_gives_back_an_equal_configuration(config: AgentConfig) -> None:
    assert AgentConfig.from_json(config.to_json()) == config


def test_equal_configurations_have_equal_texts() -> None:
    assert AgentConfig(port=1, dns_port=2).to_json() == AgentConfig(dns_port=2, port=1).to_json()


def test_keys_of_another_version_are_ignored_and_missing_ones_have_defaults() -> None:
    assert AgentConfig.from_json('{"port": 9, "from_the_future": 1}') == AgentConfig(port=9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        "{",
        '{"port": "1080"}',
        '{"bind": 5}',
        '{"suffixes": 3}',
        '{"suffixes": [1]}',
        '{"allow": 3}',
        '{"deny": [3]}',
        '{"deny": ["-"]}',
        '{"auth": null}',
        '{"auth": "x"}',
        '{"auth": ["x"]}',
    ],
)
def test_text_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        AgentConfig.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"bind": "localhost"},
        {"bind": "[::1]"},
        {"bind": "fe80::1%eth0"},
        {"port": -1},
        {"port": 65536},
        {"dns_port": 65536},
        {"tun_subnet": "10.213.0.0"},
        {"tun_subnet": "10.213.0.1/24"},
        {"tun_subnet": "10.0.0.0/8"},
        {"tun_subnet": "10.213.0.0/30"},
        {"tun_subnet": "8.8.8.0/24"},
        {"tun_subnet": "fd00::/64"},
        {"suffixes": ()},
        {"suffixes": ("",)},
        {"suffixes": ("Docker",)},
        {"suffixes": ("a..b",)},
        {"suffixes": ("-a",)},
        {"suffixes": ("a-",)},
        {"suffixes": ("a\n",)},
        {"suffixes": ("a" * 64,)},
        {"suffixes": (".".join(["a" * 50] * 4),)},
        {"egress": "maybe"},
        {"allow": ("10.0.0.1/8",)},
        {"deny": ("a b",)},
    ],
)
def test_what_cannot_work_is_refused_and_named(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refusal:
        dataclasses.replace(AgentConfig(), **change)
    (field,) = change
    assert f"--{field.removesuffix('es').replace('_', '-')}" in str(refusal.value)


@pytest.mark.parametrize(
    ("bind", "reach"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_reach_is_what_this_host_connects_to(bind: str, reach: str) -> None:
    assert AgentConfig(bind=bind).reach == reach


def test_the_json_is_an_object_with_every_field() -> None:
    assert set(json.loads(AgentConfig().to_json())) == {field.name for field in dataclasses.fields(AgentConfig)}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.53", "10.0.0.53", 53),
        ("10.0.0.53:5353", "10.0.0.53", 5353),
        ("fd00::53", "fd00::53", 53),
        ("[fd00::53]:54", "fd00::53", 54),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(text: str, host: str, port: int) -> None:
    assert AgentConfig(dns_forward=text).dns_server() == (host, port)


@pytest.mark.parametrize("text", ["dns.example", "10.0.0.53:0", "fd00::53:x", "off", " "])
def test_what_is_no_name_server_is_refused_by_the_name_of_its_option(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        AgentConfig(dns_forward=text)
    assert "--dns-forward" in str(caught.value)
