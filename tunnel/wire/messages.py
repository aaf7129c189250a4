"""What the two ends of a link tell one another about themselves: hello and config frames, in JSON.

Keys that are unknown are ignored, so that a later dconnect may tell more.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, TypeAlias, TypeVar

import orjson

from dconnect.core.address import IPAddress, IPNetwork
from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import (
    LEAST_MTU,
    LINK_ADDRESSES,
    LINK_FEATURE_CHARS,
    LINK_FEATURES,
    LINK_HOST_CHARS,
    PACKET_BYTES,
)

VERSION = 1
"""Of the link; ends of different versions do not talk."""
TCP_BY_TRUNK = "tcp-by-trunk"
"""A feature of the agent: its front door knows the SOCKS5 method by which a host's TCP comes as bytes, not packets."""

Interface: TypeAlias = IPv4Interface | IPv6Interface
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hello:
    """The host's first frame.

    JSON:  {"version": 1, "mtu": 65535, "features": ["…"], "host": "…", "address": "10.0.0.2"},
           the last where it had one
    """

    mtu: int
    """Of the host's device, in bytes."""
    features: frozenset[str] = frozenset()
    """What else the host can do: words that both ends know; others mean nothing."""
    address: IPAddress | None = None
    """What the host had on a link before, and its connections still have; it may get it again."""
    host: str = ""
    """The same on all links of one host, and another on each: only its own links may it replace."""

    def encode(self) -> bytes:
        """The payload of a hello frame."""
        told: dict[str, Any] = {"version": VERSION, "mtu": self.mtu, "features": sorted(self.features)}
        if self.host:
            told["host"] = self.host
        if self.address is not None:
            told["address"] = str(self.address)
        return orjson.dumps(told)

    @staticmethod
    def parse(payload: memoryview | bytes) -> Hello:
        """Read the payload of a hello frame.

        Raises: MalformedMessage: another version, no JSON object, a key that is missing, or a value that cannot be.
        """
        told = _object("hello", payload)
        _check_version("hello", told)
        mtu = _mtu("hello", told)
        features = _features("hello", told)
        host = told.get("host", "")
        if not isinstance(host, str) or len(host) > LINK_HOST_CHARS:
            raise MalformedMessage(f"The link's hello has no text of at most {LINK_HOST_CHARS} characters as 'host'.")
        address = told.get("address")
        had = _read(ipaddress.ip_address, address, "hello") if address is not None else None
        return Hello(mtu, features, had, host)


@dataclass(frozen=True, slots=True)
class Config:
    """What the host is to set up for the agent, whole each time.

    JSON:  {"version": 1, "mtu": 65535, "addresses": ["10.0.0.2/24", "fd00::2/64"],
            "subnets": ["172.17.0.0/16"], "dns": ["10.0.0.1", "fd00::1"], "features": ["…"]},
           the last where it has any

    Whether a subnet may be routed is the host's to judge: anything can stand here.
    """

    mtu: int
    """The largest packet that the agent takes, in bytes."""
    addresses: tuple[Interface, ...]
    """Of the host's device."""
    subnets: tuple[IPNetwork, ...]
    """To be routed into it."""
    dns: tuple[IPAddress, ...]
    """Where names are answered, on port 53; within one of the subnets or addresses."""
    features: frozenset[str] = frozenset()
    """What else the agent can do: words that both ends know; others mean nothing."""

    def encode(self) -> bytes:
        """The payload of a config frame."""
        told: dict[str, Any] = {
            "version": VERSION,
            "mtu": self.mtu,
            "addresses": [str(address) for address in self.addresses],
            "subnets": [str(subnet) for subnet in self.subnets],
            "dns": [str(address) for address in self.dns],
        }
        if self.features:
            told["features"] = sorted(self.features)
        return orjson.dumps(told)

    @staticmethod
    def parse(payload: memoryview | bytes) -> Config:
        """Read the payload of a config frame.

        Raises: MalformedMessage: no JSON object, a key that is missing, or a value that cannot be.
        """
        told = _object("config", payload)
        _check_version("config", told)
        addresses = _list("config", told, "addresses", LINK_ADDRESSES)
        subnets = _list("config", told, "subnets", len(payload))
        dns = _list("config", told, "dns", LINK_ADDRESSES)
        return Config(
            _mtu("config", told),
            tuple(_read(ipaddress.ip_interface, address) for address in addresses),
            tuple(_read(ipaddress.ip_network, subnet) for subnet in subnets),
            tuple(_read(ipaddress.ip_address, address) for address in dns),
            _features("config", told) if "features" in told else frozenset(),
        )


def _object(frame: str, payload: memoryview | bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise MalformedMessage(f"The link's {frame} is not JSON.") from None
    if not isinstance(told, dict):
        raise MalformedMessage(f"The link's {frame} is not a JSON object.")
    return told


def _check_version(frame: str, told: dict[str, Any]) -> None:
    version = _number(frame, told, "version")
    if version != VERSION:
        raise MalformedMessage(
            f"The link's other end speaks version {version}, this one {VERSION}; update the older of the two."
        )


def _mtu(frame: str, told: dict[str, Any]) -> int:
    mtu = _number(frame, told, "mtu")
    if not LEAST_MTU <= mtu <= PACKET_BYTES:
        raise MalformedMessage(f"The link's {frame} names an MTU of {mtu}, which is not {LEAST_MTU} to {PACKET_BYTES}.")
    return mtu


def _features(frame: str, told: dict[str, Any]) -> frozenset[str]:
    words = _list(frame, told, "features", LINK_FEATURES)
    if any(not isinstance(word, str) or not 0 < len(word) <= LINK_FEATURE_CHARS for word in words):
        raise MalformedMessage(f"The link's {frame} names a feature that is no word.")
    return frozenset(words)


def _number(frame: str, told: dict[str, Any], key: str) -> int:
    value = told.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedMessage(f"The link's {frame} has no whole number as {key!r}.")
    return value


def _list(frame: str, told: dict[str, Any], key: str, most: int) -> list[Any]:
    value = told.get(key)
    if not isinstance(value, list) or len(value) > most:
        raise MalformedMessage(f"The link's {frame} has no list of at most {most} elements as {key!r}.")
    return value


def _read(parse: Callable[[str], T], value: object, frame: str = "config") -> T:
    """An address or network in text. A zone has no meaning elsewhere, and numbers would be read as addresses."""
    if not isinstance(value, str) or "%" in value:
        raise MalformedMessage(
            f"The link's {frame} has {value!r:.80} where an address or network in text was expected."
        )
    try:
        return parse(value)
    except ValueError:
        raise MalformedMessage(f"The link's {frame} has {value!r:.80}, which is no address or network.") from None
