"""What a planted fault is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: in ``file``, ``old`` (which stands there once) becomes ``new``; ``tests`` must notice."""

    file: str
    old: str
    new: str
    tests: str
