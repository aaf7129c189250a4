"""The host's network on Linux, by netlink (rtnetlink(7))."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dconnect.core.address import IPNetwork
from dconnect.core.congestion import CONGESTION_CONTROL
from dconnect.core.limits import DEVICE_PACKETS
from dconnect.tunnel.subnets import HostNet, Route
from dconnect.tunnel.wire.messages import Interface

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_LOCAL_TABLE = 255
_MULTICAST = (ipaddress.ip_network("ff00::/8"), ipaddress.ip_network("fe80::/10"))
"""Every interface has them; they lead nowhere that a subnet could be."""
_SETTINGS = {
    "ipv6/conf/*/addr_gen_mode": "1",  # no address that nobody gave
    "ipv6/conf/*/accept_ra": "0",  # nor one that the link's other end would like
    "ipv4/conf/*/promote_secondaries": "1",  # the old address does not take the new one of its network along
}
"""Of the device alone, and gone with it (ip-sysctl, Linux)."""
_SCOPE_LINK = 253
_IFA_F_NODAD = 0x02
"""The tunnel has no neighbour that could have the address too, and waiting for one takes a second (RFC 4862 §5.4)."""


class LinuxHost:
    """Netlink's view of this network namespace."""

    def __init__(self) -> None:
        self._netlink: Any = IPRoute()

    def net(self, without: str) -> HostNet:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in self._netlink.get_links()}
        addresses = [
            (ipaddress.ip_address(text), names.get(each["index"], "?"))
            for each in self._netlink.get_addr()
            if (text := each.get_attr("IFA_LOCAL") or each.get_attr("IFA_ADDRESS"))
        ]
        routes = [route for family in _ANY for route in self._routes(family, names)]
        return HostNet(
            tuple(route for route in routes if route.interface != without),
            tuple(each for each in addresses if each[1] != without),
        )

    def _routes(self, family: int, names: dict[int, str]) -> Iterator[Route]:
        for each in self._netlink.get_routes(family=family):
            if each.get_attr("RTA_TABLE", each["table"]) == _LOCAL_TABLE:
                continue  # what stands there are addresses
            text = each.get_attr("RTA_DST")
            prefix = ipaddress.ip_network(f"{text}/{each['dst_len']}" if text else _ANY[socket.AddressFamily(family)])
            if prefix in _MULTICAST:
                continue
            hops = each.get_attr("RTA_MULTIPATH") or [each]
            for hop in hops:
                index = hop["oif"] if "oif" in hop and hop is not each else each.get_attr("RTA_OIF")
                gateway = hop.get_attr("RTA_GATEWAY")
                # A route of kind blackhole or unreachable has no interface.
                yield Route(
                    prefix, names.get(index, "no interface"), ipaddress.ip_address(gateway) if gateway else None
                )

    def devices(self, prefix: str) -> list[str]:
        names = (link.get_attr("IFLA_IFNAME") for link in self._netlink.get_links())
        return sorted(name for name in names if name.startswith(prefix))

    def set_up(self, device: str, addresses: Sequence[Interface], mtu: int) -> None:
        index = self._index(device)
        for name, value in _SETTINGS.items():
            path = Path("/proc/sys/net", name.replace("*", device))
            if path.exists():  # where IPv6 is switched off there is none of its
                path.write_text(value)
        # There is no neighbour to ask: what leaves by the device is for whoever is at its other end.
        self._netlink.link("set", index=index, mtu=mtu, txqlen=DEVICE_PACKETS, arp=False, state="up")
        self._add_addresses(device, index, addresses)
        wanted = {each.ip for each in addresses}
        for held in self._netlink.get_addr(index=index):
            address = ipaddress.ip_address(held.get_attr("IFA_LOCAL") or held.get_attr("IFA_ADDRESS"))
            if address not in wanted:
                self._netlink.addr("del", index=index, address=str(address), prefixlen=held["prefixlen"])

    def _add_addresses(self, device: str, index: int, addresses: Sequence[Interface]) -> None:
        for each in addresses:
            extra = {"flags": _IFA_F_NODAD} if each.version == 6 else {}
            try:
                self._netlink.addr(
                    "replace",
                    index=index,
                    address=str(each.ip),
                    prefixlen=each.network.prefixlen,
                    family=_FAMILY[each.version],
                    **extra,
                )
            except NetlinkError as error:
                if each.version == 4 or error.code not in (errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL):
                    raise OSError(error.code, f"{each} on {device}: {error}") from error
                # IPv6 is switched off on this host: nobody here will miss it.

    def add(self, subnet: IPNetwork, device: str) -> None:
        # Not "replace": that would take a route which came in between.
        self._route("add", subnet, device, metrics={"cc_algo": CONGESTION_CONTROL})

    def remove(self, subnet: IPNetwork, device: str) -> None:
        try:
            self._route("del", subnet, device)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.ENOENT):
                raise

    def _route(self, command: str, subnet: IPNetwork, device: str, **more: Any) -> None:
        family = _FAMILY[subnet.version]
        try:
            self._netlink.route(
                command, dst=str(subnet), oif=self._index(device), family=family, scope=_SCOPE_LINK, **more
            )
        except NetlinkError as error:
            raise OSError(error.code, f"{subnet} on {device}: {error}") from error

    def delete(self, device: str) -> None:
        found = self._netlink.link_lookup(ifname=device)
        if not found:
            return
        try:
            self._netlink.link("del", index=found[0])
        except NetlinkError as error:
            if error.code != errno.ENODEV:  # it went by itself meanwhile
                raise OSError(error.code, f"{device}: {error}") from error

    def close(self) -> None:
        self._netlink.close()

    def _index(self, device: str) -> int:
        found: list[int] = self._netlink.link_lookup(ifname=device)
        if not found:
            raise OSError(errno.ENODEV, f"there is no device {device}")
        return found[0]
