"""The short form of ``make soak``: connections aborted at every moment, and a crowd; nothing of them stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bed.dconnect import Dconnect
from bed.session import Bed
from bench import crowd
from bench.load import Way
from bench.programs import Site
from soak import aborts
from soak.crowd import judge


@pytest.fixture(scope="module")
def site(bed: Bed, agent: Dconnect) -> Iterator[Site]:
    made = Site(bed)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def way(site: Site) -> Way:
    return site.dconnect()


def test_aborted_connections_leave_nothing(bed: Bed, site: Site, way: Way) -> None:
    outcome = aborts.measure(bed, site, way, 1000, seed=1928)
    assert len(outcome.figures["kinds"]) >= 35, "not every kind had its turn"
    assert not outcome.broken()


def test_a_thousand_idle_relays_and_fifty_busy_ones_are_served(site: Site, way: Way) -> None:
    assert not judge(crowd.measure(site, way, idle=1000, busy=50, seconds=3)).broken()
