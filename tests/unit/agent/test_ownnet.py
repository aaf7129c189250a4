"""The agent's own place in the network, from the kernel's texts."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from pathlib import Path

from dconnect.agent.ownnet import own_network

# As Linux 6.1 writes them in a container on a bridge with IPv6.
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
IF_INET6 = """\
fd0000dc000000000000000000000002 04 40 00 82     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""
IPV6_ROUTE = (
    "fd0000dc000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fd0000dc000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
)


def test_gateways_and_ipv6_addresses_are_read(tmp_path: Path) -> None:
    for name, text in (("route", ROUTE), ("if_inet6", IF_INET6), ("ipv6_route", IPV6_ROUTE)):
        (tmp_path / name).write_text(text)
    own = own_network(tmp_path)
    assert own.gateways == (ip_address("172.17.0.1"), ip_address("fd00:dc::1"))
    assert [address for address in own.addresses if address.version == 6] == [
        ip_address("fd00:dc::2"),
        ip_address("fe80::fc:ff:fe00:1"),
    ]
    assert ip_network("fd00:dc::/64") in own.subnets


def test_without_any_file_nothing_is_known_but_the_interfaces(tmp_path: Path) -> None:
    own = own_network(tmp_path)
    assert own.gateways == ()
    assert all(address.version == 4 for address in own.addresses)


def test_the_interfaces_addresses_are_the_kernels_own() -> None:
    own = own_network()
    for address, subnet in zip(own.addresses, own.subnets, strict=True):
        assert address in subnet
        assert not address.is_loopback
        if not address.is_link_local:  # those need their interface's number
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((str(address), 0))
