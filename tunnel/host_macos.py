"""The host's network on macOS: ifconfig(8), route(8) and netstat(1), which every release has.

The commands and what they print are fixed by golden tests; a utun device takes its addresses and routes with it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from dconnect.core.address import IPAddress, IPNetwork, parse_ip
from dconnect.tunnel.subnets import HostNet, Route
from dconnect.tunnel.wire.messages import Interface

Run: TypeAlias = Callable[[Sequence[str]], str]

COMMAND_SECONDS = 10.0
"""They answer within milliseconds; longer is a machine that is going down."""
_FAMILY = {4: "-inet", 6: "-inet6"}
_EXISTS = "File exists"
"""route(8) says so and ends with 0 or 1, depending on the release."""


def run(command: Sequence[str]) -> str:
    """What a command prints.

    Raises: OSError with the command's words; PermissionError, FileExistsError as the words say.
    """
    try:
        result = subprocess.run(  # noqa: S603 - fixed programs, and addresses that were parsed
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
            env={"PATH": _PATH, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(errno.ETIMEDOUT, f"{' '.join(command)} did not end") from error
    words = (result.stderr or result.stdout).strip()
    if _EXISTS in words:
        raise FileExistsError(errno.EEXIST, f"{' '.join(command)}: {words}")
    if result.returncode:
        raise OSError(errno.EIO, f"{' '.join(command)}: {words}")
    return result.stdout


_PATH = "/sbin:/usr/sbin:/bin:/usr/bin"


class MacHost:
    """The network as the system's programs show and change it."""

    def __init__(self, run: Run = run) -> None:
        self._run = run

    def net(self, without: str) -> HostNet:
        routes = [
            route
            for version, family in ((4, "inet"), (6, "inet6"))
            for route in parse_routes(self._run(["netstat", "-rn", "-f", family]), version)
        ]
        addresses = parse_addresses(self._run(["ifconfig", "-a"]))
        return HostNet(
            tuple(route for route in routes if route.interface != without),
            tuple(each for each in addresses if each[1] != without),
        )

    def devices(self, prefix: str) -> list[str]:
        return sorted(name for name in self._run(["ifconfig", "-l"]).split() if name.startswith(prefix))

    def set_up(self, device: str, addresses: Sequence[Interface], mtu: int) -> None:
        wanted = {each.ip for each in addresses}
        for held, _ in parse_addresses(self._run(["ifconfig", device])):
            if held not in wanted and not held.is_link_local:
                self._run(["ifconfig", device, "inet" if held.version == 4 else "inet6", str(held), "-alias"])
        for each in addresses:
            if each.version == 4:
                # utun is point-to-point: the peer is the address itself, and the network gets a route of its own.
                mask = str(each.network.netmask)
                self._run(["ifconfig", device, "inet", str(each.ip), str(each.ip), "netmask", mask, "alias"])
            else:
                bits = str(each.network.prefixlen)
                self._run(["ifconfig", device, "inet6", str(each.ip), "prefixlen", bits, "alias"])
        self._run(["ifconfig", device, "mtu", str(mtu), "up"])
        for each in addresses:
            if each.version == 4:
                with contextlib.suppress(FileExistsError):
                    self.add(each.network, device)

    def add(self, subnet: IPNetwork, device: str) -> None:
        self._run(["route", "-q", "-n", "add", _FAMILY[subnet.version], str(subnet), "-interface", device])

    def remove(self, subnet: IPNetwork, device: str) -> None:
        try:
            self._run(["route", "-q", "-n", "delete", _FAMILY[subnet.version], str(subnet), "-interface", device])
        except OSError as error:
            if "not in table" not in str(error):
                raise

    def delete(self, device: str) -> None:
        """Nothing: a utun device ends with its last descriptor, and no command removes it before."""

    def close(self) -> None:
        pass


def parse_addresses(text: str) -> Iterator[tuple[IPAddress, str]]:
    """The addresses and their interfaces, of ``ifconfig -a``."""
    interface = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            interface = line.partition(":")[0]
        words = line.split()
        if words[:1] in (["inet"], ["inet6"]) and len(words) > 1 and (address := parse_ip(words[1])) is not None:
            yield address, interface


def parse_routes(text: str, version: int) -> Iterator[Route]:
    """The routes of ``netstat -rn -f inet`` or ``inet6``, without those that lead to one neighbour or nowhere."""
    columns: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["Destination", "Gateway"]:
            columns = words
        elif columns and len(words) >= 4:
            flags, interface = words[2], words[columns.index("Netif")]
            prefix = _prefix(words[0], version)
            if prefix is None or "W" in flags or prefix.is_multicast or prefix.is_link_local:
                continue  # W: cloned from a network's route when a neighbour was spoken to
            gateway = parse_ip(words[1]) if "G" in flags else None
            yield Route(prefix, interface, gateway)


def _prefix(text: str, version: int) -> IPNetwork | None:
    """A destination as netstat(1) shortens it: ``default``, ``10``, ``172.16/12``, ``192.168.1``, ``fe80::%lo0/64``."""
    if text == "default":
        return ipaddress.ip_network("::/0" if version == 6 else "0.0.0.0/0")
    address, _, bits = text.partition("/")
    if version == 4:
        octets = address.split(".")
        bits = bits or str(8 * len(octets))
        address = ".".join((octets + ["0"] * 4)[:4])
    try:
        return ipaddress.ip_network(f"{address.partition('%')[0]}/{bits or 128}", strict=False)
    except ValueError:
        return None
