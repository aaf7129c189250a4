"""What the two ends of a link tell one another about themselves: hello and config frames, in JSON.

Keys that are unknown are ignored, so that a later dconnect may tell more.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
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
    LINK_TOKEN_CHARS,
    PACKET_BYTES,
)

VERSION = 1
"""Of the link; ends of different versions do not talk."""

Interface: TypeAlias = IPv4Interface | IPv6Interface
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hello:
    """The host's first frame.

    JSON:  {"version": 1, "token": "…", "mtu": 65535, "features": ["…"]}
    """

    token: str = field(repr=False)
    """As sent: whoever receives it compares, in constant time."""
    mtu: int
    """Of the host's device, in bytes."""
    features: frozenset[str] = frozenset()
    """What else the host can do: words that both ends know; others mean nothing."""

    def encode(self) -> bytes:
        """The payload of a hello frame."""
        told = {"version": VERSION, "token": self.token, "mtu": self.mtu, "features": sorted(self.features)}
        return orjson.dumps(told)

    @staticmethod
    def parse(payload: memoryview | bytes) -> Hello:
        """Read the payload of a hello frame.

        Raises: MalformedMessage: another version, no JSON object, a key that is missing, or a value that cannot be.
        """
        told = _object("hello", payload)
        version = _number("hello", told, "version")
        if version != VERSION:
            raise MalformedMessage(
                f"The link's other end speaks version {version}, this one {VERSION}; update the older of the two."
            )
        token = _text("hello", told, "token", LINK_TOKEN_CHARS)
        mtu = _number("hello", told, "mtu")
        if not LEAST_MTU <= mtu <= PACKET_BYTES:
            raise MalformedMessage(
                f"The link's hello names an MTU of {mtu}, which is not {LEAST_MTU} to {PACKET_BYTES}."
            )
        features = _list("hello", told, "features", LINK_FEATURES)
        if any(not isinstance(word, str) or not 0 < len(word) <= LINK_FEATURE_CHARS for word in features):
            raise MalformedMessage("The link's hello names a feature that is no word.")
        return Hello(token, mtu, frozenset(features))


@dataclass(frozen=True, slots=True)
class Config:
    """What the host is to set up for the agent, whole each time.

    JSON:  {"addresses": ["10.0.0.1/32"], "subnets": ["172.17.0.0/16"], "dns": "10.0.0.2"}

    Whether a subnet may be routed is the host's to judge: anything can stand here.
    """

    addresses: tuple[Interface, ...]
    """Of the host's device."""
    subnets: tuple[IPNetwork, ...]
    """To be routed into it."""
    dns: IPAddress
    """Where names are answered, on port 53; within one of the subnets or addresses."""

    def encode(self) -> bytes:
        """The payload of a config frame."""
        told = {
            "addresses": [str(address) for address in self.addresses],
            "subnets": [str(subnet) for subnet in self.subnets],
            "dns": str(self.dns),
        }
        return orjson.dumps(told)

    @staticmethod
    def parse(payload: memoryview | bytes) -> Config:
        """Read the payload of a config frame.

        Raises: MalformedMessage: no JSON object, a key that is missing, or a value that cannot be.
        """
        told = _object("config", payload)
        addresses = _list("config", told, "addresses", LINK_ADDRESSES)
        subnets = _list("config", told, "subnets", len(payload))
        return Config(
            tuple(_read(ipaddress.ip_interface, address) for address in addresses),
            tuple(_read(ipaddress.ip_network, subnet) for subnet in subnets),
            _read(ipaddress.ip_address, told.get("dns")),
        )


def _object(frame: str, payload: memoryview | bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise MalformedMessage(f"The link's {frame} is not JSON.") from None
    if not isinstance(told, dict):
        raise MalformedMessage(f"The link's {frame} is not a JSON object.")
    return told


def _number(frame: str, told: dict[str, Any], key: str) -> int:
    value = told.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedMessage(f"The link's {frame} has no whole number as {key!r}.")
    return value


def _text(frame: str, told: dict[str, Any], key: str, most: int) -> str:
    value = told.get(key)
    if not isinstance(value, str) or len(value) > most:
        raise MalformedMessage(f"The link's {frame} has no text of at most {most} characters as {key!r}.")
    return value


def _list(frame: str, told: dict[str, Any], key: str, most: int) -> list[Any]:
    value = told.get(key)
    if not isinstance(value, list) or len(value) > most:
        raise MalformedMessage(f"The link's {frame} has no list of at most {most} elements as {key!r}.")
    return value


def _read(parse: Callable[[str], T], value: object) -> T:
    """An address or network in text. A zone has no meaning elsewhere, and numbers would be read as addresses."""
    if not isinstance(value, str) or "%" in value:
        raise MalformedMessage(f"The link's config has {value!r:.80} where an address or network in text was expected.")
    try:
        return parse(value)
    except ValueError:
        raise MalformedMessage(f"The link's config has {value!r:.80}, which is no address or network.") from None
