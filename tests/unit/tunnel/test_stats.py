"""What the pump counts, and what is carried beside its link."""

from __future__ import annotations

from dconnect.tunnel.stats import Stats


def test_without_anything_beside_the_link_its_own_bytes_are_all() -> None:
    stats = Stats(sent_bytes=3, received_bytes=4)
    assert stats.totals() == (3, 4)


def test_what_is_carried_beside_the_link_counts_in_totals_and_not_as_the_links() -> None:
    stats = Stats(sent_bytes=3, received_bytes=4)
    stats.carried = lambda: (100, 2000)
    assert stats.totals() == (103, 2004)
    assert (stats.sent_bytes, stats.received_bytes) == (3, 4)


def test_rates_are_of_all_bytes_since_the_sample_before_the_last() -> None:
    stats = Stats(_samples=[(100.0, 0, 0)] * 2)
    carried = (0, 0)
    stats.carried = lambda: carried
    stats.sent_bytes, carried = 1000, (500, 250)
    stats.sample(101.0)  # too soon: nothing is noted
    assert stats.rates(110.0) == (1500 * 8 / 10, 250 * 8 / 10)
    stats.sample(110.0)
    stats.sample(120.0)
    carried = (500 + 4000, 250 + 8000)
    assert stats.rates(130.0) == (4000 * 8 / 20, 8000 * 8 / 20)
