"""Addresses as people and protocols write them, in one canonical form."""

from __future__ import annotations

import functools
import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias

from dconnect.core.errors import UsageError

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network

MAX_HOST_LENGTH = 255
"""RFC 1035 §2.3.4, and the one-byte length of a SOCKS5 domain (RFC 1928 §5)."""


class Target(NamedTuple):
    """Where a client wants to go: ``host`` is a name or an address in text, lower case."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@functools.lru_cache(maxsize=4096)  # a host has few; parsing costs as much as a system call
def parse_ip(text: str) -> IPAddress | None:
    """Parse an address literal; brackets and an IPv6 zone are accepted, names give None."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        return canonical(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def canonical(address: IPAddress) -> IPAddress:
    """Unwrap an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2), so that policy judges what is dialed."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def normal_name(name: str) -> str:
    """Lower-case a host name and drop its final dot (RFC 4343, RFC 1034 §3.1).

    All of them, where there are several: normalised once more, a name must not be another than the one rules judged.
    """
    return name.lower().rstrip(".")


def parse_authority(text: str, default_port: int | None = None) -> Target:
    """Parse ``host:port``, ``[v6]:port`` or, with a default port, ``host`` (RFC 3986 §3.2).

    Raises:
        UsageError: empty host, no port where one is needed, or a port outside 1 to 65535.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or parse_ip(host) is None:
            raise UsageError(f"{text!r} is not a host and port.")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text:
        raise UsageError(f"{text!r} is not a host and port; write an IPv6 address in brackets.")
    if not port and default_port is not None:
        number = default_port
    elif port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535:
        number = int(port)
    else:
        raise UsageError(f"{text!r} has no port between 1 and 65535.")
    name = normal_name(host)
    if not name or len(name) > MAX_HOST_LENGTH or not name.isprintable() or set(name) & set(" /@?#\\"):
        raise UsageError(f"{text!r} has no usable host name.")
    return Target(name, number)
