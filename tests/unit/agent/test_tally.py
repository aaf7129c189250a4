"""Counters that outlive the worker that counted."""

from __future__ import annotations

import random
from typing import Any

from dconnect.agent.tally import Tally


def report(pid: int, accepted: int, **others: Any) -> dict[str, Any]:
    return {"index": 0, "pid": pid, "serial": 1, "open": 3, "accepted": accepted, **others}


def test_workers_are_added_up_and_what_is_no_counter_is_left_out() -> None:
    tally = Tally()
    tally.update(report(1, 5, sessions={"http": {"ok": 2}}, connects=[1, 0], dns={"queries": 4}))
    tally.update(report(2, 7, sessions={"http": {"ok": 1, "refused": 1}, "socks5": {"ok": 3}}, connects=[0, 2], dns={}))
    assert tally.total() == {
        "accepted": 12,
        "sessions": {"http": {"ok": 3, "refused": 1}, "socks5": {"ok": 3}},
        "connects": [1, 2],
        "dns": {"queries": 4},
        "bytes_up": 0,
        "bytes_down": 0,
    }


def test_a_dead_workers_counts_stay_and_its_successor_s_are_added() -> None:
    tally = Tally()
    tally.update(report(1, 5))
    tally.update(report(2, 1))
    tally.update(report(2, 2))
    assert tally.total()["accepted"] == 7


def test_a_worker_that_reports_again_after_its_link_was_lost_is_counted_once() -> None:
    tally = Tally()
    for accepted in (5, 6):
        tally.update(report(1, accepted))
        tally.update(report(2, 1))
    assert tally.total()["accepted"] == 7


def test_any_number_of_dead_workers_is_remembered_in_bounded_room() -> None:
    tally = Tally()
    for pid in range(1000):
        tally.update(report(9999, pid))  # one that lives all along
        tally.update(report(pid, 1, sessions={"http": {"ok": 1}}))
    assert tally.total()["accepted"] == 1000 + 999
    assert tally.total()["sessions"] == {"http": {"ok": 1000}}
    assert len(tally._latest) < 20


def test_bytes_of_open_relays_once_told_are_not_taken_back() -> None:
    tally = Tally()
    tally.update(report(1, 1, bytes_up=10, bytes_down=0, open_bytes_up=90, open_bytes_down=5))
    assert (tally.total()["bytes_up"], tally.total()["bytes_down"]) == (100, 5)
    tally.update(report(1, 1, bytes_up=10, bytes_down=0))
    assert (tally.total()["bytes_up"], tally.total()["bytes_down"]) == (100, 5)
    tally.update(report(1, 1, bytes_up=120, bytes_down=5))
    assert (tally.total()["bytes_up"], tally.total()["bytes_down"]) == (120, 5)


def test_no_counter_ever_falls() -> None:
    tally, dice = Tally(), random.Random(5)
    counts = dict.fromkeys(range(3), 0)
    pids = list(range(3))
    before = 0
    for step in range(2000):
        index = dice.randrange(3)
        if dice.random() < 0.05:  # it dies
            pids[index], counts[index] = 100 + step, 0
        counts[index] += dice.randrange(10)
        tally.update(report(pids[index], counts[index]))
        now = int(tally.total()["accepted"])
        assert now >= before
        before = now
