"""The agent's own place in the network: its addresses, subnets and gateways, as the kernel has them."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from dconnect.core.address import IPAddress, IPNetwork

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_DEFAULT_V6 = "0" * 32


@dataclass(frozen=True, slots=True)
class OwnNetwork:
    """What is ours; empty when the agent is embedded and shares the host's network."""

    addresses: tuple[IPAddress, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()
    gateways: tuple[IPAddress, ...] = ()


def own_network(proc: Path = Path("/proc/net")) -> OwnNetwork:
    """Read it; loopback is left out. A file that is not there (no IPv6) counts as empty."""
    addresses: list[IPAddress] = []
    subnets: list[IPNetwork] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                address, mask = (
                    ipaddress.IPv4Address(fcntl.ioctl(sock, code, request)[20:24])
                    for code in (_SIOCGIFADDR, _SIOCGIFNETMASK)
                )
            except OSError:
                continue  # no IPv4 address on it
            if not address.is_loopback:
                addresses.append(address)
                subnets.append(ipaddress.ip_network(f"{address}/{mask}", strict=False))
    for line in _lines(proc / "if_inet6"):
        digits, _, prefix, *_ = line.split()
        address6 = ipaddress.IPv6Address(bytes.fromhex(digits))
        if not address6.is_loopback:
            addresses.append(address6)
            subnets.append(ipaddress.ip_network((address6, int(prefix, 16)), strict=False))
    return OwnNetwork(tuple(addresses), tuple(subnets), tuple(_gateways(proc)))


def _gateways(proc: Path) -> list[IPAddress]:
    found: list[IPAddress] = []
    for line in _lines(proc / "route")[1:]:
        _, destination, gateway, *_ = line.split()
        if destination == "00000000" and gateway != "00000000":
            found.append(ipaddress.IPv4Address(struct.pack("=I", int(gateway, 16))))
    for line in _lines(proc / "ipv6_route"):
        destination, _, _, _, gateway, *_ = line.split()
        if destination == _DEFAULT_V6 and gateway != _DEFAULT_V6:
            found.append(ipaddress.IPv6Address(bytes.fromhex(gateway)))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
