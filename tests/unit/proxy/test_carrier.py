"""Relays that move much go on in another process: with every byte, their ends and their counts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from dconnect.core.limits import CARRIED_SOCKET_BYTES, CARRIER_AGAIN_SECONDS, RELAY_BULK_BYTES
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay import PipePool, Relay, carrier, splice
from dconnect.proxy.relay.carrier import Carrier
from dconnect.proxy.relay.splice import Carry
from kit.door import PATIENCE, exactly, open_descriptors, reset, rest, stuff, was_reset
from kit.loops import runner
from kit.pairs import tcp_pair, unix_pair

Ends: TypeAlias = tuple[Relay, socket.socket, socket.socket]
"""A relay, its user's socket and its service's."""
CHUNK = 256 * 1024


class Scene:
    """A carrier, and the relays that may go there."""

    def __init__(self) -> None:
        self.poller, self.pool = Poller(), PipePool()
        self.carrier = Carrier(self.poller)
        self.ended: list[tuple[Relay, OSError | None]] = []
        self._held = contextlib.ExitStack()
        self._relays: list[Relay] = []

    def relay(
        self, pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair, carry: Carry | None = None
    ) -> Ends:
        (client, user), (upstream, service) = pair(), pair()
        for sock in (user, service):
            self._held.callback(sock.close)
        channels = Channel(self.poller, client), Channel(self.poller, upstream)
        relay = Relay(self.poller, self.pool, *channels, self._ended, carry=carry or self.carrier.take)
        self._relays.append(relay)
        relay.start()
        return relay, user, service

    def _ended(self, relay: Relay, error: OSError | None) -> None:
        self.ended.append((relay, error))

    async def carried(self, pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair) -> Ends:
        """A relay that has gone there."""
        relay, user, service = self.relay(pair)
        await move(user, service, RELAY_BULK_BYTES)
        await until(lambda: relay in self.carrier._relays.values())
        return relay, user, service

    async def end(self, count: int = 1) -> None:
        """Wait until so many have ended."""
        await until(lambda: len(self.ended) >= count)

    def close(self) -> None:
        for relay in self._relays:
            relay.abort()
        self.carrier.close()
        self._held.close()
        self.pool.close()
        self.poller.close()


class Nobody:
    """Takes no relay, and keeps which ones asked."""

    def __init__(self) -> None:
        self.asked: list[Relay] = []

    def __call__(self, relay: Relay, client: int, upstream: int) -> bool:
        self.asked.append(relay)
        return False


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def move(source: socket.socket, sink: socket.socket, count: int) -> None:
    """Send so many bytes through a relay, and see them arrive."""
    for at in range(0, count, CHUNK):
        data = hashlib.sha256(at.to_bytes(8, "big")).digest() * (CHUNK // 32)
        sending = asyncio.to_thread(source.sendall, data)
        _, received = await asyncio.gather(sending, asyncio.to_thread(exactly, sink, CHUNK))
        assert received == data


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        made.close()


class Stream:
    """Bytes from one end to the other, no two chunks alike."""

    def __init__(self, source: socket.socket, sink: socket.socket, seed: bytes) -> None:
        self._source, self._sink, self._seed = source, sink, seed
        self._room = threading.Semaphore(2)
        self.free = threading.Event()
        """Until it is set, few chunks are under way at a time, so that the relay has none in hand now and then."""
        self.sent = 0

    def pour(self, then: int) -> str:
        """Send until ``free``, and so many bytes more, and FIN; their SHA-256."""
        digest = hashlib.sha256()
        while then > 0:
            if self.free.is_set():
                then -= CHUNK
            else:
                assert self._room.acquire(timeout=PATIENCE)
            part = hashlib.sha256(self._seed + self.sent.to_bytes(8, "big")).digest() * (CHUNK // 32)
            digest.update(part)
            self._source.sendall(part)
            self.sent += CHUNK
        self._source.shutdown(socket.SHUT_WR)
        return digest.hexdigest()

    def drink(self) -> str:
        """The SHA-256 of everything until FIN."""
        digest, count = hashlib.sha256(), 0
        while part := self._sink.recv(CHUNK):
            digest.update(part)
            for _ in range((count + len(part)) // CHUNK - count // CHUNK):
                self._room.release()
            count += len(part)
        return digest.hexdigest()


run = runner("uvloop")


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
def test_every_byte_arrives_in_order_both_ways_and_is_counted(
    pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    async def main() -> None:
        async with scene() as here:
            relay, user, service = here.relay(pair)
            await move(service, user, CHUNK)
            up, down = Stream(user, service, b"up"), Stream(service, user, b"down")
            pouring = asyncio.gather(
                asyncio.to_thread(up.pour, 4 * RELAY_BULK_BYTES),
                asyncio.to_thread(up.drink),
                asyncio.to_thread(down.drink),
            )
            await until(lambda: relay in here.carrier._relays.values())
            up.free.set()
            down.free.set()
            sent_down = await asyncio.to_thread(down.pour, 3 * RELAY_BULK_BYTES)
            sent_up, got_up, got_down = await pouring
            await here.end()
            assert (got_up, got_down) == (sent_up, sent_down)
            assert relay.moved == (up.sent, CHUNK + 3 * RELAY_BULK_BYTES)
            assert relay._before[0] >= RELAY_BULK_BYTES
            assert here.ended == [(relay, None)]

    run(main())


def test_counts_are_told_while_it_goes_on() -> None:
    async def main() -> None:
        async with scene() as here:
            relay, user, service = await here.carried()
            await move(user, service, CHUNK)
            await move(service, user, 2 * CHUNK)
            await until(lambda: relay.moved == (RELAY_BULK_BYTES + CHUNK, 2 * CHUNK))
            assert not here.ended

    run(main())


def test_a_half_closed_connection_goes_on_the_other_way() -> None:
    async def main() -> None:
        async with scene() as here:
            relay, user, service = await here.carried()
            user.sendall(b"the last of it")
            user.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(rest, service) == b"the last of it"
            await move(service, user, CHUNK)
            service.close()
            assert await asyncio.to_thread(rest, user) == b""
            await here.end()
            assert here.ended == [(relay, None)]
            assert relay.moved == (RELAY_BULK_BYTES + 14, CHUNK)

    run(main())


def test_what_a_slow_reader_has_not_got_yet_when_the_relay_ends_still_arrives() -> None:
    more_than_fits = 3 * CHUNK

    async def main() -> None:
        async with scene() as here:
            _, user, service = await here.carried(narrow_pair)
            service.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(rest, user) == b""
            await asyncio.to_thread(user.sendall, bytes(more_than_fits))
            user.close()
            await here.end()
            assert len(await asyncio.to_thread(rest, service)) == more_than_fits

    run(main())


def test_a_fin_that_was_carried_before_it_went_is_not_forgotten() -> None:
    async def main() -> None:
        async with scene() as here:
            relay, user, service = here.relay()
            user.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(rest, service) == b""
            await move(service, user, RELAY_BULK_BYTES)
            await until(lambda: relay in here.carrier._relays.values())
            service.sendall(b"the last of it")
            service.close()
            assert await asyncio.to_thread(rest, user) == b"the last of it"
            await here.end()
            assert here.ended == [(relay, None)]
            assert relay.moved == (0, RELAY_BULK_BYTES + 14)

    run(main())


@pytest.mark.parametrize("who", ["user", "service"])
def test_a_reset_is_carried_to_the_other_side(who: str) -> None:
    async def main() -> None:
        async with scene() as here:
            relay, user, service = await here.carried()
            cut, other = (user, service) if who == "user" else (service, user)
            reset(cut)
            assert await asyncio.to_thread(was_reset, other)
            await here.end()
            ((ended, error),) = here.ended
            assert ended is relay
            assert isinstance(error, ConnectionResetError)

    run(main())


def test_a_killed_process_cuts_its_relays_and_later_ones_get_another() -> None:
    async def main() -> None:
        async with scene() as here:
            begun = time.monotonic()
            relay, user, service = await here.carried()
            killed = here.carrier._pid
            os.kill(killed, signal.SIGKILL)
            await here.end()
            ((ended, error),) = here.ended
            assert (ended, type(error)) == (relay, ConnectionResetError)
            for end in (user, service):
                assert await asyncio.to_thread(was_reset, end), "what is cut short must not look finished"

            later, user, service = here.relay()
            moved = 0
            while later not in here.carrier._relays.values():
                await move(user, service, CHUNK)
                moved += CHUNK
            assert moved >= RELAY_BULK_BYTES
            assert time.monotonic() >= begun + CARRIER_AGAIN_SECONDS, (
                "a process that ends at once must not be started without pause"
            )
            assert here.carrier._pid != killed
            await move(service, user, CHUNK)

    run(main())


def test_until_another_process_may_be_started_relays_stay() -> None:
    async def main() -> None:
        async with scene() as here:
            here.carrier._due = time.monotonic() + 3600
            relay, user, service = here.relay()
            await move(user, service, 2 * RELAY_BULK_BYTES)
            await until(lambda: relay.moved == (2 * RELAY_BULK_BYTES, 0))
            assert here.carrier._link is None
            here.carrier._due = 0.0
            await move(user, service, RELAY_BULK_BYTES)
            await until(lambda: relay in here.carrier._relays.values())

    run(main())


def test_closing_cuts_what_is_carried_and_leaves_no_process_and_no_descriptor() -> None:
    async def main() -> None:
        async with scene() as here:
            relay, user, service = await here.carried()
            pid = here.carrier._pid
            here.carrier.close()
            assert [ended for ended, _ in here.ended] == [relay]
            assert here.ended[0][1] is not None
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            for end in (user, service):
                assert await asyncio.to_thread(was_reset, end), "what is cut short must not look finished"
            here.carrier._due = 0.0
            relay, user, service = here.relay()
            await move(user, service, RELAY_BULK_BYTES + CHUNK)  # it stays: nothing is started after the end
            assert here.carrier._link is None

    run(main())
    before = open_descriptors()
    run(main())
    assert open_descriptors() == before


def room(sock: socket.socket) -> int:
    """What the kernel lets a peer have under way."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def window_clamp(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP)


