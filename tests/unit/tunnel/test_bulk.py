"""Which flows have large packets: bounded, forgotten in time, and known by what answers them."""

from __future__ import annotations

import pytest

from dconnect.core.limits import BULK_FLOWS, BULK_SECONDS
from dconnect.tunnel.bulk import BulkFlows
from dconnect.tunnel.wire import udp


def _packet(here: int, there: int, *, six: bool = False) -> bytes:
    size = 16 if six else 4
    return udp.packet((bytes([1] * size), here), (bytes([2] * size), there), b"")


def _answer(here: int, there: int, *, six: bool = False) -> bytes:
    size = 16 if six else 4
    return udp.packet((bytes([2] * size), there), (bytes([1] * size), here), b"")


@pytest.mark.parametrize("six", [False, True])
def test_a_flow_is_known_by_what_answers_it_and_by_nothing_else(six: bool) -> None:
    flows = BulkFlows()
    assert not flows.answered_by(_answer(5, 80, six=six))
    flows.saw(memoryview(_packet(5, 80, six=six)))
    assert flows.answered_by(memoryview(_answer(5, 80, six=six)))
    assert not flows.answered_by(_packet(5, 80, six=six))
    assert not flows.answered_by(_answer(6, 80, six=six))
    assert not flows.answered_by(_answer(80, 5, six=six))
    assert not flows.answered_by(_answer(5, 80, six=not six))


def test_it_is_forgotten_in_time() -> None:
    now = 100.0
    flows = BulkFlows(lambda: now)
    flows.saw(_packet(5, 80))
    now += BULK_SECONDS * 0.9
    assert flows.answered_by(_answer(5, 80))
    flows.saw(_packet(5, 80))
    now += BULK_SECONDS * 0.9
    assert flows.answered_by(_answer(5, 80))
    now += BULK_SECONDS * 0.2
    assert not flows.answered_by(_answer(5, 80))


def test_there_are_so_many_at_most_and_the_oldest_goes() -> None:
    flows = BulkFlows(lambda: 0.0)
    for port in range(BULK_FLOWS + 1):
        flows.saw(_packet(port, 80))
    known = [flows.answered_by(_answer(port, 80)) for port in range(BULK_FLOWS + 1)]
    assert known == [False, *[True] * BULK_FLOWS]


@pytest.mark.parametrize("packet", [b"", b"E", b"`", bytes(19)])
def test_what_is_no_packet_answers_nothing(packet: bytes) -> None:
    flows = BulkFlows()
    flows.saw(_packet(5, 80))
    assert not flows.answered_by(packet)
