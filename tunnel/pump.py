"""The pump: packets between the host's device and the link, in one thread and one poll.

It holds the device and lets the link come and go: while there is none, every packet is answered with ICMP unreachable
at once, and a thread tries to open the next one. It needs no privilege; what does is asked of others (``on_config``).
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from dconnect.core.address import IPAddress
from dconnect.core.backoff import backoff
from dconnect.core.errors import DconnectError, MalformedMessage
from dconnect.core.limits import DEVICE_TURN_BYTES, DEVICE_TURN_PACKETS, DOWN_ANSWERS, LINK_RETRY_SECONDS
from dconnect.tunnel.device import Device
from dconnect.tunnel.dial import Connection, Door
from dconnect.tunnel.gate import Gate
from dconnect.tunnel.link import Link, LinkLost
from dconnect.tunnel.outbox import Outbox
from dconnect.tunnel.stats import Stats
from dconnect.tunnel.wire import tcp
from dconnect.tunnel.wire.frames import HEADER_BYTES
from dconnect.tunnel.wire.icmp import HOST, unreachable
from dconnect.tunnel.wire.messages import Config, Hello
from dconnect.tunnel.wire.packets import TCP, parse

Dial: TypeAlias = Callable[[], Connection]
"""Opens a link, blocking; raises DconnectError."""

_SLEPT_SECONDS = 2.0
"""A turn that took so much longer than it was to wait: the machine slept, or we were stopped."""


class Stopped(Exception):
    """The pump has ended; the text says why."""


class Pump:
    """Owns the device, the link and the thread that opens links."""

    def __init__(
        self,
        dial: Dial,
        mtu: int,
        on_config: Callable[[Config], None],
        *,
        resets: bool = sys.platform == "darwin",
    ) -> None:
        """Own nothing yet.

        Args:
            dial: opens a link; called in a thread.
            mtu: what the agent is told.
            on_config: gets each of the agent's configs.
            resets: whether SYNs without a link get an RST too: macOS's TCP retries for long in spite of ICMP.
        """
        self._resets = resets
        self._dial, self._mtu, self._on_config = dial, mtu, on_config
        self.on_door: Callable[[Door | None], None] = lambda _: None
        """Told where the agent is, once it has said what it wants, and None when the link is lost."""
        self.stats = Stats()
        self.link: Link | None = None
        self.error: DconnectError | None = None
        """Why the last attempt to open a link failed."""
        self._device: Device | None = None
        self._address: IPAddress | None = None
        """What the agent gave us last: connections hang on it, so we ask for it again."""
        self._host = secrets.token_hex(8)
        """What the agent knows us by: our own dead link we may replace, another host's never."""
        self._gate = Gate((), ())
        self._outbox = Outbox()
        self._poll = select.poll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._dialed: queue.SimpleQueue[Connection | DconnectError] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        self._dialing = self._linked = False
        self._attempt = 0
        self._next_dial = 0.0
        self._writing = False
        """Whether the link's poll waits for room."""
        self._full = False
        """Whether the device is left alone, because no slot is free."""
        self.watch(self._wake_read, self._link_opened)

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Have a function called when a descriptor can be read, until ``unwatch``."""
        self._watched[fd] = ready
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """The opposite; before the descriptor is closed."""
        del self._watched[fd]
        self._poll.unregister(fd)

    def attach(self, device: Device) -> None:
        """Own a device from now on."""
        fd = device.fileno()
        assert fd is not None  # where there is none, there is no helper that passes one either
        self._device = device
        self.watch(fd, self._from_device)

    def admit(self, gate: Gate) -> None:
        """Which packets the device gets from now on."""
        self._gate = gate

    # -- the loop ------------------------------------------------------------------------------

    def run(self) -> None:
        """Pump until something that is called raises Stopped."""
        due = 0.0
        while True:
            due = self.turn(due)

    def turn(self, due: float) -> float:
        """Wait until something happens or that moment has come, and handle it; the next such moment."""
        link, before = self.link, time.time()
        wait = max(0.0, due - time.monotonic())
        events = self._poll.poll(wait * 1000)
        if link is not None and time.time() - before > wait + _SLEPT_SECONDS:
            link.woken(time.monotonic())
            due = 0.0
        for fd, mask in events:
            ready = self._watched.get(fd)
            if ready is not None:
                ready()
            elif self.link is not None and fd == self.link.sock.fileno():
                self._with_link(mask)
        now = time.monotonic()
        if link is not None and link is self.link and now < due:  # most turns
            self.stats.sample(now)
            return due
        return self._timers(now)

    def _timers(self, now: float) -> float:
        """Do what is due; when there is more to do."""
        self.stats.sample(now)
        if self.link is not None:
            try:
                due = self.link.tick(now)
                self._flush(self.link)
            except (LinkLost, OSError) as error:
                self._lose(error)
            else:
                return due
        if self._dialing:
            return now + 60.0
        if now >= self._next_dial:
            self._dialing = True
            threading.Thread(target=self._open_link, name="dial", daemon=True).start()
            return now + 60.0
        return self._next_dial

    # -- the link ------------------------------------------------------------------------------

    def _open_link(self) -> None:
        try:
            self._dialed.put(self._dial())
        except DconnectError as error:
            self._dialed.put(error)
        except Exception as error:  # noqa: BLE001 - a thread's end must be told, or nobody would try again
            self._dialed.put(DconnectError(f"The link cannot be opened: unexpected {type(error).__name__}: {error}."))
        with contextlib.suppress(OSError):  # closed meanwhile
            os.write(self._wake_write, b"\0")

    def _link_opened(self) -> None:
        os.read(self._wake_read, 1)
        opened = self._dialed.get()
        self._dialing = False
        now = time.monotonic()
        if isinstance(opened, DconnectError):
            self.error = opened
            self.failed(opened)
            self._next_dial = now + backoff(self._attempt, most=LINK_RETRY_SECONDS)
            self._attempt += 1
            return
        self._linked = False
        hello = Hello(self._mtu, address=self._address, host=self._host)
        self.link = link = Link(opened, self._outbox, hello, self._configured, now)
        self._poll.register(link.sock.fileno(), select.POLLIN)
        self._with_link(select.POLLIN)  # what came right behind the answer

    def failed(self, error: DconnectError) -> None:
        """An attempt failed; to be replaced by whoever wants to know."""

    def _configured(self, config: Config) -> None:
        self.error = None
        if not self._linked:  # later ones tell of networks that came and went
            self._linked = True
            self.stats.linked(time.time())
            if self.link is not None:
                self.on_door(self.link.door)
        self._address = next((each.ip for each in config.addresses if each.version == 4), None)
        self._on_config(config)

    def _with_link(self, mask: int) -> None:
        link = self.link
        assert link is not None
        try:
            if mask & ~select.POLLOUT:
                self.stats.received_bytes += link.receive(self._deliver, time.monotonic())
            self._flush(link)
        except (LinkLost, OSError) as error:
            self._lose(error)

    def _flush(self, link: Link) -> None:
        """Send what waits, and be told when the kernel takes more."""
        self.stats.sent_bytes += self._outbox.flush(link.sock)
        if self._outbox.pending != self._writing:
            self._writing = self._outbox.pending
            self._poll.modify(link.sock.fileno(), select.POLLIN | (select.POLLOUT if self._writing else 0))
        if self._full and self._outbox.slot is not None:
            self._full = False
            self._listen_to_device(select.POLLIN)

    def _lose(self, error: Exception) -> None:
        link = self.link
        assert link is not None
        if isinstance(error, OSError):
            error = LinkLost(error.strerror or str(error))
        self._poll.unregister(link.sock.fileno())
        link.close()
        self.link = None
        self.on_door(None)
        self._writing = False
        self._outbox.clear()
        self.error = DconnectError(f"The link to the agent at {link.door} was lost: {error}.")
        self.stats.lost(time.time())
        now = time.monotonic()
        if now > link.opened + LINK_RETRY_SECONDS:
            self._attempt, self._next_dial = 0, now
        else:  # an agent that takes links and drops them is not asked in a loop
            self._next_dial = now + backoff(self._attempt, most=LINK_RETRY_SECONDS)
            self._attempt += 1
        if self._full:
            self._full = False
            self._listen_to_device(select.POLLIN)

    # -- the device ----------------------------------------------------------------------------

    def _deliver(self, packet: memoryview) -> None:
        """One packet from the link."""
        device = self._device
        if device is None or not self._gate.admits(packet):
            self.stats.refused += 1
            return
        try:
            device.write(packet)
            self.stats.received += 1
        except OSError:  # no room, or the system does not like it: IP may lose packets
            self.stats.dropped += 1

    def _from_device(self) -> None:
        """Packets from the host."""
        device, outbox, link = self._device, self._outbox, self.link
        assert device is not None
        if link is None or link.config is None:
            self._answer(device)
            return
        left = DEVICE_TURN_BYTES
        try:
            for _ in range(DEVICE_TURN_PACKETS):
                slot = outbox.slot
                if slot is None:
                    self._full = True
                    self._listen_to_device(0)
                    break
                size = device.read_into(slot[HEADER_BYTES:])
                outbox.take(size)
                self.stats.sent += 1
                left -= size
                if left <= 0:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            raise Stopped(f"the device {device.name} is gone: {error.strerror}") from error
        try:
            self._flush(link)
        except OSError as error:
            self._lose(error)

    def _answer(self, device: Device) -> None:
        """While there is no link: unreachable, at once."""
        slot = self._outbox.slot
        assert slot is not None  # all are free without a link
        try:
            for _ in range(DOWN_ANSWERS):
                size = device.read_into(slot)
                self.stats.unreachable += 1
                with contextlib.suppress(MalformedMessage):
                    for answer in self._refusals(slot[:size]):
                        device.write(answer)
        except BlockingIOError:
            pass
        except OSError as error:
            raise Stopped(f"the device {device.name} is gone: {error.strerror}") from error

    def _refusals(self, raw: memoryview) -> Iterator[bytes]:
        """What tells a packet's sender that it did not arrive.

        Raises: MalformedMessage.
        """
        packet = parse(raw)
        answer = unreachable(packet, HOST)
        if answer is not None:
            yield answer
        if self._resets and packet.protocol == TCP and packet.part is None:
            segment = tcp.parse(packet)
            answer = tcp.reset(packet, segment) if segment.flags & tcp.SYN else None
            if answer is not None:
                yield answer

    def _listen_to_device(self, mask: int) -> None:
        fd = self._device.fileno() if self._device is not None else None
        if fd is not None:
            self._poll.modify(fd, mask)

    def close(self, reason: str) -> None:
        """Give everything up: the device vanishes with its routes, the agent is told why."""
        if self.link is not None:
            self.link.close(reason)
            self.link = None
        if self._device is not None:
            self._device.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)
