"""What the host takes from the link: answers to itself. The agent is not trusted with more."""

from __future__ import annotations

from collections.abc import Iterable

from dconnect.core.address import IPNetwork
from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import GATE_SOURCES
from dconnect.tunnel.wire.messages import Interface
from dconnect.tunnel.wire.packets import SYN, flow


class Gate:
    """Lets packets through that come from where the tunnel leads, go to the device's own address, and open nothing."""

    def __init__(self, addresses: Iterable[Interface], subnets: Iterable[IPNetwork]) -> None:
        own = list(addresses)
        self._own = frozenset(each.ip.packed for each in own)
        self._from = {
            version: [
                (int(net.network_address), int(net.netmask))
                for net in (*(each.network for each in own), *subnets)
                if net.version == version
            ]
            for version in (4, 6)
        }
        self._known: set[bytes] = set()
        """Sources that were found to be inside."""

    def admits(self, packet: memoryview) -> bool:
        """Whether a packet from the link is the host's to see."""
        try:
            kind, _ = flow(packet)
        except MalformedMessage:
            return False
        if kind == SYN:
            return False  # connections go to containers, never from them
        if packet[0] >> 4 == 4:
            source, destination = bytes(packet[12:16]), bytes(packet[16:20])
        else:
            source, destination = bytes(packet[8:24]), bytes(packet[24:40])
        return destination in self._own and (source in self._known or self._leads_to(source))

    def _leads_to(self, source: bytes) -> bool:
        number = int.from_bytes(source)
        if not any(number & mask == network for network, mask in self._from[4 if len(source) == 4 else 6]):
            return False
        if len(self._known) >= GATE_SOURCES:
            self._known.clear()
        self._known.add(source)
        return True
