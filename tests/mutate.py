"""``make mutants``: plant one fault at a time and see which test turns red.

A fault that no test notices is a hole in the tests; this ends with 1 and names it. Each fault is
planted in a copy of the rooms, which stands before the installed ones on PYTHONPATH; so as many are
tried at once as there are processors.

    tests/mutate.py [WORD…]    only faults in files whose path contains a word
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # tests/; -P leaves it out

from rich.console import Console
from rich.table import Column, Table

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agent", "cli", "core", "dns", "proxy", "tunnel")
DEADLINE = 300.0
"""Seconds; a fault may well make a test hang until its own deadline."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a fault."""

    noticed: bool
    by: str
    """The test, or why there is none."""


def plant(mutant: Mutant, folder: Path) -> int:
    """Copy the rooms to a folder, with the fault; how often its place was found, which must be once."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / "dconnect" / room, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "dconnect" / mutant.file
    if not file.exists():
        return 0
    text = file.read_text()
    file.write_text(text.replace(mutant.old, mutant.new))
    return text.count(mutant.old)


def run_tests(tests: Sequence[str], rooms: Path | None = None) -> Verdict:
    """Run tests until the first is red, with the rooms in a folder instead of the installed ones."""
    path = {} if rooms is None else {"PYTHONPATH": str(rooms)}
    words = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=30", *tests]
    try:
        result = subprocess.run(
            [sys.executable, "-P", *words],
            env={**os.environ, **path, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict(noticed=True, by="(the tests hang)")
    if result.returncode == 0:
        return Verdict(noticed=False, by="SURVIVED")
    red = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    if red is None:
        return Verdict(noticed=False, by=f"pytest did not run: {result.stdout[-500:]}{result.stderr[-500:]}")
    return Verdict(noticed=True, by=red.group(1).rpartition("/")[2])


def try_one(mutant: Mutant) -> Verdict:
    """Plant a fault and run its tests."""
    with tempfile.TemporaryDirectory(prefix="dconnect-mutant-") as folder:
        times = plant(mutant, Path(folder))
        if times != 1:
            return Verdict(noticed=False, by=f"STALE: its place stands there {times} times, not once")
        verdict = run_tests(mutant.tests.split(), Path(folder))
    print("." if verdict.noticed else "F", end="", flush=True)
    return verdict


def main() -> int:
    """Try the chosen faults; 1 if one was not noticed."""
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or any(word in mutant.file for word in sys.argv[1:])]
    tests = sorted({test for mutant in chosen for test in mutant.tests.split()})
    sound = run_tests(tests)
    if sound.by != "SURVIVED":  # a test that is red anyway notices nothing
        print(f"Without any fault the tests are not green: {sound.by}", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        verdicts = list(pool.map(try_one, chosen))
    print()
    table = Table("file", "fault", "becomes", Column("noticed by", overflow="fold"))
    for mutant, verdict in zip(chosen, verdicts, strict=True):
        old, new = (" ".join(text.split()) for text in (mutant.old, mutant.new))
        table.add_row(mutant.file, old, new or "(nothing)", verdict.by, style=None if verdict.noticed else "red")
    Console(width=max(180, shutil.get_terminal_size().columns), markup=False).print(table)
    noticed = sum(verdict.noticed for verdict in verdicts)
    print(f"{noticed} of {len(chosen)} faults were noticed.")
    return 0 if noticed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
