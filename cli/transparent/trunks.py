"""The host's connections on their way to the agent: small ones by the trunk, others by one of their own each.

    asked for ──open──▶ dialed by the agent ──no──▶ DialError
                           │ yes
                           ▼
                 a stream of the trunk ──bulk──▶ a relay of its own ──much──▶ the carrier

There is one trunk for as long as the agent's door is the same. When the door is told anew, the link was lost meanwhile;
so may have been the trunk, in silence: the next connection opens another, and the former lives as long as its streams.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from dconnect.core.address import IPAddress
from dconnect.core.congestion import unpace
from dconnect.core.credentials import GENERATED_USER
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.failure import Failure, from_errno, from_socks5_rep
from dconnect.core.keepalive import watch_peer
from dconnect.core.limits import LINK_CONNECT_SECONDS, TRUNK_AGAIN_SECONDS, TUNNEL_DIAL_SECONDS
from dconnect.core.tasks import Tasks
from dconnect.proxy.fiber import Wait
from dconnect.proxy.poller import Channel, Poller, connect
from dconnect.proxy.relay import PipePool, Relay
from dconnect.proxy.relay.carrier import Carrier
from dconnect.proxy.relay.trunk import Stream, Trunk
from dconnect.proxy.wire import socks5
from dconnect.proxy.wire.trunk import ANSWER, OPEN, RESET, open_payload
from dconnect.tunnel.dial import Door

_NUMBERS = 1 << 32
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK


class HostStream(Stream):
    """A stream, as the host has it."""

    def __init__(self, trunk: HostTrunk, number: int) -> None:
        super().__init__(trunk, number)
        self.door, self.key = trunk.door, trunk.key + number.to_bytes(4)
        self.answer: Wait | None = Wait(trunk.poller.loop)
        """Until the agent has answered."""
        self.rep = -1
        """What it has answered."""
        self.moving = False
        """It has, or will have, a connection of its own."""
        self.own: Channel | None = None
        """That connection."""

    def hear(self, kind: int, payload: bytes) -> None:
        if self.answer is not None and kind not in (ANSWER, RESET):
            raise MalformedMessage(f"Stream {self.number} of the trunk is used before it is there.")
        super().hear(kind, payload)

    def answered(self, rep: int) -> None:
        if self.answer is None:
            super().answered(rep)
        self.rep = rep
        if rep != socks5.SUCCEEDED:
            self.forget()
        self.wake()

    def wake(self, error: OSError | None = None) -> None:
        """Whoever waits for the answer goes on."""
        answer, self.answer = self.answer, None
        if answer is not None:
            answer.wake(error)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self.cut(OSError(errno.ECANCELED, os.strerror(errno.ECANCELED)))

    def expire(self) -> None:
        """The agent has not answered, or not left the trunk, in time; or all is said, and the program reads slowly."""
        if not self.is_said:
            self.cut(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))


class HostTrunk(Trunk):
    """A trunk, as the host has it."""

    def __init__(self, trunks: Trunks, channel: Channel, door: Door, key: bytes) -> None:
        super().__init__(trunks.poller, trunks, channel)
        self.door, self.key = door, key
        self._last = 0

    def open(self, address: IPAddress, port: int) -> HostStream:
        """Ask for a stream. Raises: OSError: the trunk is lost."""
        if self.closed or self.finishes:
            raise _gone()
        self._last += 1
        while self._last in self.streams or self._last >= _NUMBERS:
            self._last = (self._last + 1) % _NUMBERS
        stream = HostStream(self, self._last)
        self.say(OPEN, stream.number, open_payload(address.packed, port))
        return stream


class Trunks:
    """Implements ``relay.trunk.Owner``."""

    def __init__(self, poller: Poller) -> None:
        """Begin without a door; ``poller`` watches every socket."""
        self.poller = poller
        self._pipes, self._carrier = PipePool(), Carrier(poller)
        self._tasks = Tasks()
        self._door: Door | None = None
        self._trunk: HostTrunk | None = None
        self._opening: asyncio.Task[HostTrunk | Exception] | None = None
        """Of ``_trunk``, while that is being opened."""
        self._all: set[HostTrunk] = set()
        """Former and lost ones as well, which still have streams."""
        self._relays: set[Relay] = set()
        self._bytes = [0, 0]
        """Bytes up and down of what has ended, or left its trunk."""

    def __len__(self) -> int:
        """Connections on trunks, with those that are being dialed, and on their own."""
        return len(self._relays) + sum(len(trunk.streams) for trunk in self._all)

    @property
    def bytes_moved(self) -> tuple[int, int]:
        """Bytes up and down so far."""
        open_now = [relay.moved for relay in self._relays]
        open_now += [(stream.sent, stream.got) for trunk in self._all for stream in trunk.streams.values()]
        up, down = self._bytes
        return up + sum(each for each, _ in open_now), down + sum(each for _, each in open_now)

    def lead_to(self, door: Door | None) -> None:
        """The agent's door is this from now on; None while there is no link."""
        former, self._door, self._trunk, self._opening = self._trunk, door, None, None
        if former is not None:
            self._let_go(former)

    async def connect(self, address: IPAddress, port: int) -> HostStream:
        """A stream to a destination, which has accepted.

        Raises: DialError with the true reason.
        """
        if self._door is None:
            raise DialError(Failure.HOST_UNREACHABLE, "There is no link to the agent.")
        try:
            trunk = self._trunk
            if trunk is None or trunk.closed:
                trunk = await self._opened(self._door)
            stream = trunk.open(address, port)
            await self._answer(stream)
        except (OSError, MalformedMessage) as error:  # TimeoutError is one
            raise _unreachable(error) from error
        if stream.rep != socks5.SUCCEEDED:
            raise DialError(
                from_socks5_rep(stream.rep), f"The agent did not reach {address} (SOCKS5 reply {stream.rep})."
            )
        return stream

    def carry(self, client: socket.socket, stream: HostStream) -> None:
        """Have a program's connection go on by this stream."""
        channel = Channel(self.poller, client)
        channel.dry = False  # the first bytes came along
        stream.attach(channel)

    async def close(self) -> None:
        """Cut everything."""
        await self._tasks.cancel()
        for trunk in tuple(self._all):
            trunk.abort(OSError(errno.ESHUTDOWN, "the tunnel ends"))
        for relay in tuple(self._relays):
            relay.abort()
        self._carrier.close()
        self._pipes.close()

    async def _opened(self, door: Door) -> HostTrunk:
        """The trunk that is being opened. Raises: OSError, MalformedMessage."""
        if self._opening is None:
            self._opening = self._tasks.start(self._open(door), "trunk")
        found = await asyncio.shield(self._opening)  # others wait for it too
        if isinstance(found, Exception):
            raise found
        return found

    async def _open(self, door: Door) -> HostTrunk | Exception:
        key = os.urandom(socks5.TRUNK_KEY_BYTES)
        found: HostTrunk | Exception
        try:
            channel = await self._knock(door, socks5.TRUNK, key + bytes(4))
            try:
                await _granted(channel)
            except BaseException:
                channel.close()
                raise
        except (OSError, MalformedMessage) as error:
            found = error
        else:
            found = HostTrunk(self, channel, door, key)
            self._all.add(found)
            found.start()
        if self._opening is asyncio.current_task():
            self._opening = None
            self._trunk = found if isinstance(found, HostTrunk) else None
        elif isinstance(found, HostTrunk):  # the door was told anew meanwhile; those who waited may have left
            self.poller.loop.call_later(LINK_CONNECT_SECONDS, self._let_go, found)
        return found

    async def _answer(self, stream: HostStream) -> None:
        """Wait for it. Raises: OSError: there is none."""
        assert stream.answer is not None
        self.poller.set_deadline(stream, TUNNEL_DIAL_SECONDS)
        try:
            await stream.answer
        except BaseException as error:
            if isinstance(error, TimeoutError) and stream.trunk is self._trunk:
                self._trunk = None  # it is dead, and nobody has noticed: the next one opens another
            stream.give_up()
            raise
        finally:
            self.poller.set_deadline(stream, None)
            self._let_go(stream.trunk)

    async def _knock(self, door: Door, command: int, key: bytes) -> Channel:
        """A new connection to the front door, which has been told what it is for. Raises: OSError."""
        sock = socket.socket(socket.AF_INET6 if ":" in door.host else socket.AF_INET, _STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Before connecting: what we send carries the ACKs, also the handshake's. We speak first, and never wait.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            watch_peer(sock)
            unpace(sock)
        except BaseException:
            sock.close()
            raise
        channel = await connect(self.poller, sock, (door.host, door.port), LINK_CONNECT_SECONDS)
        try:
            channel.deadline(TUNNEL_DIAL_SECONDS)
            await channel.send(socks5.tunnel_request(GENERATED_USER.encode(), door.token.encode(), command, key))
        except BaseException:
            channel.close()
            raise
        return channel

    async def _move(self, stream: HostStream) -> None:
        """Open a stream's own connection; the agent says on the trunk when it is known there.

        It can be had a moment later, if not now: the stream waits, and has a deadline.
        """
        if stream.over or stream.is_said:
            return
        try:
            own = await self._knock(stream.door, socks5.MOVE, stream.key)
        except OSError:
            self._move_later(stream)
            return
        own.deadline(None)
        if stream.over:
            own.close()
            return
        stream.own = own
        own.on_hangup = lambda: self._refused(stream, own)
        if own.hung_up:
            self._refused(stream, own)

    def _refused(self, stream: HostStream, own: Channel) -> None:
        """The agent has no room, or the stream is over there, which the trunk is about to tell."""
        if not stream.is_said:  # else it is the end of what the agent has begun to say there
            stream.own = None
            own.close()
            self._move_later(stream)

    def _move_later(self, stream: HostStream) -> None:
        self.poller.loop.call_later(TRUNK_AGAIN_SECONDS, self._begin_move, stream)

    def _begin_move(self, stream: HostStream) -> None:
        if not stream.over:
            _ = self._tasks.start(self._move(stream), "a stream's own connection")

    # What trunks ask of their owner.

    def asked(self, trunk: Trunk, number: int, payload: bytes) -> None:  # noqa: ARG002 - as the Protocol has it
        raise MalformedMessage("The agent opens a stream on the trunk, which is the host's to do.")

    def bulky(self, stream: Stream) -> None:
        assert isinstance(stream, HostStream)
        if not stream.moving:
            stream.moving = True
            self.poller.set_deadline(stream, TUNNEL_DIAL_SECONDS)
            self._begin_move(stream)

    def moved(self, stream: Stream) -> None:
        assert isinstance(stream, HostStream)
        assert stream.channel is not None
        here, there = stream.channel, stream.own
        self._forget(stream)
        if there is None:
            here.reset()  # the agent has left it unasked
            return
        relay = Relay(self.poller, self._pipes, here, there, self._relay_ended, carry=self._carrier.take)
        self._relays.add(relay)
        relay.start()

    def over(self, stream: Stream, error: OSError | None) -> None:
        assert isinstance(stream, HostStream)
        if stream.own is not None:
            if error is None:
                stream.own.close()
            else:
                stream.own.reset()
        self._forget(stream)
        stream.wake(error)

    def lost(self, trunk: Trunk) -> None:
        assert isinstance(trunk, HostTrunk)
        self._all.discard(trunk)

    def _forget(self, stream: HostStream) -> None:
        self.poller.set_deadline(stream, None)
        self._bytes = [self._bytes[0] + stream.sent, self._bytes[1] + stream.got]
        self._let_go(stream.trunk)

    def _let_go(self, trunk: Trunk) -> None:
        """A former trunk lives as long as its streams."""
        if trunk is not self._trunk and not trunk.streams and not trunk.closed:
            trunk.finish()

    def _relay_ended(self, relay: Relay, _error: OSError | None) -> None:
        self._relays.discard(relay)
        up, down = relay.moved
        self._bytes = [self._bytes[0] + up, self._bytes[1] + down]


def _gone() -> OSError:
    return ConnectionResetError(errno.ECONNRESET, "it closed the connection")


async def _granted(channel: Channel) -> None:
    """The agent's reply to the trunk's request. Raises: OSError: it has none for us; MalformedMessage."""
    received = b""
    while (found := socks5.parse_tunnel_reply(received)) is None:
        part = await channel.receive(max(1, socks5.TUNNEL_REPLY_BYTES - len(received)))
        if not part:
            raise _gone()
        received += part
    if found[0] != socks5.SUCCEEDED:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"it refuses the trunk (SOCKS5 reply {found[0]})")


def _unreachable(error: Exception) -> DialError:
    """What becomes of a connection whose agent does not answer: not what a destination would say."""
    failure = from_errno(error.errno or 0) if isinstance(error, OSError) else Failure.GENERAL
    if failure in (Failure.REFUSED, Failure.TIMEOUT, Failure.GENERAL):
        failure = Failure.HOST_UNREACHABLE
    return DialError(failure, f"The agent does not answer ({error}).")
