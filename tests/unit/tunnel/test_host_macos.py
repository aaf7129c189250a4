"""The commands that change a Mac's network, and what its programs print: golden, since no test runs there.

The outputs are those of macOS 14's netstat(1) and ifconfig(8); the commands those that its manual pages describe.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dconnect.tunnel.host_macos import MacHost, parse_addresses, parse_routes
from dconnect.tunnel.subnets import HostNet, Route

NETSTAT4 = """\
Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
default            link#21            UCSIg           bridge100      !
10                 10.8.0.1           UGSc                utun4
10.8/24            link#20            UCS                 utun4
127                127.0.0.1          UCS                   lo0
127.0.0.1          127.0.0.1          UH                    lo0
169.254            link#6             UCS                   en0      !
172.16/12          10.8.0.1           UGSc                utun4
192.168.1          link#6             UCS                   en0      !
192.168.1.1/32     link#6             UCS                   en0      !
192.168.1.1        a0:b1:c2:d3:e4:f5  UHLWIir               en0   1178
224.0.0/4          link#6             UmCS                  en0      !
255.255.255.255/32 link#6             UCS                   en0      !
"""
NETSTAT6 = """\
Routing tables

Internet6:
Destination                             Gateway                                 Flags               Netif Expire
default                                 fe80::%utun0                            UGcIg               utun0
::1                                     ::1                                     UHL                   lo0
fd12:3456:789a::/64                     link#6                                  UC                    en0
fe80::%lo0/64                           fe80::1%lo0                             UcI                   lo0
ff00::/8                                ::1                                     UmCI                  lo0
"""
IFCONFIG = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether a0:b1:c2:00:00:01
\tinet6 fd12:3456:789a::7 prefixlen 64 autoconf secured
\tinet 192.168.1.7 netmask 0xffffff00 broadcast 192.168.1.255
\tstatus: active
utun4: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1380
\tinet 10.8.0.2 --> 10.8.0.2 netmask 0xffffff00
"""


class Commands:
    """Records what would be run; answers with what was prepared."""

    def __init__(self, **outputs: str | OSError) -> None:
        self.ran: list[str] = []
        self.outputs = outputs

    def __call__(self, command: Sequence[str]) -> str:
        self.ran.append(" ".join(command))
        output = self.outputs.get(command[0], "")
        if isinstance(output, OSError):
            raise output
        return output


def test_the_device_gets_addresses_mtu_and_its_network() -> None:
    commands = Commands()
    MacHost(commands).set_up("utun5", (ip_interface("10.213.0.2/24"), ip_interface("fd3b::2/64")), 65_535)
    assert commands.ran == [
        "ifconfig utun5",
        "ifconfig utun5 inet 10.213.0.2 10.213.0.2 netmask 255.255.255.0 alias",
        "ifconfig utun5 inet6 fd3b::2 prefixlen 64 alias",
        "ifconfig utun5 mtu 65535 up",
        "route -q -n add -inet 10.213.0.0/24 -interface utun5",
    ]


def test_an_address_that_the_device_has_and_should_not_is_removed() -> None:
    commands = Commands(
        ifconfig="utun5: flags=8051<UP> mtu 65535\n\tinet 10.213.0.2 --> 10.213.0.2 netmask 0xffffff00\n"
    )
    MacHost(commands).set_up("utun5", (ip_interface("10.213.0.3/24"),), 65_535)
    assert "ifconfig utun5 inet 10.213.0.2 -alias" in commands.ran


def test_routes_are_added_and_removed_by_interface() -> None:
    commands = Commands()
    host = MacHost(commands)
    host.add(ip_network("172.18.0.0/16"), "utun5")
    host.add(ip_network("fd17::/64"), "utun5")
    host.remove(ip_network("172.18.0.0/16"), "utun5")
    host.remove(ip_network("fd17::/64"), "utun5")
    assert commands.ran == [
        "route -q -n add -inet 172.18.0.0/16 -interface utun5",
        "route -q -n add -inet6 fd17::/64 -interface utun5",
        "route -q -n delete -inet 172.18.0.0/16 -interface utun5",
        "route -q -n delete -inet6 fd17::/64 -interface utun5",
    ]


def test_a_route_that_is_gone_already_is_no_error() -> None:
    MacHost(Commands(route=OSError(5, "route: writing to routing socket: not in table"))).remove(
        ip_network("172.18.0.0/16"), "utun5"
    )
    with pytest.raises(OSError, match="not permitted"):
        MacHost(Commands(route=OSError(1, "not permitted"))).remove(ip_network("172.18.0.0/16"), "utun5")


def test_devices_are_found_by_their_beginning() -> None:
    assert MacHost(Commands(ifconfig="lo0 en0 utun0 utun4\n")).devices("utun") == ["utun0", "utun4"]


def test_routes_are_read_as_netstat_shortens_them() -> None:
    assert list(parse_routes(NETSTAT4, 4)) == [
        Route(ip_network("0.0.0.0/0"), "en0", ip_address("192.168.1.1")),
        Route(ip_network("0.0.0.0/0"), "bridge100"),
        Route(ip_network("10.0.0.0/8"), "utun4", ip_address("10.8.0.1")),
        Route(ip_network("10.8.0.0/24"), "utun4"),
        Route(ip_network("127.0.0.0/8"), "lo0"),
        Route(ip_network("127.0.0.1/32"), "lo0"),
        Route(ip_network("172.16.0.0/12"), "utun4", ip_address("10.8.0.1")),
        Route(ip_network("192.168.1.0/24"), "en0"),
        Route(ip_network("192.168.1.1/32"), "en0"),
        Route(ip_network("255.255.255.255/32"), "en0"),
    ]
    assert list(parse_routes(NETSTAT6, 6)) == [
        Route(ip_network("::/0"), "utun0", ip_address("fe80::")),
        Route(ip_network("::1/128"), "lo0"),
        Route(ip_network("fd12:3456:789a::/64"), "en0"),
    ]


def test_addresses_are_read_with_their_interfaces() -> None:
    assert list(parse_addresses(IFCONFIG)) == [
        (ip_address("127.0.0.1"), "lo0"),
        (ip_address("::1"), "lo0"),
        (ip_address("fe80::1"), "lo0"),
        (ip_address("fd12:3456:789a::7"), "en0"),
        (ip_address("192.168.1.7"), "en0"),
        (ip_address("10.8.0.2"), "utun4"),
    ]


def test_the_tunnels_own_device_is_not_the_hosts() -> None:
    found = MacHost(Commands(netstat=NETSTAT4, ifconfig=IFCONFIG)).net(without="utun4")
    assert isinstance(found, HostNet)
    assert "utun4" not in {route.interface for route in found.routes} | {name for _, name in found.addresses}
    assert found.routes
    assert found.addresses
