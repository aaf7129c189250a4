"""The pump's process: its user's rights, its user's Docker context and token. ``helper`` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from dconnect.cli import client, engines, passwords
from dconnect.cli.transparent.channel import Channel
from dconnect.core.errors import DconnectError, MalformedMessage
from dconnect.core.limits import LINK_FIND_SECONDS
from dconnect.core.priority import be_prompt
from dconnect.tunnel.device import inherited_device
from dconnect.tunnel.dial import Connection, Door, NoTunnel, connect
from dconnect.tunnel.gate import Gate
from dconnect.tunnel.pump import Pump, Stopped
from dconnect.tunnel.wire.messages import Config

if TYPE_CHECKING:
    from dconnect.cli.transparent.tcp import TcpProcess


class Finder:
    """Opens links at the door that the engine named last; while that fails, asks the engine again now and then."""

    def __init__(
        self,
        find: Callable[[], Door],
        connect: Callable[[Door], Connection] = connect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._connect, self._clock = find, connect, clock
        self._door: Door | None = None
        self._failed = False
        self._asked = 0.0

    def __call__(self) -> Connection:
        """A new link; blocks.

        Raises: DconnectError.
        """
        # Asking costs a hundred times what an attempt at the door does, and an agent comes back where it was.
        if self._door is None or (self._failed and self._clock() - self._asked >= LINK_FIND_SECONDS):
            self._asked = self._clock()
            self._door = self._find()
        self._failed = True
        connection = self._connect(self._door)
        self._failed = False
        return connection


def find(context: str | None, host: str | None) -> Door:
    """Ask the engine for the agent.

    Raises: DconnectError.
    """
    return asyncio.run(_find(context, host))


async def _find(context: str | None, host: str | None) -> Door:
    choice = engines.choose(engines.Machine.here(), context=context, host=host)
    async with choice.open() as engine:
        config = await client.running(engine)
    if not config.tun:
        raise NoTunnel(f"The agent at {config.reach}:{config.port} has no tunnel; `dconnect up --tun` gives it one.")
    token = passwords.link_token(config)
    if token is None:
        raise DconnectError(
            f"This user does not know the token of the agent at {config.reach}:{config.port}; "
            "`dconnect up --tun` makes it known."
        )
    return Door(config.reach.strip("[]"), config.port, token)


class Pumping:
    """The pump, and what it tells helper and people."""

    def __init__(self, dial: Finder, mtu: int, channel: Channel, listener: socket.socket) -> None:
        self._channel, self._listener = channel, listener
        self._pump = Pump(dial, mtu, self._configured)
        self._pump.failed = self._failed  # type: ignore[method-assign]  # as it says
        self._told: dict[str, Any] = {}
        """What the helper said last."""
        self._trouble = ""
        self._started = time.time()
        self._tcp: TcpProcess | None = None
        """Where the host's TCP ends in this host's private network."""
        listener.setblocking(False)
        self._pump.watch(channel.sock.fileno(), self._from_helper)
        self._pump.watch(listener.fileno(), self._from_person)

    def run(self) -> str:
        """Pump until the helper is gone or a signal comes; why it ended."""
        reason = "the host's tunnel failed"
        try:
            self._pump.run()
        except Stopped as stopped:
            reason = str(stopped)
        finally:
            if self._tcp is not None:
                self._tcp.close()
            self._pump.close(reason)
        return reason

    def _failed(self, error: DconnectError) -> None:
        if not self._told:  # the first time; later ones are repeated until they succeed
            self._say({"error": str(error), "code": error.exit_code})
            raise Stopped("it never began")

    def _configured(self, config: Config) -> None:
        link = self._pump.link
        assert link is not None
        self._say({"config": config.encode().decode(), "door": link.door.host})

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._channel.send(message)
        except OSError:
            raise Stopped("the tunnel's helper is gone") from None

    def _from_helper(self) -> None:
        messages = self._channel.receive()
        if messages is None:
            raise Stopped("the tunnel was taken down")
        for message in messages:
            if "sockets" in message:
                sockets = self._channel.take(message["count"])
                assert self._tcp is not None
                self._tcp.supply(message["sockets"], sockets)
                continue
            self._trouble = str(message.get("trouble", ""))
            if self._trouble:
                continue
            first, self._told = not self._told, message
            addresses = tuple(map(ipaddress.ip_interface, message["addresses"]))
            subnets = tuple(map(ipaddress.ip_network, message["subnets"]))
            self._pump.admit(Gate(addresses, subnets))
            if first:
                self._attach(message)
            if self._tcp is not None:
                self._tcp.tell_addresses(addresses)

    def _attach(self, message: dict[str, Any]) -> None:
        """Own the device."""
        fds = self._channel.take(message["descriptors"])
        if not message["private"]:
            self._pump.attach(inherited_device(fds, message["mtu"]))
            return
        from dconnect.cli.transparent.tcp import TcpProcess  # noqa: PLC0415 - only on Linux
        from dconnect.tunnel.private import PrivateDevice  # noqa: PLC0415 - likewise

        self._pump.attach(device := PrivateDevice.from_fds(fds[:3], message["device"], message["mtu"]))
        self._tcp = tcp = TcpProcess([os.dup(device.descriptors[0]), *fds[3:]], self._want_sockets)
        self._pump.watch(tcp.channel.sock.fileno(), self._from_tcp)
        self._pump.on_door = tcp.tell_door
        self._pump.stats.carried = lambda: tcp.moved
        if self._pump.link is not None:
            tcp.tell_door(self._pump.link.door)

    def _from_tcp(self) -> None:
        assert self._tcp is not None
        if not self._tcp.hear():
            raise Stopped("the process that carries its connections ended")

    def _want_sockets(self, version: int) -> None:
        with contextlib.suppress(OSError):  # a helper that is gone is seen by itself
            self._channel.send({"sockets": version})

    def _from_person(self) -> None:
        """Somebody wants the status: the connection is the question."""
        with contextlib.suppress(OSError):
            asking, _ = self._listener.accept()
            with asking:
                asking.setblocking(False)  # the buffer takes it whole, or whoever asks gets nothing
                asking.send(json.dumps(self.status()).encode())

    def status(self) -> dict[str, Any]:
        """All that is known of the tunnel."""
        pump, link, now = self._pump, self._pump.link, time.monotonic()
        stats = pump.stats
        sent, received = stats.rates(now)
        sent_bytes, received_bytes = stats.totals()
        up = link is not None and link.config is not None
        rtt = link.rtt if link is not None else None
        return {
            **self._told,
            "pid": os.getpid(),
            "started": self._started,
            "link": {
                "up": up,
                "door": str(link.door) if link is not None else None,
                "since": stats.since,
                "rtt_ms": round(rtt * 1000, 3) if rtt is not None else None,
                "error": str(pump.error) if pump.error is not None and not up else None,
                "opened": stats.links,
            },
            "trouble": self._trouble or None,
            "connections": self._tcp.connections if self._tcp is not None else None,
            "sent": {"packets": stats.sent, "bytes": sent_bytes, "bits_per_s": round(sent)},
            "received": {"packets": stats.received, "bytes": received_bytes, "bits_per_s": round(received)},
            "dropped": stats.dropped + (self._tcp.dropped if self._tcp is not None else 0),
            "refused_packets": stats.refused,
            "unreachable": stats.unreachable,
        }


def main() -> None:
    """Pump; the one argument is JSON: the MTU, how the engine is chosen, and the two descriptors."""
    told = json.loads(sys.argv[1])
    channel = Channel(socket.socket(fileno=told["channel"]))
    be_prompt()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        with socket.socket(fileno=told["listener"]) as listener:
            finder = Finder(partial(find, told["context"], told["host"]))
            Pumping(finder, told["mtu"], channel, listener).run()
    except MalformedMessage as error:
        sys.exit(str(error))


def _end(_number: int, _frame: object) -> None:
    raise Stopped("the tunnel was taken down")


if __name__ == "__main__":
    main()
