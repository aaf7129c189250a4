from __future__ import annotations

from dconnect.core.backoff import backoff


def test_backoff_doubles_up_to_its_bound() -> None:
    assert [backoff(n, 1, 10) for n in (0, 1, 2, 3, 4, 10_000)] == [1, 2, 4, 8, 10, 10]
