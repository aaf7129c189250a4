"""Container names: a pure zone over the inventory, for proxies and for DNS (see README.md)."""

from __future__ import annotations

from dconnect.dns.build import build
from dconnect.dns.forward import Forwarder, Server
from dconnect.dns.resolver import Elsewhere, Resolver
from dconnect.dns.server import DnsServer
from dconnect.dns.zone import Agent, Found, NoAddress, NotOurs, Stopped, Unknown, Zone

__all__ = [
    "Agent",
    "DnsServer",
    "Elsewhere",
    "Forwarder",
    "Found",
    "NoAddress",
    "NotOurs",
    "Resolver",
    "Server",
    "Stopped",
    "Unknown",
    "Zone",
    "build",
]
