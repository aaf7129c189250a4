"""Packets on their way from the device to the link: framed where they were read, and fair.

A packet is read into a slot behind the room for its frame's header, and sent from there: nothing is copied or
allocated. What is small (a ping, a SYN, a query, an ACK) goes first, unless its own flow has larger packets waiting:
so nothing waits behind bulk, and no flow is reordered. The link's socket takes little more than what is under way
(``LINK_UNSENT_BYTES``), so that it is here where packets wait.
"""

from __future__ import annotations

import socket
from collections import deque

from dconnect.core.limits import EXPRESS_BYTES, EXPRESS_RUN, LINK_BATCH_BYTES, LINK_SLOTS, PACKET_BYTES
from dconnect.tunnel.wire.frames import HEADER_BYTES, packet_header
from dconnect.tunnel.wire.packets import flow_key

_STEP = HEADER_BYTES + PACKET_BYTES


class Outbox:
    """The slots, and the order in which the full ones leave."""

    def __init__(self, slots: int = LINK_SLOTS) -> None:
        buffer = memoryview(bytearray(slots * _STEP))
        self._free = [buffer[at : at + _STEP] for at in range(0, len(buffer), _STEP)]
        self._control: deque[memoryview] = deque()
        self._express: deque[tuple[memoryview, int]] = deque()
        """Slot and its frame's size."""
        self._bulk: deque[tuple[memoryview, int, bytes]] = deque()
        """Likewise, and the flow's key."""
        self._waiting: dict[bytes, int] = {}
        """Flow → its packets in bulk."""
        self._batch: deque[tuple[memoryview, memoryview | None]] = deque()
        """What the kernel has next, in this order: what is left of a frame, and its slot."""

    @property
    def slot(self) -> memoryview | None:
        """Where the next frame is to be put together; None: there is no place now."""
        return self._free[-1] if self._free else None

    @property
    def room(self) -> int:
        """Packets that can still be taken."""
        return len(self._free)

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return bool(self._batch or self._control or self._express or self._bulk)

    def take(self, size: int) -> None:
        """A packet of so many bytes stands in ``slot``, behind the header's room: it waits for its turn."""
        slot = self._free.pop()
        slot[:HEADER_BYTES] = packet_header(size)
        key = flow_key(slot[HEADER_BYTES:])
        if size <= EXPRESS_BYTES and key not in self._waiting:
            self._express.append((slot, HEADER_BYTES + size))
        else:
            self._waiting[key] = self._waiting.get(key, 0) + 1
            self._bulk.append((slot, HEADER_BYTES + size, key))

    def say(self, frame: bytes) -> None:
        """Send a frame that is no packet, before all packets."""
        self._control.append(memoryview(frame))

    def flush(self, sock: socket.socket) -> int:
        """Send until the kernel takes no more; bytes sent.

        Raises: OSError when the link is broken.
        """
        total = 0
        while self._batch or self._fill():
            try:
                sent = sock.sendmsg([view for view, _ in self._batch])
            except BlockingIOError:
                break
            total += sent
            while sent:
                view, slot = self._batch.popleft()
                if sent < len(view):
                    self._batch.appendleft((view[sent:], slot))
                    break
                sent -= len(view)
                if slot is not None:
                    self._free.append(slot)
        return total

    def clear(self) -> None:
        """Forget everything: the link is gone, and with it what it was to carry."""
        self._free += [slot for _, slot in self._batch if slot is not None]
        self._free += [slot for slot, _ in self._express]
        self._free += [slot for slot, _, _ in self._bulk]
        for each in (self._batch, self._control, self._express, self._bulk, self._waiting):
            each.clear()

    def _fill(self) -> bool:
        """Choose what goes next: little, because what comes later must wait for it; whether there is anything."""
        batch, room = self._batch, LINK_BATCH_BYTES
        while self._control:
            batch.append((self._control.popleft(), None))
        for _ in range(EXPRESS_RUN):  # and no more, or a flood of small packets would starve the large ones
            if not self._express or room <= 0:
                break
            slot, size = self._express.popleft()
            batch.append((slot[:size], slot))
            room -= size
        while self._bulk and (room > 0 or not batch):
            slot, size, key = self._bulk.popleft()
            batch.append((slot[:size], slot))
            room -= size
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
        return bool(batch)
