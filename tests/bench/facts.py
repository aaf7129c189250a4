"""What figures depend on: the code and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def commit() -> str:
    """The checkout's commit, ``-dirty`` with changes; results do not count, which such a run writes itself."""
    changed = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results.json", ":!soak/results.json"
    )
    return (_git("rev-parse", "--short=12", "HEAD") or "unknown") + ("-dirty" if changed else "")


def _git(*words: str) -> str:
    """What it prints about the checkout; nothing where there is none."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()


def machine() -> dict[str, Any]:
    """Processor, memory, kernel, and what else runs."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
    }
