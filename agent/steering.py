"""How the agent's own kernel is told to take the hosts' TCP for its own: by routes alone, no filter, no translation.

    rule    what comes in by the device is looked up in a table of its own, IPv4 and IPv6
    table   everything is local
    route   links' addresses are behind the device

Idempotent: the device outlives the process that calls this.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Network, IPv6Network

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dconnect.core.errors import DconnectError
from dconnect.core.limits import DEVICE_PACKETS, PACKET_BYTES

_TABLE = 213
_PRIORITY = 213
_HOST_SCOPE = 254
"""RT_SCOPE_HOST: what a local route of IPv4 must have."""


def steer(device: str, subnet4: IPv4Network, subnet6: IPv6Network) -> None:
    """Set up the device and the routes.

    Raises: DconnectError.
    """
    try:
        with IPRoute() as kernel:
            (index,) = kernel.link_lookup(ifname=device)
            (loopback,) = kernel.link_lookup(ifname="lo")
            kernel.link("set", index=index, mtu=PACKET_BYTES, txqlen=DEVICE_PACKETS, state="up")
            for family, everything, subnet in (
                (socket.AF_INET, "0.0.0.0/0", subnet4),
                (socket.AF_INET6, "::/0", subnet6),
            ):
                try:
                    kernel.rule("add", family=family, iifname=device, table=_TABLE, priority=_PRIORITY)
                except NetlinkError as error:
                    if error.code != errno.EEXIST:
                        raise
                local = {"type": "local", "scope": _HOST_SCOPE, "table": _TABLE}
                kernel.route("replace", family=family, dst=everything, oif=loopback, **local)
                kernel.route("replace", family=family, dst=str(subnet), oif=index)
    except (NetlinkError, OSError, ValueError) as error:
        raise DconnectError(f"The agent's kernel does not let the tunnel be set up: {error}.") from error
