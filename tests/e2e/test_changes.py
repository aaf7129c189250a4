"""The short form of the soak's ``changes``: a project changes at random, and DNS says what ``docker inspect`` says."""

from __future__ import annotations

import pytest

from bed.scene import Scene
from bed.session import Bed
from soak import changes

COUNT = 60
BUSY = 1
"""Changes during which a shared machine may do something else; the soak allows none."""


@pytest.mark.usefixtures("agent")
def test_after_every_change_every_name_is_right_and_nothing_is_stale(bed: Bed, scene: Scene) -> None:
    seed = changes.seed()
    print(f"{changes.SEED}={seed} does the same again")
    outcome = changes.judge(changes.measure(bed, COUNT, seed), BUSY)
    print(outcome.figures)
    assert outcome.figures["asked"] > 50 * COUNT, "too little was asked to show anything"
    assert not outcome.broken()