def test_peers_are_told_of_no_more_room_than_there_is_where_a_relay_goes() -> None:
    with contextlib.closing(socket.socket()) as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CARRIED_SOCKET_BYTES)
        bound = room(asked)

    async def main() -> None:
        async with scene() as here:
            pairs = [tcp_pair(), tcp_pair()]
            pair = iter(pairs)
            with contextlib.ExitStack() as held:
                ours = [held.enter_context(client.dup()) for client, _ in pairs]
                assert all(room(sock) != bound for sock in ours)
                relay, user, service = here.relay(lambda: next(pair))
                assert [room(sock) for sock in ours] == [bound, bound]
                assert [window_clamp(sock) for sock in ours] == [CARRIED_SOCKET_BYTES] * 2
                await move(user, service, RELAY_BULK_BYTES)
                await until(lambda: relay in here.carrier._relays.values())
                await move(service, user, CHUNK)
                assert [room(sock) for sock in ours] == [bound, bound]

    run(main())


def test_a_relay_that_stays_is_given_room_by_the_kernel() -> None:
    async def main() -> None:
        async with scene() as here:
            (client, user), (upstream, service) = tcp_pair(), tcp_pair()
            with user, service:
                before = room(client), room(upstream)
                sides = Channel(here.poller, client), Channel(here.poller, upstream)
                relay = Relay(here.poller, here.pool, *sides, here._ended)
                relay.start()
                assert (room(client), room(upstream)) == before
                relay.abort()

    run(main())


