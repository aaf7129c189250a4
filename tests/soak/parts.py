"""What the parts of a soak have in common: the ground they stand on and what they hand back."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bed.session import Bed
from bench.agent import Usages, died, left_after
from bench.load import Way
from bench.programs import Site

GROWTH_MIB = 2.0
"""A process may grow by this after its warm-up, whatever it has done since."""
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Bound:
    """Something that must hold."""

    what: str
    """A sentence with the bound in it."""
    measured: Any
    holds: bool


@dataclass(slots=True)
class Outcome:
    """What a part found."""

    figures: dict[str, Any] = field(default_factory=dict)
    bounds: list[Bound] = field(default_factory=list)

    def must(self, what: str, measured: Any, *, hold: bool) -> None:
        self.bounds.append(Bound(what, measured, hold))

    def broken(self) -> list[str]:
        """What does not hold."""
        return [f"{bound.what}: {bound.measured}" for bound in self.bounds if not bound.holds]


class Ground:
    """A bed with the agent and the target in it, made when the first part wants it."""

    def __init__(self, stack: contextlib.ExitStack, scale: float) -> None:
        self._stack = stack
        self.scale = scale
        """1 for the real thing, less for a try: every count and duration is multiplied by it."""

    def scaled(self, count: int, least: int = 1) -> int:
        return max(least, round(count * self.scale))

    @cached_property
    def bed(self) -> Bed:
        return self._stack.enter_context(Bed.start())

    @cached_property
    def site(self) -> Site:
        return Site(self.bed)

    @cached_property
    def socks(self) -> Way:
        return self.site.dconnect()

    @cached_property
    def http(self) -> Way:
        return self.site.dconnect_http()


def grown(before: Usages, after: Usages) -> dict[str, float]:
    """MiB by which each process of the agent has grown."""
    return {name: round((after[name].rss - each.rss) / _MIB, 2) for name, each in before.items() if name in after}


def must_be_flat(outcome: Outcome, bed: Bed, first: Usages, warm: Usages, last: Usages, *, seconds: float) -> None:
    """Memory no more than when warm, descriptors as at first, and every process still the same one."""
    growth = grown(warm, last)
    outcome.figures["growth_mib"] = growth
    most = f"no process grows by more than {GROWTH_MIB} MiB after the warm-up"
    outcome.must(most, growth, hold=max(growth.values()) <= GROWTH_MIB)
    left = left_after(bed, first, seconds)
    outcome.must(f"descriptors are given back within {seconds:.0f} s", left, hold=not left)
    dead = died(first, last)
    outcome.must("no process dies", dead, hold=not dead)
