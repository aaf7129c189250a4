"""One relay: two sockets, two directions, each woken by the poller and moved as far as it goes.

    direction:   OPEN ──FIN from source──▶ SHUT        (shutdown of the sink, after the last byte)
                  │  ▲
       sink full  ▼  │ sink writable
                BLOCKED (holds a conduit with bytes)

When may a direction stop without having seen EAGAIN, although events are edge-triggered? Only
when the source is certainly dry: the fill brought fewer bytes than the conduit has slots, and
the event told no RDHUP, HUP, ERR or PRI. A FIN that is already queued gives no further edge, so a
direction that stops early on it would hang for ever.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TypeAlias

from dconnect.core.limits import CARRIED_SOCKET_BYTES, RELAY_BULK_BYTES, RELAY_BULK_SECONDS, RELAY_TURN_BYTES
from dconnect.proxy.poller import ERROR, HANGUP, NOT_DRY, READ, URGENT, WRITE, Channel, Poller
from dconnect.proxy.relay.pipes import Conduit, PipePool

Carry: TypeAlias = "Callable[[Relay, int, int], bool]"
"""Takes a relay that moves much, with the client's descriptor and the upstream's, to another process, if it can."""
_NEVER = 1 << 63


class Direction:
    """Bytes from one socket to the other."""

    __slots__ = ("conduit", "held", "moved", "shut", "sink", "source", "urgent")

    def __init__(self, source: Channel, sink: Channel) -> None:
        self.source = source
        self.sink = sink
        self.conduit: Conduit | None = None
        self.held = 0
        self.moved = 0
        self.shut = False
        self.urgent = False


class Relay:
    """Relays until both directions have ended or one side was cut."""

    __slots__ = (
        "_before",
        "_bulk_at",
        "_carry",
        "_client",
        "_down",
        "_on_end",
        "_over",
        "_poller",
        "_pool",
        "_since",
        "_turn",
        "_up",
        "_upstream",
    )

    def __init__(
        self,
        poller: Poller,
        pool: PipePool,
        client: Channel,
        upstream: Channel,
        on_end: Callable[[Relay, OSError | None], None],
        *,
        carry: Carry | None = None,
        turn: int = RELAY_TURN_BYTES,
    ) -> None:
        """Take over both sockets; ``start`` begins.

        Args:
            poller: knows both sockets already.
            pool: lends the pipes.
            client: the side whose bytes count as *up*.
            upstream: the other side.
            on_end: called once with the relay and the error that cut it or None, after both sockets are closed;
                maybe within ``start``.
            carry: where the relay may go on, once it is found to move much.
            turn: bytes that a direction moves before others have their turn.
        """
        self._poller = poller
        self._pool = pool
        self._client = client
        self._upstream = upstream
        self._on_end = on_end
        self._over = False
        self._carry, self._turn = carry, turn
        self._bulk_at = RELAY_BULK_BYTES if carry is not None else _NEVER
        self._since = poller.loop.time()
        """When it began to move what makes it bulk."""
        self._before = 0, 0
        """Bytes up and down before it was given away."""
        self._up = Direction(client, upstream)
        self._down = Direction(upstream, client)

    def start(self) -> None:
        """Relay from now on."""
        client, upstream = self._client, self._upstream
        if self._carry is not None:  # now: once a peer has been told of more room, what it has sent must not be dropped
            client.bound_window(CARRIED_SOCKET_BYTES)
            upstream.bound_window(CARRIED_SOCKET_BYTES)
        self._poller.replace(client.fd, self._client_ready)
        self._poller.replace(upstream.fd, self._upstream_ready)
        # Bytes or FINs that arrived during the handshake may have had their edge already.
        if not client.dry:
            self._pump(self._up, HANGUP)
        if not upstream.dry:
            self._pump(self._down, HANGUP)

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes up and down so far."""
        return self._up.moved, self._down.moved

    def abort(self) -> None:
        """Cut both sides (the agent is going down)."""
        self._end(OSError(errno.ESHUTDOWN, "the agent stopped"))

    def _client_ready(self, mask: int) -> None:
        if mask & READ:
            if mask & URGENT:
                self._sees_urgent(self._up)
            self._pump(self._up, mask & NOT_DRY)
        if mask & WRITE and self._down.held:
            self._pump(self._down, HANGUP)
        if mask & ERROR:
            self._check(self._client)

    def _upstream_ready(self, mask: int) -> None:
        if mask & READ:
            if mask & URGENT:
                self._sees_urgent(self._down)
            self._pump(self._down, mask & NOT_DRY)
        if mask & WRITE and self._up.held:
            self._pump(self._up, HANGUP)
        if mask & ERROR:
            self._check(self._upstream)

    def _pump(self, direction: Direction, not_dry: int) -> None:
        """Move bytes until the source is dry, the sink is full, or others must have their turn."""
        if self._over or direction.shut:
            return
        conduit = direction.conduit or self._pool.borrow()
        direction.conduit = None
        sink, held = direction.sink.fd, direction.held
        filled = 0
        stop_at = direction.moved + self._turn
        try:
            while True:
                if not held:
                    if direction.moved >= self._bulk_at and self._is_free():
                        break
                    filled = held = self._fill(conduit, direction)
                    if not filled:
                        direction.shut = True
                        break
                moved = conduit.drain(sink, held)
                held -= moved
                direction.moved += moved
                if not held:
                    if filled and filled < conduit.slots and not not_dry:
                        break
                    if direction.moved >= stop_at:
                        self._poller.loop.call_soon(self._pump, direction, HANGUP)
                        break
        except BlockingIOError:
            pass
        except OSError as error:
            # A reset is how many clients say goodbye: an empty pipe outlives it, a new one is dear.
            self._pool.give_back(conduit, held)
            self._end(error, direction.sink if held else direction.source)
            return
        direction.held = held
        if held:
            direction.conduit = conduit
            direction.sink.tell_writable()
            return
        self._pool.give_back(conduit)
        self._rest(direction)

    def _rest(self, direction: Direction) -> None:
        """A direction has nothing in hand: whether it ends, or goes on elsewhere."""
        if direction.shut:
            self._finish(direction)
        elif direction.moved >= self._bulk_at:
            self._give_away()

    def _is_free(self) -> bool:
        """Whether no byte is in our hands beside those of the direction at work, and nothing that only we know."""
        up, down = self._up, self._down
        return up.conduit is None and down.conduit is None and not up.urgent and not down.urgent

    def _give_away(self) -> None:
        """Have it go on elsewhere, if it was quick, no byte is in our hands, and nothing that only we know."""
        if self._carry is None or not self._is_free():
            return
        if self._poller.loop.time() - self._since > RELAY_BULK_SECONDS:
            self._weigh_again()
            return
        sides = self._client, self._upstream
        for side in sides:  # before the other process has them: it may be killed at any time
            side.cut_when_closed(cut=True)
        if not self._carry(self, self._client.fd, self._upstream.fd):
            for side in sides:
                side.cut_when_closed(cut=False)
            self._weigh_again()
            for direction in (self._up, self._down):
                self._poller.loop.call_soon(self._pump, direction, HANGUP)
            return
        self._over = True
        self._before = self.moved
        self._client.leave()
        self._upstream.leave()

    def _weigh_again(self) -> None:
        """It stays; whether it is bulk is seen from now on."""
        self._bulk_at = max(self.moved) + RELAY_BULK_BYTES
        self._since = self._poller.loop.time()

    def carried(self, up: int, down: int) -> None:
        """So many bytes have been moved where it went on."""
        self._up.moved, self._down.moved = self._before[0] + up, self._before[1] + down

    def ended_there(self, error: OSError | None) -> None:
        """It has ended where it went on."""
        self._on_end(self, error)

    def _fill(self, conduit: Conduit, direction: Direction) -> int:
        count = conduit.fill(direction.source.fd, urgent=direction.urgent)
        if not count and self._sees_urgent(direction):
            count = conduit.fill(direction.source.fd, urgent=True)
        return count

    @staticmethod
    def _sees_urgent(direction: Direction) -> bool:
        """Whether urgent data (telnet's Synch, FTP's ABOR) is new in the source; it then goes in line.

        ``splice(2)`` stops before it as if the stream ended there, so from now on bytes are copied.
        """
        if direction.urgent:
            return False
        sock = direction.source.sock
        try:
            sock.recv(1, socket.MSG_OOB | socket.MSG_PEEK)
        except OSError:
            return False  # EINVAL: there is none
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        direction.urgent = True
        return True

    def _finish(self, direction: Direction) -> None:
        direction.sink.finish()
        if self._up.shut and self._down.shut:
            self._end(None)

    def _check(self, side: Channel) -> None:
        """An error event of a side whose stream has ended already is told by nothing else."""
        if self._over:
            return
        code = side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._end(OSError(code, "relay"), side)

    def _end(self, error: OSError | None, cut: Channel | None = None) -> None:
        """Close both sides, with RST after an error; the side that was ``cut`` itself needs none."""
        if self._over:
            return
        self._over = True
        for direction in (self._up, self._down):
            if direction.conduit is not None:
                direction.conduit.close()
                direction.conduit = None
        for side in (self._client, self._upstream):
            if error is None or side is cut:
                side.close()
            else:
                side.reset()
        self._on_end(self, error)