def narrow_pair() -> tuple[socket.socket, socket.socket]:
    """One whose buffers the kernel does not widen by itself: what does not fit now will not fit later."""
    pair = tcp_pair()
    for sock in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, CHUNK)
    return pair


def test_a_relay_with_bytes_in_hand_stays_until_it_has_none() -> None:
    nobody = Nobody()

    async def main() -> None:
        async with scene() as here:
            relay, user, service = here.relay(narrow_pair, carry=nobody)
            waiting = await asyncio.to_thread(stuff, service)
            await until(lambda: relay._down.conduit is not None)
            await move(user, service, 2 * RELAY_BULK_BYTES)
            await until(lambda: relay.moved[0] == 2 * RELAY_BULK_BYTES)
            assert not nobody.asked
            assert len(await asyncio.to_thread(exactly, user, waiting)) == waiting
            await move(user, service, CHUNK)
            await until(lambda: relay in nobody.asked)

    run(main())


def test_a_relay_with_urgent_data_stays() -> None:
    nobody = Nobody()

    async def main() -> None:
        async with scene() as here:
            relay, user, service = here.relay(carry=nobody)
            user.send(b"!", socket.MSG_OOB)
            assert await asyncio.to_thread(exactly, service, 1) == b"!"
            await move(user, service, 2 * RELAY_BULK_BYTES)
            await move(service, user, 2 * RELAY_BULK_BYTES)
            await until(lambda: relay.moved == (2 * RELAY_BULK_BYTES + 1, 2 * RELAY_BULK_BYTES))
            assert not nobody.asked

    run(main())


