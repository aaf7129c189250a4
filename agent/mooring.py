"""Notice that the engine has made itself another socket: ours is mounted, and a mount keeps the file it was given.

An engine that is started makes its socket anew, unless somebody keeps it (systemd's docker.socket). Where containers
outlive their engine (live-restore) the agent would for ever ask a socket at which nobody listens. Only when its
container is started again is the new one mounted, and the engine does that with whoever ended while it was away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 0.1
"""An engine takes several times as long to start, so that its end is seen before its return."""
STOPPED_SECONDS = 30.0
"""An engine that ends in order takes its socket away itself, and its return cannot be seen. So the last names are
served for so long and no longer, since they may be wrong: what has no event may take as long (``docker/watch.py``)."""


async def cut_off(path: str, connected: Callable[[], bool], *, patience: float = STOPPED_SECONDS) -> None:
    """Return when the engine can never be reached again by the socket at a path.

    Args:
        path: the socket, mounted.
        connected: whether the engine is reached at this moment.
        patience: how long an engine may be away that took its socket with it.
    """
    # Left behind by an engine that crashed, a socket loses its name when the next engine makes its own.
    left_behind, gone = False, 0.0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if connected():
            left_behind, gone = False, 0.0
        elif _has_name(path):
            left_behind = True
        else:
            gone += LOOK_SECONDS
            if left_behind or gone >= patience:
                return


def _has_name(path: str) -> bool:
    """Whether somebody else can still find the file that is mounted here."""
    try:
        return Path(path).stat().st_nlink > 0
    except OSError:
        return True  # it is not mounted at all, which a new start would not change
