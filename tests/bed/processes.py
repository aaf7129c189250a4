"""Who runs on this machine; what a container's processes hold and have used: memory, descriptors, processor time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bed.namespace import BedError
from bed.session import Bed

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Usage:
    """One process, or several added up (then ``pid`` is 0)."""

    pid: int
    rss: int
    """Bytes of memory in use; pages that several processes share count for each of them."""
    pss: int
    """The same, but of a shared page each of its processes has only its part."""
    descriptors: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(0, self.rss + other.rss, self.pss + other.pss, self.descriptors + other.descriptors)


NOTHING = Usage(0, 0, 0, 0)


def command_lines() -> dict[int, list[str]]:
    """PID → arguments of every process on this machine; the kernel's own have none."""
    found: dict[int, list[str]] = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended while the others were read
            found[int(file.parent.name)] = file.read_bytes().decode(errors="replace").split("\0")
    return found


def _lines(bed: Bed, container: str) -> Iterator[tuple[int, str]]:
    """PID on this machine and command line of each process."""
    for line in bed.docker("top", container, "-eo", "pid,args").splitlines()[1:]:
        pid, _, arguments = line.strip().partition(" ")
        yield int(pid), arguments


def processes(bed: Bed, container: str) -> dict[str, int]:
    """Module → PID on this machine, of one of our containers; workers are told apart by their number."""
    found: dict[str, int] = {}
    for pid, arguments in _lines(bed, container):
        words = arguments.split()
        module = words[words.index("-m") + 1] if "-m" in words else arguments
        index = f" {words[-1]}" if module.endswith(("worker", "carrying")) else ""
        found[module.removeprefix("dconnect.") + index] = pid
    return found


def usage(pid: int) -> Usage:
    """Of one process, now.

    Raises: OSError when it is gone.
    """
    folder = Path("/proc", str(pid))
    fields = dict(line.split(":", 1) for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
    rss, pss = (int(fields[name].split()[0]) * 1024 for name in ("Rss", "Pss"))
    return Usage(pid, rss, pss, len(list((folder / "fd").iterdir())))


def total(bed: Bed, containers: tuple[str, ...]) -> Usage:
    """Of all processes of some containers."""
    added = NOTHING
    for container in containers:
        for pid, _ in _lines(bed, container):
            with contextlib.suppress(OSError):  # short-lived ones
                added += usage(pid)
    return added


def descendants(pid: int) -> list[int]:
    """A process, and those that it and they have started."""
    found = [pid]
    for parent in found:  # which grows meanwhile
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


class Clock:
    """Processor time of some containers, from their cgroups: also of processes that ended meanwhile."""

    def __init__(self, bed: Bed, containers: tuple[str, ...], pids: Sequence[int] = ()) -> None:
        """``pids`` are processes that count too, with all their threads."""
        self._files = [_cpu_file(bed.inspect(container)["State"]["Pid"]) for container in containers]
        self._pids = tuple(pids)

    def seconds(self) -> float:
        """So far, user and system together."""
        contained = sum(scale * int(file.read_text().split()[at]) for file, at, scale in self._files)
        return contained + sum(map(_cpu_seconds, self._pids))


def _cpu_seconds(pid: int) -> float:
    """Of one process, in steps of the system's tick, a hundredth of a second."""
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_file(pid: int) -> tuple[Path, int, float]:
    """Where a process's cgroup tells its time: the file, which of its words, seconds in one unit."""
    for line in Path("/proc", str(pid), "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):  # version 1
            for folder in (controllers, "cpuacct"):
                if (file := _CGROUPS / folder / path[1:] / "cpuacct.usage").exists():
                    return file, 0, 1e-9
        if not controllers and (file := _CGROUPS / path[1:] / "cpu.stat").exists():  # version 2: "usage_usec N" first
            return file, 1, 1e-6
    raise BedError(f"Process {pid} is in no cgroup that counts its time.")
