from __future__ import annotations

import json
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from typing import Any

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import LINK_ADDRESSES, LINK_FEATURES, LINK_HOST_CHARS, LINK_JSON_BYTES
from dconnect.tunnel.wire.messages import TCP_BY_TRUNK, Config, Hello

HELLO = {"version": 1, "mtu": 65535, "features": ["b", "a"]}
CONFIG = {
    "version": 1,
    "mtu": 65535,
    "addresses": ["10.0.0.1/32", "fd00::1/128"],
    "subnets": ["172.17.0.0/16", "fd17::/64"],
    "dns": ["10.0.0.2", "fd00::2"],
}


def _bytes(told: object) -> bytes:
    return json.dumps(told).encode()


def test_a_hello_is_read_and_written() -> None:
    hello = Hello.parse(memoryview(_bytes(HELLO)))
    assert hello == Hello(65535, frozenset("ab"))
    assert json.loads(hello.encode()) == {**HELLO, "features": ["a", "b"]}


def test_a_hello_may_tell_the_address_that_the_host_had() -> None:
    told = {**HELLO, "features": [], "address": "10.213.0.2"}
    hello = Hello.parse(_bytes(told))
    assert hello.address == ip_address("10.213.0.2")
    assert json.loads(hello.encode()) == told


def test_a_hello_may_tell_the_host() -> None:
    told = {**HELLO, "features": [], "host": "0a" * 8}
    hello = Hello.parse(_bytes(told))
    assert hello.host == "0a" * 8
    assert json.loads(hello.encode()) == told


@pytest.mark.parametrize("host", ["x" * (LINK_HOST_CHARS + 1), 7, None, ["x"]])
def test_a_host_that_is_no_short_text_is_refused(host: object) -> None:
    with pytest.raises(MalformedMessage, match="no text of at most 64 characters as 'host'"):
        Hello.parse(_bytes({**HELLO, "host": host}))


def test_a_config_is_read_and_written() -> None:
    config = Config.parse(_bytes(CONFIG))
    assert config == Config(
        65535,
        (IPv4Interface("10.0.0.1/32"), IPv6Interface("fd00::1/128")),
        (ip_network("172.17.0.0/16"), ip_network("fd17::/64")),
        (ip_address("10.0.0.2"), ip_address("fd00::2")),
    )
    assert json.loads(config.encode()) == CONFIG


def test_a_config_may_tell_features_and_says_nothing_of_none() -> None:
    assert Config.parse(_bytes(CONFIG)).features == frozenset()
    config = Config.parse(_bytes({**CONFIG, "features": ["tcp-by-trunk", "a-later-one"]}))
    assert config.features == {TCP_BY_TRUNK, "a-later-one"}
    assert json.loads(config.encode()) == {**CONFIG, "features": ["a-later-one", "tcp-by-trunk"]}


def test_a_config_has_room_for_thousands_of_networks() -> None:
    subnets = [ip_network((0xAC100000 + (n << 8), 24)) for n in range(4000)]
    six = [ip_network(((0xFD17_2345_6789_0000 << 64) + (n << 64), 64)) for n in range(4000)]
    config = Config(65535, (IPv4Interface("10.0.0.1/32"),), (*subnets, *six), (ip_address("10.0.0.2"),))
    assert len(config.encode()) <= LINK_JSON_BYTES
    assert Config.parse(config.encode()) == config


def test_what_is_not_known_is_ignored() -> None:
    assert Hello.parse(_bytes({**HELLO, "new": {"x": []}})) == Hello.parse(_bytes(HELLO))
    assert Config.parse(_bytes({**CONFIG, "new": None})) == Config.parse(_bytes(CONFIG))


def test_another_version_is_named() -> None:
    with pytest.raises(MalformedMessage, match="speaks version 2, this one 1; update the older of the two"):
        Hello.parse(_bytes({"version": 2}))


NO_JSON = [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff", b"[" * 100_000, b'{"version": NaN}']


@pytest.mark.parametrize("payload", NO_JSON)
def test_what_is_no_json_object_is_refused(payload: bytes) -> None:
    for parse in (Hello.parse, Config.parse):
        with pytest.raises(MalformedMessage):
            parse(payload)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1"},
        {"version": True},
        {"version": 1.0},
        {"version": 10**30},
        {"address": 5},
        {"address": "10.0.0.2/32"},
        {"mtu": 1279},
        {"mtu": 65536},
        {"mtu": "1500"},
        {"features": "a"},
        {"features": [1]},
        {"features": [""]},
        {"features": ["x" * 33]},
        {"features": [str(n) for n in range(LINK_FEATURES + 1)]},
    ],
)
def test_a_hello_with_a_value_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage, match=r"^The link's hello "):
        Hello.parse(_bytes({**HELLO, **change}))


@pytest.mark.parametrize("key", HELLO)
def test_a_hello_without_one_of_its_keys_is_refused(key: str) -> None:
    with pytest.raises(MalformedMessage, match=key):
        Hello.parse(_bytes({k: v for k, v in HELLO.items() if k != key}))


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": None},
        {"addresses": ["10.0.0.256"]},
        {"addresses": [167772161]},
        {"addresses": ["fe80::1%eth0/64"]},
        {"addresses": ["10.0.0.1"] * (LINK_ADDRESSES + 1)},
        {"subnets": {}},
        {"subnets": ["172.17.0.1/16"]},  # with a host's bits
        {"subnets": ["all"]},
        {"subnets": ["x" * 1000]},
        {"dns": None},
        {"dns": "10.0.0.2"},
        {"dns": ["10.0.0.2/32"]},
        {"dns": ["ns.docker"]},
        {"mtu": 1279},
        {"features": None},
        {"features": "tcp-by-trunk"},
        {"features": [1]},
        {"features": [""]},
        {"features": ["x" * 33]},
        {"features": [str(n) for n in range(LINK_FEATURES + 1)]},
    ],
)
def test_a_config_with_a_value_that_cannot_be_is_refused_in_one_short_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage, match=r"^The link's config ") as raised:
        Config.parse(_bytes({**CONFIG, **change}))
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("key", CONFIG)
def test_a_config_without_one_of_its_keys_is_refused(key: str) -> None:
    with pytest.raises(MalformedMessage):
        Config.parse(_bytes({k: v for k, v in CONFIG.items() if k != key}))
