"""Having a kernel take what comes in by a device for its own, whatever its destination: by routes alone.

rule    what comes in by the device is looked up in a table of its own, IPv4 and IPv6
table   everything is local
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

_TABLE = _PRIORITY = 213
_HOST_SCOPE = 254
"""RT_SCOPE_HOST: what a local route of IPv4 must have."""
EVERYTHING = ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0"))


def make_local(kernel: Any, *devices: str) -> None:
    """Do it, once or again, in the network of ``kernel``, an IPRoute.

    Raises: NetlinkError.
    """
    (loopback,) = kernel.link_lookup(ifname="lo")
    for family, everything in EVERYTHING:
        for device in devices:
            try:
                kernel.rule("add", family=family, iifname=device, table=_TABLE, priority=_PRIORITY)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
        kernel.route(
            "replace", family=family, dst=everything, oif=loopback, type="local", scope=_HOST_SCOPE, table=_TABLE
        )
