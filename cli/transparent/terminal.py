"""Where the host's TCP ends, if it has a private network: its connections go to the agent as bytes (``trunks``).

    SYN ──▶ held ──▶ dialed by the agent ──no──▶ RST, ICMP unreachable, or silence
                          │ yes
                          ▼
                SYN to the private network's kernel ──▶ accepted ──▶ carried, bytes as they are

It is the gateway's way (``tunnel.gateway.tcp``), done at this end: what crosses to the agent is bytes, not packets. The
process is the pump's child, and its own so that pings do not wait for bytes.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import uvloop

from dconnect.cli.transparent.channel import Channel as PumpChannel
from dconnect.cli.transparent.tcp import door_of
from dconnect.cli.transparent.trunks import HostStream, Trunks
from dconnect.core.address import IPAddress
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.keepalive import watch_peer
from dconnect.core.limits import (
    DEVICE_TURN_PACKETS,
    PACKET_BYTES,
    TUNNEL_COUNT_SECONDS,
    TUNNEL_SOCKETS,
)
from dconnect.core.priority import be_prompt
from dconnect.proxy.fiber import Fibers
from dconnect.proxy.poller import Poller
from dconnect.tunnel.gateway.counters import Counters
from dconnect.tunnel.gateway.listeners import open_at
from dconnect.tunnel.gateway.router import ErrorBound
from dconnect.tunnel.gateway.tcp import Connections
from dconnect.tunnel.gateway.ways import Dials
from dconnect.tunnel.linux import LinuxDevice
from dconnect.tunnel.private import Answers
from dconnect.tunnel.wire import icmp
from dconnect.tunnel.wire.packets import SYN, Packet, flow, is_to_many

_RESERVED_DESCRIPTORS = 256
"""Not for connections: the tunnel's own, and pipes."""


class Courteous(Poller):
    """Lets others who wait for the processor go first, so that it finds in one turn what they have done meanwhile.

    This process goes before them (``be_prompt``), and was woken for each event by itself: of 16 clients' connections it
    took up to a tenth fewer in a second.
    """

    def _turn(self) -> None:
        os.sched_yield()
        super()._turn()


