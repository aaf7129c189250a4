"""The dialer as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_dialer(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The real program, as its container runs it."""
    process = subprocess.Popen([sys.executable, "-P", "-m", "dconnect.agent.dialer", str(directory)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
