"""How the agent's own kernel is told to take the hosts' TCP for its own: by routes alone, no filter, no translation.

What comes in by the device is local, whatever its destination (``tunnel.local_linux``); links' addresses are behind it.

Idempotent: the device outlives the process that calls this.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Network

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dconnect.core.errors import DconnectError
from dconnect.core.limits import DEVICE_PACKETS, PACKET_BYTES
from dconnect.tunnel.local_linux import make_local


def steer(device: str, subnet4: IPv4Network, subnet6: IPv6Network) -> None:
    """Set up the device and the routes.

    Raises: DconnectError.
    """
    try:
        with IPRoute() as kernel:
            (index,) = kernel.link_lookup(ifname=device)
            kernel.link("set", index=index, mtu=PACKET_BYTES, txqlen=DEVICE_PACKETS, state="up")
            make_local(kernel, device)
            for family, subnet in ((socket.AF_INET, subnet4), (socket.AF_INET6, subnet6)):
                kernel.route("replace", family=family, dst=str(subnet), oif=index)
    except (NetlinkError, OSError, ValueError) as error:
        raise DconnectError(f"The agent's kernel does not let the tunnel be set up: {error}.") from error
