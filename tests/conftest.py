"""What holds for every test: the repository's root must not be importable."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    # Our dns/ would shadow dnspython, and tests would pass against files that are not installed.
    if str(_ROOT) in sys.path or ("" in sys.path and Path.cwd() == _ROOT):
        raise SystemExit("The repository's root is on sys.path; run .venv/bin/pytest, with PYTHONSAFEPATH=1.")