def test_a_relay_that_is_not_taken_stays_and_asks_again_after_as_much() -> None:
    nobody = Nobody()

    async def main() -> None:
        async with scene() as here:
            relay, user, service = here.relay(carry=nobody)
            await move(user, service, 3 * RELAY_BULK_BYTES)
            user.close()
            assert await asyncio.to_thread(rest, service) == b""
            service.close()
            await here.end()
            assert here.ended == [(relay, None)]
            assert relay.moved == (3 * RELAY_BULK_BYTES, 0)
            assert nobody.asked == [relay] * 3

    run(main())


def test_a_relay_that_took_long_for_as_much_stays_until_it_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small messages, back and forth for hours, are no bulk."""
    nobody = Nobody()

    async def main() -> None:
        async with scene() as here:
            relay, user, service = here.relay(carry=nobody)
            monkeypatch.setattr(splice, "RELAY_BULK_SECONDS", 0.0)
            await move(user, service, 2 * RELAY_BULK_BYTES)
            await until(lambda: relay.moved == (2 * RELAY_BULK_BYTES, 0))
            assert not nobody.asked
            monkeypatch.undo()
            await move(user, service, RELAY_BULK_BYTES - CHUNK)
            await until(lambda: relay.moved == (3 * RELAY_BULK_BYTES - CHUNK, 0))
            assert not nobody.asked, "what came slowly does not count"
            await move(user, service, CHUNK)
            await until(lambda: nobody.asked == [relay])

    run(main())


def test_no_more_are_taken_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "CARRIED_RELAYS", 1)

    async def main() -> None:
        async with scene() as here:
            first, user, service = await here.carried()
            second, *ends = here.relay()
            await move(ends[0], ends[1], RELAY_BULK_BYTES)
            await until(lambda: second.moved == (RELAY_BULK_BYTES, 0))
            assert list(here.carrier._relays.values()) == [first]
            user.close()
            service.close()
            await here.end()
            await move(ends[0], ends[1], RELAY_BULK_BYTES)
            await until(lambda: list(here.carrier._relays.values()) == [second])

    run(main())


def test_relays_that_are_in_another_process_do_not_hold_one_another_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "RELAY_BULK_BYTES", 1)

    async def main() -> None:
        async with scene() as here:
            all_of_them = [here.relay() for _ in range(20)]
            for _, user, service in all_of_them:
                await move(user, service, CHUNK)
            await until(lambda: len(here.carrier._relays) == len(all_of_them))
            await asyncio.to_thread(stuff, all_of_them[0][1])  # nobody reads that
            for number, (_, user, service) in enumerate(all_of_them[1:], 1):
                user.sendall(number.to_bytes(4, "big"))
                assert await asyncio.to_thread(exactly, service, 4) == number.to_bytes(4, "big")

    run(main())
