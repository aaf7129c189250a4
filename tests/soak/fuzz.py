"""Every test of tests/fuzz with far more examples than ``make test`` has, for ten minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bed.namespace import BedError
from bench.facts import ROOT
from soak.parts import Ground, Outcome

SECONDS = 600.0
LEARN = 0.2
"""The first round's examples, as a part of those in ``make test``: it tells how long they take."""
MOST = 25.0
"""Of one round; the next begins elsewhere."""


def one_round(factor: float) -> dict[str, Any]:
    """All tests with so many times their examples; what tests/fuzz/conftest.py reports, by test.

    Raises: BedError when the tests could not be run at all.
    """
    with tempfile.TemporaryDirectory(prefix="dconnect-fuzz-") as folder:
        report = Path(folder) / "report.json"
        result = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0", "tests/fuzz"],
            env={**os.environ, "DCONNECT_FUZZ_FACTOR": str(factor), "DCONNECT_FUZZ_REPORT": str(report)},
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=False,
        )
        if result.returncode not in (0, 1) or not report.exists():
            raise BedError(f"pytest ended with {result.returncode}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(report.read_text())
        return found


def run(ground: Ground) -> Outcome:
    begun, seconds = time.monotonic(), SECONDS * ground.scale
    examples: Counter[str] = Counter()
    failures: dict[str, str] = {}
    factor, rounds, per_factor = LEARN, 0, 0.0
    while factor >= LEARN and not failures:
        started = time.monotonic()
        for test, seen in one_round(factor).items():
            examples[test] += seen["examples"]
            if seen["failure"]:
                failures[test] = seen["failure"]
        rounds += 1
        now = time.monotonic()
        print(f"  {examples.total():,} examples after {now - begun:.0f} s", flush=True)
        per_factor = (now - started) / factor
        factor = min(MOST, (begun + seconds - now) / per_factor)
    outcome = Outcome({"rounds": rounds, "examples": dict(sorted(examples.items())), "total": examples.total()})
    outcome.must("no input surprises a parser", failures, hold=not failures)
    return outcome
