"""The order in which packets leave, and that they leave whole."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dconnect.core.limits import EXPRESS_BYTES, EXPRESS_RUN
from dconnect.tunnel.outbox import Outbox
from dconnect.tunnel.wire import frames

BIG = 40_000


def packet(flow: int, size: int, mark: int = 0) -> bytes:
    """Something like an IPv4 packet of a flow."""
    return bytes((0x45, *bytes(11), *b"\x0a\0\0\1\xac\x11\0\2", 0, flow, 0, 80, mark)).ljust(size, b"x")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def put(outbox: Outbox, *packets: bytes) -> None:
    for each in packets:
        slot = outbox.slot
        assert slot is not None
        slot[4 : 4 + len(each)] = each
        outbox.take(len(each))


def sent(outbox: Outbox, ends: tuple[socket.socket, socket.socket], piece: int = 1 << 20) -> list[bytes]:
    """All frames' payloads, read from the other end in pieces of that size."""
    near, far = ends
    received = bytearray()
    while True:
        outbox.flush(near)
        try:
            received += far.recv(piece)
        except BlockingIOError:
            break
    found, used = frames.walk(bytes(received))
    assert used == len(received)
    return [bytes(received[start:end]) for _, start, end in found]


def test_small_packets_go_before_large_ones(ends: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox()
    put(outbox, packet(1, BIG), packet(1, BIG), packet(2, 60), packet(3, EXPRESS_BYTES))
    assert [(each[21], len(each)) for each in sent(outbox, ends)] == [(2, 60), (3, EXPRESS_BYTES), (1, BIG), (1, BIG)]


def test_a_flow_keeps_its_order(ends: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox()
    put(outbox, packet(1, BIG, 1), packet(1, 60, 2), packet(1, BIG, 3), packet(1, 60, 4))
    assert [each[24] for each in sent(outbox, ends)] == [1, 2, 3, 4]
    put(outbox, packet(2, BIG), packet(1, 60))  # nothing of flow 1 waits any more
    assert [each[21] for each in sent(outbox, ends)] == [1, 2]


def test_a_flood_of_small_packets_starves_no_large_one(ends: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox()
    put(outbox, packet(1, BIG), *(packet(2, 60) for _ in range(2 * EXPRESS_RUN)))
    assert [each[21] for each in sent(outbox, ends)].index(1) == EXPRESS_RUN


def test_what_is_said_goes_first_but_never_into_a_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    near, _ = ends
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    outbox = Outbox()
    large = [packet(1, BIG, mark) for mark in range(9)]
    put(outbox, *large)
    outbox.flush(near)  # stops within one
    assert outbox.pending
    outbox.say(frames.frame(frames.PING, b"12345678"))
    got = sent(outbox, ends, piece=1000)
    assert sorted(got) == sorted([*large, b"12345678"])
    assert got.index(b"12345678") == 4  # behind what was given to the kernel as one, LINK_BATCH_BYTES
    assert not outbox.pending


def test_slots_are_bounded_and_come_back(ends: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(slots=3)
    for _ in range(5):
        put(outbox, packet(1, BIG), packet(2, 60), packet(1, 60))
        assert outbox.slot is None
        assert len(sent(outbox, ends)) == 3


def test_what_was_for_a_lost_link_is_forgotten(ends: tuple[socket.socket, socket.socket]) -> None:
    near, _ = ends
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    outbox = Outbox(slots=4)
    put(outbox, *(packet(1, BIG) for _ in range(3)), packet(2, 60))
    outbox.flush(near)
    outbox.say(b"x")
    outbox.clear()
    assert not outbox.pending
    fresh = socket.socketpair()
    with fresh[0], fresh[1]:
        for end in fresh:
            end.setblocking(False)
        put(outbox, packet(1, 60), *(packet(1, BIG) for _ in range(3)))
        assert outbox.slot is None
        assert len(sent(outbox, fresh)) == 4
