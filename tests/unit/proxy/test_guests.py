"""How long a guest of a full worker is safe, in seconds for so many places."""

from __future__ import annotations

import pytest

from dconnect.core.limits import FRESH_SECONDS, LISTEN_BACKLOG, PAUSE_SECONDS
from dconnect.proxy.guests import patience_of


@pytest.mark.parametrize(
    ("places", "seconds"), [(16, 0.0), (409, 0.0), (2048, 0.5), (4096, 1.0), (8661, 1.0), (16_384, 1.0)]
)
def test_many_places_give_a_second_and_few_give_none(places: int, seconds: float) -> None:
    assert patience_of(places) == seconds


@pytest.mark.parametrize("places", [16, 500, 2000, 6000, 16_384])
def test_a_backlog_of_silent_clients_passes_in_about_a_second(places: int) -> None:
    rounds = LISTEN_BACKLOG / places
    assert patience_of(places) * rounds <= FRESH_SECONDS
    assert patience_of(places) == 0 or patience_of(places) > PAUSE_SECONDS
