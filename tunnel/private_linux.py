"""A private network on a Linux host, in which the kernel itself ends the host's TCP.

    host's own network                 private network namespace
    dconnect0 ═══════════ veth ═══════ inner ─┬─ SYN ─────────────▶ syns     (TUN) ─▶ held, dialed, written back: local
                                              ├─ other TCP ───────▶ local: the kernel's connections
                                              └─ everything else ─▶ packets  (TUN) ─▶ the link
                                         ▲
                                         └──── answers, by a packet socket

What arrives by ``inner`` is sorted by traffic control (tc-u32(8), tc-mirred(8)); a rule makes what is left, and what is
written to ``syns``, local, whatever its address. So no segment but the first of a connection is seen by a process:
bytes go from the host's socket to ours as between two programs of one machine. No filter, no translation, no tracking.

Both ends of the pair have one hardware address and ask nobody for another: there is no neighbour. The namespace has no
name; it lives while somebody has a descriptor of it, and with it goes the pair.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dconnect.core.address import IPNetwork
from dconnect.core.errors import DconnectError
from dconnect.core.limits import DEVICE_PACKETS, TUNNEL_SOCKETS
from dconnect.tunnel.linux import LinuxDevice
from dconnect.tunnel.local_linux import EVERYTHING, make_local
from dconnect.tunnel.private import HARDWARE_ADDRESS, Answers, PrivateDevice
from dconnect.tunnel.transparent import transparent

_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"
_INNER, _SYNS, _PACKETS = "inner", "syns", "packets"
_INGRESS = 0xFFFFFFF2
"""TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)"""
_IPV4, _IPV6 = 0x0800, 0x86DD
_LINK_SCOPE = 253
_SETTINGS = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/*/rp_filter": "0",  # the rule decides what is local, not where its answer would go
    "ipv4/ip_unprivileged_port_start": "0",  # whoever has a socket of this network may listen on any port
    "ipv4/tcp_orphan_retries": "1",  # a killed pump's connections must not keep the network, and so the device, alive
}
_TCP_FLAGS = {_IPV4: 33, _IPV6: 53}
"""Where they are in a packet without options or extension headers, which no kernel puts into a SYN."""


class Lacking(DconnectError):
    """This kernel cannot do it: a module is missing, or a container allows it not."""


class PrivateNetwork:
    """Makes one, and sockets in it; needs root."""

    def __init__(self, name: str, mtu: int, own: Iterable[IPNetwork]) -> None:
        """Make it.

        Args:
            name: of the host's end of the pair.
            mtu: in bytes.
            own: the tunnel's own networks, whose TCP goes by the link like everything else.
        Raises: Lacking; DconnectError: the name is taken.
        """
        self._own = frozenset(own)
        with ExitStack() as held:
            try:
                with _inside() as (host, fd):
                    held.callback(os.close, fd)
                    self._fd = fd
                    self.device, self.syns = _make(name, mtu, self._own, host)
            except (OSError, NetlinkError) as error:
                code = error.code if isinstance(error, NetlinkError) else error.errno
                if code == errno.EEXIST:
                    raise DconnectError(
                        f"There is a device {name} already; stop the program that has it, or `sudo dconnect cleanup`."
                    ) from error
                raise Lacking(f"This system has no private network for the tunnel ({error}).") from error
            held.pop_all()  # nothing is to be closed

    def keep_apart(self, own: Iterable[IPNetwork]) -> None:
        """The tunnel's own networks are these from now on.

        Raises: OSError.
        """
        if frozenset(own) == self._own:
            return
        self._own = frozenset(own)
        try:
            with _inside(self._fd), IPRoute() as kernel:
                index = _indexes(kernel)
                kernel.tc("del", "clsact", index[_INNER])
                _sort(kernel, index, self._own)
        except NetlinkError as error:
            raise OSError(error.code, f"the tunnel's private network: {error}") from error

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the pump gets: the device's, then the SYNs'."""
        return (*self.device.descriptors, *self.syns.descriptors)

    def sockets(self, version: int, count: int = TUNNEL_SOCKETS) -> list[socket.socket]:
        """Sockets in it that may take connections to any address; unbound.

        Raises: OSError.
        """
        found: list[socket.socket] = []
        with _inside(self._fd):
            try:
                found.extend(transparent(version) for _ in range(count))
            except BaseException:
                for each in found:
                    each.close()
                raise
        return found

    def close(self) -> None:
        """Let go of it; it lives on while others have descriptors of it."""
        os.close(self._fd)


