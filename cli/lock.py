"""One ``dconnect up`` at a time on each engine: two would remove each other's half-made agent.

The lock is a file in the user's state directory, and the system lets go of it with the process,
however that ends. Where there is no place for it, ``up`` goes without.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from dconnect.core.errors import DconnectError

DEADLINE_S = 300.0
"""The other one may be pulling the base image and building from it."""
POLL_S = 0.1


async def take(
    directory: Path, engine_id: str, progress: Callable[[str], None], deadline_s: float = DEADLINE_S
) -> ExitStack:
    """Wait for the engine's lock; leaving the context lets go of it.

    Raises: DconnectError when another process keeps it too long.
    """
    end = time.monotonic() + deadline_s
    with ExitStack() as held:
        file = _open(directory, engine_id)
        if file is not None:
            held.enter_context(file)
        while file is not None and not _locked(file.fileno()):
            if time.monotonic() > end:
                raise DconnectError(
                    f"Another `dconnect up` has been at work on this engine for {deadline_s:.0f} s; "
                    "wait for it or end it, then try again."
                )
            progress("waiting for another `dconnect up` on this engine")
            await asyncio.sleep(POLL_S)
        return held.pop_all()


def _open(directory: Path, engine_id: str) -> BinaryIO | None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return (directory / f"up-{hashlib.sha256(engine_id.encode()).hexdigest()[:16]}.lock").open("ab")
    except OSError:
        return None


def _locked(descriptor: int) -> bool:
    """Whether the lock is ours now, or the file system knows no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - only there

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - not there

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
