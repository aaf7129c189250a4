"""The gateway: packets of hosts to the agent's kernel and to sockets of ours, and back.

    link ──▶ TCP segment ─────────────────▶ device (the agent's kernel has the connection)      the hot path
             SYN ──▶ tcp: held, dialed ──▶ device
             UDP ──▶ udp · echo ──▶ echo · fragment ──▶ put together, again
    device ──▶ the link that has the destination's address

Only TCP goes into the device, so only TCP comes out of it. A link that is behind makes reading from the device wait if
it is the only one, which costs nothing; otherwise packets for it beyond its outbox are lost, and the others go on.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from dconnect.core.address import IPNetwork
from dconnect.core.errors import MalformedMessage
from dconnect.core.events import Session
from dconnect.core.limits import (
    DEVICE_TURN_BYTES,
    DEVICE_TURN_PACKETS,
    LINK_RESERVE,
    LINKS,
    PACKET_BYTES,
)
from dconnect.tunnel.device import Device
from dconnect.tunnel.gateway.counters import Counters
from dconnect.tunnel.gateway.echo import Pings
from dconnect.tunnel.gateway.link import Link
from dconnect.tunnel.gateway.plan import Plan
from dconnect.tunnel.gateway.router import ErrorBound
from dconnect.tunnel.gateway.tcp import Connections
from dconnect.tunnel.gateway.udp import Datagrams
from dconnect.tunnel.gateway.ways import Ways
from dconnect.tunnel.wire import icmp
from dconnect.tunnel.wire.fragments import Reassembly, split
from dconnect.tunnel.wire.frames import HEADER_BYTES
from dconnect.tunnel.wire.messages import TCP_BY_TRUNK, Config, Hello
from dconnect.tunnel.wire.packets import FRAGMENT, ICMP, ICMP6, SYN, TCP, Packet, flow, is_to_many, parse

FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"The agent has as many links as it can have; end one with `dconnect tun down` on another host.\n"
)


class Gateway:
    """Implements ``link.Owner`` and ``router.Router``."""

    def __init__(self, *, device: Device, plan: Plan, ways: Ways, listen: Callable[[int, int], socket.socket]) -> None:
        """Wire it; ``start`` begins.

        Args:
            device: the TUN device, whose packets the kernel takes for its own whatever their destination.
            plan: the addresses.
            ways: the way out.
            listen: IP version and port → a listener on the device.
        """
        self.loop = asyncio.get_running_loop()
        self.ways = ways
        self.counters = Counters()
        self._device = device
        self._plan = plan
        self._subnets: tuple[IPNetwork, ...] | None = None
        """To be routed by the hosts; None until they are known."""
        self._links: set[Link] = set()
        """Those that wait for hello as well."""
        self._numbers: dict[int, Link] = {}
        self._by_address: dict[bytes, Link] = {}
        self._favourite: Link | None = None
        """Whom the device's last packet was for: the next one is read into its outbox, without a copy."""
        self._spare = memoryview(bytearray(HEADER_BYTES + PACKET_BYTES))
        """For a packet whose link has no room."""
        self._paused = self._closed = False
        self._own = frozenset((plan.own4.packed, plan.own6.packed))
        self._reassembly = Reassembly()
        self._identifications = itertools.count(1)
        self._errors = ErrorBound()
        self._tcp = Connections[Link, socket.socket](self, listen)
        self._udp = Datagrams(self)
        self._pings = Pings(self)
        self._former = {"up": [0, 0], "down": [0, 0]}
        """Packets and bytes of links that are closed."""

    def start(self) -> None:
        """Take packets."""
        descriptor = self._device.fileno()
        assert descriptor is not None
        self.loop.add_reader(descriptor, self._from_device)

    async def close(self) -> None:
        """End all links and flows."""
        self._pause()
        self._closed = True
        for link in tuple(self._links):
            link.close("ok", say="the agent stops")
        await self._tcp.close()
        await self._udp.flows.close()
        await self._pings.flows.close()
        self._device.close()

    def adopt(self, sock: socket.socket, session: Session, early: bytes) -> None:
        """Take a connection whose request for a link is right; it is answered here."""
        if len(self._links) >= LINKS:
            sock.send(FULL)
            sock.close()
            session.outcome, session.detail = "not_ready", f"The agent has {LINKS} links already."
            self.ways.ended(session)
            return
        link = Link(self, sock, session)
        self._links.add(link)
        link.start(early)

    def publish(self, subnets: Iterable[IPNetwork]) -> None:
        """Have the hosts route these subnets from now on."""
        now = tuple(subnets)
        if now != self._subnets:
            self._subnets = now
            for link in self._numbers.values():
                self._configure(link)

    def sessions(self) -> list[Session]:
        """The records of open links."""
        return [link.session for link in self._links]

    def counted(self) -> dict[str, Any]:
        """The counters, as plain data."""
        counters = self.counters
        for direction, (packets, size) in self._former.items():
            up = direction == "up"
            counters.packets[direction] = packets + sum(
                link.packets_up if up else link.packets_down for link in self._links
            )
            counters.bytes[direction] = size + sum(
                link.session.bytes_up if up else link.session.bytes_down for link in self._links
            )
        return asdict(counters)

    # What links ask for.

    def greeted(self, link: Link, hello: Hello) -> None:
        hosts = {number: other.host for number, other in self._numbers.items()}
        number = self._plan.choose(hosts, hello.host, hello.address)
        if number is None:
            raise MalformedMessage("The tunnel has no address left for another link.")
        if number in self._numbers:  # its own, before it noticed that the link is lost
            self._numbers[number].close("ok", "The host opened another link.", say="the host opened another link")
        link.number, link.host = number, hello.host
        interface4, interface6 = self._plan.interfaces(number)
        link.address4, link.address6 = interface4.ip.packed, interface6.ip.packed
        link.session.target = str(interface4.ip)
        self._numbers[number] = link
        self._by_address[link.address4] = self._by_address[link.address6] = link
        self._favourite = self._favourite or link
        self.counters.links = len(self._numbers)
        self.counters.links_opened += 1
        self._configure(link)

    def _configure(self, link: Link) -> None:
        if self._subnets is not None:
            plan = self._plan
            addresses, dns = plan.interfaces(link.number), (plan.own4, plan.own6)
            config = Config(PACKET_BYTES, addresses, self._subnets, dns, frozenset((TCP_BY_TRUNK,)))
            link.configure(config)

    def deliver(self, link: Link, packet: memoryview) -> None:
        try:
            kind, key = flow(packet)
            if key:
                source = link.address4 if len(key) == 12 else link.address6
                if not key.startswith(source):
                    self.counters.drop("source")
                elif kind == TCP:
                    self.admit(packet)
                elif is_to_many(key):
                    self.counters.drop("multicast")  # a link has no neighbours; nor is a SYN to many answered
                elif kind == SYN:
                    self._tcp.syn(link, key, packet)
                else:
                    self._udp.packet(link, parse(packet))
            else:
                self._deliver_slowly(link, kind, parse(packet))
        except MalformedMessage:
            self.counters.drop("malformed")

    def _deliver_slowly(self, link: Link, kind: int, packet: Packet) -> None:
        """What is neither TCP nor UDP, or a part of either. Raises: MalformedMessage."""
        if packet.source != (link.address4 if packet.version == 4 else link.address6):
            self.counters.drop("source")  # an IPv6 device's own word to its neighbours, mostly
        elif kind == FRAGMENT:
            whole = self._reassembly.add(packet, self.loop.time())
            if whole is not None:
                self.deliver(link, memoryview(whole))
        elif kind == (ICMP if packet.version == 4 else ICMP6):
            self._pings.packet(link, packet)
        else:
            self.counters.drop("protocol")
            self.unreachable(link, packet, icmp.PROTOCOL)

    def relieved(self, link: Link) -> None:
        if link.outbox.room > LINK_RESERVE:
            self._resume()

    def lost(self, link: Link) -> None:
        self._links.discard(link)
        for direction, packets, size in (
            ("up", link.packets_up, link.session.bytes_up),
            ("down", link.packets_down, link.session.bytes_down),
        ):
            self._former[direction][0] += packets
            self._former[direction][1] += size
        if self._numbers.get(link.number) is link:
            del self._numbers[link.number], self._by_address[link.address4], self._by_address[link.address6]
            self._tcp.forget(link)
            self._udp.flows.forget_link(link)
            self._pings.flows.forget_link(link)
        if self._favourite is link:
            self._favourite = next(iter(self._numbers.values()), None)
        self.counters.links = len(self._numbers)
        self.ways.ended(link.session)
        self._resume()

    # The device.

    def admit(self, packet: memoryview) -> None:
        try:
            self._device.write(packet)
        except OSError:
            self.counters.drop("device")

    def _from_device(self) -> None:
        """Bring a few packets to their links."""
        device, touched, left = self._device, set[Link](), DEVICE_TURN_BYTES
        for _ in range(DEVICE_TURN_PACKETS):
            favourite = self._favourite
            slot = favourite.outbox.slot if favourite is not None and favourite.outbox.room > LINK_RESERVE else None
            if slot is None and len(self._numbers) == 1:
                self._pause()
                break
            buffer = slot if slot is not None else self._spare
            try:
                size = device.read_into(buffer[HEADER_BYTES:])
            except BlockingIOError:
                break
            address = buffer[20:24] if buffer[HEADER_BYTES] >> 4 == 4 else buffer[28:44]
            link = self._by_address.get(bytes(address))
            if link is None:
                self.counters.drop("no_link")
                continue
            if slot is None or link is not favourite:
                if link.outbox.room <= LINK_RESERVE:
                    self.counters.drop("full")
                    continue
                slot = link.outbox.slot
                assert slot is not None
                slot[: HEADER_BYTES + size] = buffer[: HEADER_BYTES + size]
                self._favourite = link
            link.taken(size)
            touched.add(link)
            left -= size
            if left <= 0:
                break
        for link in touched:
            link.flush()

    def _pause(self) -> None:
        descriptor = self._device.fileno()
        if descriptor is not None and not self._paused:
            self._paused = True
            self.loop.remove_reader(descriptor)

    def _resume(self) -> None:
        if self._paused and not self._closed:
            self._paused = False
            self.start()

    # What the protocols ask for.

    def is_own(self, address: bytes) -> bool:
        return address in self._own

    def send(self, link: Link, packet: bytes) -> None:
        if len(packet) <= link.mtu:
            parts = [packet]
        else:
            parts = split(
                packet, link.mtu, next(self._identifications) & (0xFFFF if packet[0] >> 4 == 4 else 0xFFFFFFFF)
            )
        for part in parts:
            if not link.send(part):
                self.counters.drop("full")

    def unreachable(self, link: Link, packet: Packet, code: int) -> None:
        if not self._errors.allows(self.loop.time()):
            self.counters.drop("errors")
            return
        own = self._plan.own4 if packet.version == 4 else self._plan.own6
        # That a port is closed only its own host can say.
        told = icmp.unreachable(packet, code, None if code == icmp.PORT else own.packed)
        if told is not None:
            self.send(link, told)
