"""The short forms of the soak's ``storm`` and ``tunnel``: nothing falls, nothing fails, nothing stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed
from bench.programs import Site
from soak import storm, tunnel

UP = ("--tun",)


@pytest.fixture(scope="module")
def site(bed: Bed, agent: Dconnect) -> Iterator[Site]:
    made = Site(bed)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("options", [(), ("--packets",)])
def test_a_storm_of_packets_leaves_nothing(bed: Bed, scene: Scene, site: Site, options: tuple[str, ...]) -> None:
    six = bed.address_of(scene.six, version=6)
    outcome = storm.measure(bed, site, six, 8_000, 9293, *options)
    print(outcome.figures)
    assert not outcome.broken()


def test_flows_of_all_kinds_at_once(bed: Bed, site: Site) -> None:
    outcome = tunnel.measure(bed, site, tcp=500, udp=200, seconds=3)
    print(outcome.figures)
    assert not outcome.broken()