class Terminal:
    """All of it. ``Connections`` sees it as its router, and as its ways."""

    def __init__(self, syns: LinuxDevice, answers: Answers, channel: PumpChannel) -> None:
        """Own them, within the event loop.

        Args:
            syns: gives SYNs, and takes them.
            answers: to the host.
            channel: the pump's.
        """
        self._syns, self._answers, self._channel = syns, answers, channel
        self.loop = asyncio.get_running_loop()
        self.counters = Counters()
        self._own: frozenset[bytes] = frozenset()
        """The host's addresses in the tunnel."""
        self._spare: dict[int, list[socket.socket]] = {4: [], 6: []}
        self._asked: set[int] = set()
        """IP versions of which sockets are on their way."""
        self._told: object = None
        self._most = max(16, (_descriptors() - _RESERVED_DESCRIPTORS) // 2)
        self._errors = ErrorBound()
        self._buffer = memoryview(bytearray(PACKET_BYTES))
        self._poller = Courteous()
        self._trunks = Trunks(self._poller)
        self.dials: Dials = Fibers(self.loop)
        self._connections = Connections[None, HostStream](self, self._listen)
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve until the pump is gone."""
        self.loop.add_reader(self._channel.sock, self._from_pump)
        for version in self._spare:
            self._want_sockets(version)
        telling = self.loop.create_task(self._tell(), name="counts")
        await self._over.wait()
        telling.cancel()
        self.loop.remove_reader(self._syns.fileno())
        self.loop.remove_reader(self._channel.sock)
        await self._connections.close()
        await self._trunks.close()
        self._poller.close()

    async def _tell(self) -> None:
        """Say what is counted, where it changed."""
        while True:
            dropped = sum(self.counters.dropped.values())
            counts = {"moved": self._trunks.bytes_moved, "connections": len(self._trunks), "dropped": dropped}
            if counts != self._told:
                self._told = counts
                self._say(counts)
            await asyncio.sleep(TUNNEL_COUNT_SECONDS)

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._channel.send(message)
        except OSError:
            self._over.set()

    def _from_pump(self) -> None:
        messages = self._channel.receive()
        if messages is None:
            self._over.set()
            return
        for message in messages:
            if "sockets" in message:
                version = message["sockets"]
                fds = self._channel.take(message["count"])
                self._spare[version] += [socket.socket(fileno=fd) for fd in fds]
                self._asked.discard(version)
                if not self._asked:  # not before: the first SYN would find no listener, and be repeated a second later
                    self.loop.add_reader(self._syns.fileno(), self._from_host)
            elif "door" in message:
                self._trunks.lead_to(door_of(message))
            else:
                self._own = frozenset(ipaddress.ip_address(text).packed for text in message["addresses"])

    def _from_host(self) -> None:
        """SYNs."""
        for _ in range(DEVICE_TURN_PACKETS):
            try:
                size = self._syns.read_into(self._buffer)
            except BlockingIOError:
                return
            packet = self._buffer[:size]
            kind, key = _flow(packet)
            if kind != SYN:
                self.counters.drop("malformed")
            elif key[: len(key) // 2 - 2] not in self._own:
                self.counters.drop("source")
            elif is_to_many(key):
                self.counters.drop("multicast")
            elif len(self._trunks) >= self._most:
                self.counters.drop("full")
            else:
                self._connections.syn(None, key, packet)

    def _listen(self, version: int, port: int) -> socket.socket:
        """A listener in the private network. Raises: OSError."""
        spare = self._spare[version]
        if len(spare) <= TUNNEL_SOCKETS // 2 and version not in self._asked:
            self._want_sockets(version)
        if not spare:
            raise BlockingIOError("the helper has not sent a socket yet")
        return open_at(spare.pop(), port)

    def _want_sockets(self, version: int) -> None:
        self._asked.add(version)
        self._say({"sockets": version})

    # ``tcp``'s router.

    @property
    def ways(self) -> Terminal:
        return self

    def is_own(self, address: bytes) -> bool:  # noqa: ARG002 - those go by the link
        return False

    def admit(self, packet: memoryview) -> None:
        try:
            self._syns.write(packet)
        except OSError:
            self.counters.drop("device")

    def send(self, link: None, packet: bytes) -> None:  # noqa: ARG002 - there is one host
        try:
            self._answers.write(packet)
        except OSError:
            self.counters.drop("device")

    def unreachable(self, link: None, packet: Packet, code: int) -> None:
        told = icmp.unreachable(packet, code) if self._errors.allows(self.loop.time()) else None
        if told is not None:
            self.send(link, told)

    # Its ways.

    async def connect(self, address: IPAddress, port: int, session: Session) -> HostStream:  # noqa: ARG002
        return await self._trunks.connect(address, port)

    async def own_dns(self) -> HostStream:
        raise DialError(Failure.REFUSED, "Names are served by way of the link.")

    def relay(self, client: socket.socket, upstream: HostStream, session: Session) -> bool:  # noqa: ARG002
        client.setblocking(False)
        try:
            self._trunks.carry(client, upstream)
        except OSError:  # the machine watches no further sockets
            return False
        return True

    def give_up(self, upstream: HostStream) -> None:
        upstream.give_up()

    def prepare(self, listener: socket.socket) -> None:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch_peer(listener)

    def ended(self, session: Session) -> None:
        """The host's program has been told; nobody else asks."""


def _flow(packet: memoryview) -> tuple[int, bytes]:
    try:
        return flow(packet)
    except MalformedMessage:
        return 0, b""


def _descriptors() -> int:
    """How many this process may have, as many as it can."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def main() -> None:
    """Serve; the one argument is JSON: the channel's descriptor, and those of ``TcpProcess``."""
    told = json.loads(sys.argv[1])
    answers, *syns = told["descriptors"]
    channel = PumpChannel(socket.socket(fileno=told["channel"]))

    async def serve() -> None:
        await Terminal(LinuxDevice.from_fds(syns, PACKET_BYTES), Answers.from_fd(answers), channel).run()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the pump, and not before
    be_prompt()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
