"""The guardian: a process that outlives its bed's owner by one clean-up.

It holds the read end of a pipe whose write end only the owner has. The pipe ends when the
owner closes the bed or dies in whatever way, ``kill -9`` included; then the guardian removes
everything. It also holds the lock that tells later beds that this one is being looked after.

    PYTHONPATH=tests python -P -m bed.guardian <bed name> <pipe descriptor>
"""

from __future__ import annotations

import os
import sys

from bed.remains import BedName, remove


def main(name: str, pipe: int) -> int:
    """Wait for the end of the pipe, then remove the bed; 1 when something resisted."""
    while os.read(pipe, 1):
        pass
    return 1 if remove(BedName(name)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
