"""Waiting until something holds, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.01


def wait_for(what: str, holds: Callable[[], bool], seconds: float) -> float:
    """Ask again and again until something holds; how long that took, in seconds.

    Raises: AssertionError when it took longer than ``seconds``.
    """
    begun = time.monotonic()
    held = holds()
    while not held and time.monotonic() - begun < seconds:
        time.sleep(PAUSE)
        held = holds()
    took = time.monotonic() - begun
    assert held, f"{what}: not within {seconds} s"
    assert took < seconds, f"{what}: after {took:.2f} s, which is more than {seconds}"
    return took
