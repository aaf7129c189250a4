"""What is done to a host so that its resolver asks us for our suffixes, and nothing else of us: pure, step by step.

Nothing wished, nothing done: the empty wish has no steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dconnect.cli.host.detect import ADDRESS, RESOLV_CONF, Manager
from dconnect.cli.host.environment import Command
from dconnect.core.address import Target, parse_ip

MARK = "# dconnect"
"""Begins every file that is ours."""
LINK = "dconnect-dns"


@dataclass(frozen=True, slots=True)
class Wish:
    """Names under ``suffixes`` from the server ``dns``, by this host's ``manager``."""

    manager: Manager
    suffixes: tuple[str, ...]
    dns: Target


@dataclass(frozen=True, slots=True)
class Folder:
    """There is such a folder."""

    path: str

    def __str__(self) -> str:
        return f"make the folder {self.path}, unless it is there"


@dataclass(frozen=True, slots=True)
class File:
    """There is such a file, and it is ours."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True)
class FirstServer:
    """A resolv.conf(5) names this server before all others."""

    path: str
    address: str

    def __str__(self) -> str:
        return f"put nameserver {self.address} first in {self.path}"


@dataclass(frozen=True, slots=True)
class Forward:
    """A forwarder stands on port 53 of an address."""

    address: str
    to: Target

    def __str__(self) -> str:
        return f"start a forwarder on {self.address} port 53 to {self.to}"


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands are run, and others undo them."""

    do: tuple[Command, ...] = ()
    undo: tuple[Command, ...] = ()
    instead: tuple[Command, ...] = ()
    """Run where the first of ``do`` fails, in place of them all."""
    makes: str = ""
    """A path that is there exactly as long as this is not undone."""
    needed: bool = True
    """Whether a failure is one of the whole."""

    def __str__(self) -> str:
        return "\n".join(f"run {' '.join(command)}" for command in self.do)


Step: TypeAlias = Folder | File | FirstServer | Forward | Commands


def plan(wish: Wish | None) -> list[Step]:
    """The steps, in order; they are undone in the opposite one."""
    if wish is None:
        return []
    match wish.manager:
        case Manager.MACOS:
            return _macos(wish)
        case Manager.RESOLVED | Manager.OLD_RESOLVED:
            return _resolved(wish)
        case Manager.NETWORK_MANAGER:
            return _network_manager(wish)
        case Manager.RESOLV_CONF:
            return [Forward(ADDRESS, wish.dns), FirstServer(RESOLV_CONF, ADDRESS)]


def _macos(wish: Wish) -> list[Step]:
    """resolver(5); the cache is emptied after the last change in both directions."""
    flush: tuple[Command, ...] = (("dscacheutil", "-flushcache"), ("killall", "-HUP", "mDNSResponder"))
    server = f"{MARK}\nnameserver {wish.dns.host}\nport {wish.dns.port}\nsearch_order 1\ntimeout 5\n"
    return [
        Commands(undo=flush, needed=False),
        Folder("/etc/resolver"),
        *(File(f"/etc/resolver/{suffix}", server) for suffix in wish.suffixes),
        Commands(do=flush, needed=False),
    ]


def _resolved(wish: Wish) -> list[Step]:
    """A link of our own, which takes its servers and domains with it when it goes (resolvectl(1)).

    The address makes systemd-resolved count the link as being on a network: only with scope global, which 127.0.0.0/8
    has not by itself. It sends through the link, by which nothing but this host's own loopback is reached, so a server
    elsewhere needs a forwarder here; so does a version that knows no ports.
    """
    steps: list[Step] = []
    server = str(wish.dns)
    if wish.manager is Manager.OLD_RESOLVED or not _is_loopback(wish.dns.host):
        steps.append(Forward(ADDRESS, wish.dns))
        server = ADDRESS
    peer = f"{LINK}-1"
    steps += [
        Commands(
            do=(("ip", "link", "add", LINK, "type", "dummy"),),
            # Carrier without a process, on kernels that were built without dummy links.
            instead=(
                ("ip", "link", "add", LINK, "type", "veth", "peer", "name", peer),
                ("ip", "link", "set", peer, "up"),
            ),
            undo=(("ip", "link", "delete", LINK),),
            makes=f"/sys/class/net/{LINK}",
        ),
        Commands(
            do=(
                ("ip", "address", "add", f"{ADDRESS}/32", "dev", LINK, "scope", "global"),
                ("ip", "link", "set", LINK, "up"),
                ("resolvectl", "dns", LINK, server),
                ("resolvectl", "domain", LINK, *(f"~{suffix}" for suffix in wish.suffixes)),
                ("resolvectl", "default-route", LINK, "no"),
                *(("resolvectl", each, LINK, "no") for each in ("dnssec", "dnsovertls", "llmnr", "mdns")),
            )
        ),
    ]
    return steps


def _network_manager(wish: Wish) -> list[Step]:
    """dnsmasq(8), ``--server``; NetworkManager starts it anew for changed files (nmcli(1), ``dns-full``)."""
    reload: tuple[Command, ...] = (("nmcli", "general", "reload", "dns-full"),)
    lines = [f"server=/{suffix}/{wish.dns.host}#{wish.dns.port}" for suffix in wish.suffixes]
    return [
        Commands(undo=reload),
        Folder("/etc/NetworkManager/dnsmasq.d"),
        File("/etc/NetworkManager/dnsmasq.d/dconnect.conf", "\n".join([MARK, *lines, ""])),
        Commands(do=reload),
    ]


def _is_loopback(host: str) -> bool:
    address = parse_ip(host)
    return address is not None and address.is_loopback


def first_server(text: str, address: str) -> str:
    """A resolv.conf that names the server before all others, which stay, in their order.

    Without any, libc asks one on this host (resolv.conf(5)); so that one is named behind ours.
    """
    lines = text.splitlines(keepends=True)
    at = next((number for number, line in enumerate(lines) if line.startswith("nameserver")), len(lines))
    behind = [] if at < len(lines) else ["nameserver 127.0.0.1\n"]
    before = lines[:at]
    if before and not before[-1].endswith("\n"):
        before[-1] += "\n"
    return "".join([*before, *_ours(address), *behind, *lines[at:]])


def without_server(text: str, address: str) -> str:
    """The same without our lines, whatever else has been changed."""
    ours: Sequence[str] = _ours(address)
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() not in {each.strip() for each in ours})


def _ours(address: str) -> list[str]:
    return [f"{MARK}: the next line goes with `sudo dconnect dns uninstall`\n", f"nameserver {address}\n"]