@contextmanager
def _inside(fd: int | None = None) -> Iterator[tuple[int, int]]:
    """This thread is in the private network, a new one without ``fd``; yields descriptors of the host's, and of it.

    Raises: OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    host = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET) if fd is None else libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            yield host, os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC) if fd is None else fd
        finally:
            if libc.setns(host, _CLONE_NEWNET):  # pragma: no cover
                os._exit(1)  # nothing that root does may happen in the wrong network
    finally:
        os.close(host)


def _make(name: str, mtu: int, own: Iterable[IPNetwork], host: int) -> tuple[PrivateDevice, LinuxDevice]:
    """All of it, from within. Raises: OSError, NetlinkError, DconnectError."""
    with IPRoute() as kernel, ExitStack() as held:
        syns = LinuxDevice.create(mtu, _SYNS)
        held.callback(syns.close)
        packets = LinuxDevice.create(mtu, _PACKETS)
        held.callback(packets.close)
        pair = {"mtu": mtu, "address": HARDWARE_ADDRESS}
        kernel.link("add", ifname=_INNER, kind="veth", peer={"ifname": name, "net_ns_fd": host, **pair}, **pair)
        index = _indexes(kernel)
        # By itself it would go with the namespace, but a moment later, when its name may be wanted already.
        held.callback(kernel.link, "del", index=index[_INNER])
        for setting, value in _SETTINGS.items():
            for device in (_INNER, _SYNS) if "*" in setting else ("",):
                Path("/proc/sys/net", setting.replace("*", device)).write_text(value)
        kernel.link("set", index=index["lo"], state="up")
        kernel.link("set", index=index[_INNER], arp=False, state="up")
        for tun in (_SYNS, _PACKETS):
            kernel.link("set", index=index[tun], txqlen=DEVICE_PACKETS)
        make_local(kernel, _INNER, _SYNS)
        for family, everything in EVERYTHING:
            kernel.route("add", family=family, dst=everything, oif=index[_INNER], scope=_LINK_SCOPE)
        _sort(kernel, index, own)
        answers = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: it hears nothing
        held.callback(answers.close)
        answers.bind((_INNER, 0))
        held.pop_all()
        return PrivateDevice(packets, Answers(answers), name), syns


def _indexes(kernel: Any) -> dict[str, int]:
    return {each: kernel.link_lookup(ifname=each)[0] for each in (_INNER, _SYNS, _PACKETS, "lo")}


def _sort(kernel: Any, index: dict[str, int], own: Iterable[IPNetwork]) -> None:
    """Say where each packet from the host goes; the first filter that fits decides."""
    kernel.tc("add", "clsact", index[_INNER])
    syns, packets = (
        {"action": {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": index[each]}}
        for each in (_SYNS, _PACKETS)
    )
    filters: list[tuple[int, list[str], dict[str, Any]]] = [(_version(each), _towards(each), packets) for each in own]
    for version, protocol in ((_IPV4, "0x06/0xff+9"), (_IPV6, "0x06/0xff+6")):
        syn = f"0x02/0x12+{_TCP_FLAGS[version]}"  # SYN without ACK
        filters += [
            (version, [protocol, syn], syns),
            (version, [protocol], {}),  # without an action it goes on as it is
            (version, ["0x0/0x0+0"], packets),
        ]
    for order, (version, keys, action) in enumerate(filters, 1):
        kernel.tc(
            "add-filter",
            "u32",
            index[_INNER],
            parent=_INGRESS,
            prio=order,
            protocol=version,
            target=0,
            keys=keys,
            **action,
        )


def _version(net: IPNetwork) -> int:
    return _IPV4 if net.version == 4 else _IPV6


def _towards(net: IPNetwork) -> list[str]:
    """Keys that fit packets to a network: 32 bits each."""
    address, mask = net.network_address.packed, net.netmask.packed
    start = 16 if net.version == 4 else 24
    return [
        f"0x{address[at : at + 4].hex()}/0x{mask[at : at + 4].hex()}+{start + at}"
        for at in range(0, len(address), 4)
        if any(mask[at : at + 4])
    ]
