"""What a bed has on the machine, and how all of it is taken away.

A bed is known by its name alone. Everything that belongs to it can be found again from
that name, without any record that a crash could lose:

- processes: by a marker in their environment (engine, containerd, shims), by their cgroup
  (containers), by their network namespace (whatever a test runs on the host), and by descent;
- the two network namespaces, the cgroups and the folder: by their names;
- mounts: none of the engine's are visible outside its own mount namespace, and they go with it.

So removal needs no state, may be repeated, and may be done by anybody: the guardian when the
test process ends, or the next bed on this machine should even the guardian have been killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOME = Path("/var/tmp")
"""Real disk by the FHS, which overlay2 needs, and short: a socket's path must fit in 107 bytes."""
PREFIX = "dcbed-"
MARKER = "DCONNECT_BED"
NETNS = Path("/run/netns")
CGROUPS = Path("/sys/fs/cgroup")
REMOVAL_DEADLINE = 60.0
"""Seconds; removal takes one or two, more on a busy disk."""


@dataclass(frozen=True, slots=True)
class BedName:
    """The name of a bed, and the names that follow from it."""

    name: str

    @property
    def root(self) -> Path:
        return HOME / self.name

    @property
    def engine_netns(self) -> str:
        return f"{self.name}-vm"

    @property
    def host_netns(self) -> str:
        return f"{self.name}-mac"

    @property
    def namespace_files(self) -> list[Path]:
        return [NETNS / self.engine_netns, NETNS / self.host_netns]

    @property
    def cgroup_parent(self) -> str:
        return f"/{self.name}"

    @property
    def mark(self) -> str:
        """One environment entry that every process of the engine inherits."""
        return f"{MARKER}={self.name}"


def processes(bed: BedName) -> set[int]:
    """The living processes of a bed, never this one."""
    spaces = {path.stat().st_ino for path in bed.namespace_files if path.exists()}
    mark, cgroup = bed.mark.encode(), f"{bed.cgroup_parent}/"
    parent_of: dict[int, int] = {}
    owned: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # A process may end while it is looked at.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            pid = int(entry.name)
            state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
            if state in "ZX":
                continue
            parent_of[pid] = int(parent)
            if (
                mark in (entry / "environ").read_bytes().split(b"\0")
                or cgroup in (entry / "cgroup").read_text()
                or (entry / "ns" / "net").stat().st_ino in spaces
            ):
                owned.add(pid)
    owned.discard(os.getpid())
    size = -1
    while size != len(owned):
        size = len(owned)
        owned |= {pid for pid, parent in parent_of.items() if parent in owned}
    return owned - {os.getpid()}


def cgroups(bed: BedName) -> list[Path]:
    """The top cgroup of the bed in each hierarchy (version 1 has many, version 2 one)."""
    return [path for pattern in (bed.name, f"*/{bed.name}") for path in CGROUPS.glob(pattern)]


def mounts(bed: BedName) -> list[str]:
    """Mount points of the bed that this mount namespace sees."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if f"/{bed.name}" in point]


def find(bed: BedName) -> list[str]:
    """Everything that is left of a bed, a line each; empty when it is gone."""
    return [
        *(f"process {pid}" for pid in sorted(processes(bed))),
        *(f"namespace {path}" for path in bed.namespace_files if path.exists()),
        *(f"cgroup {path}" for path in cgroups(bed)),
        *(f"mount {point}" for point in mounts(bed)),
        *([f"folder {bed.root}"] if bed.root.exists() else []),
    ]


def thaw(bed: BedName) -> None:
    """Let paused containers run on: in a frozen cgroup of version 1 not even SIGKILL is obeyed."""
    for state in CGROUPS.glob(f"*/{bed.name}/**/freezer.state"):
        with suppress(OSError):  # it goes when its last process has
            state.write_text("THAWED")


def remove(bed: BedName) -> list[str]:
    """Take a bed away; returns what could not be removed within the deadline."""
    deadline = time.monotonic() + REMOVAL_DEADLINE
    while left := find(bed):
        if time.monotonic() > deadline:
            return left
        if alive := processes(bed):
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            thaw(bed)
            # Dying takes the kernel a moment; nothing below can succeed before it.
            time.sleep(0.02)
            continue
        for path in bed.namespace_files:
            if path.exists():
                subprocess.run(["ip", "netns", "delete", path.name], check=False, capture_output=True)
        for top in cgroups(bed):
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):  # busy until the kernel has buried the last process
                    Path(folder).rmdir()
        shutil.rmtree(bed.root, ignore_errors=True)
        time.sleep(0.02)
    return []
