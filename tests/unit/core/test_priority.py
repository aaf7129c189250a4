"""Turns at a processor, of processes of the test's own: what the kernel says that they have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dconnect.core import priority

LINUX = sys.platform == "linux"
LEAST, USUAL = 100_000, re.compile(r"se\.slice +: +(\d+)")
ASKED = "from dconnect.core import priority; priority.{}(); print('ready', flush=True); input()"


@pytest.fixture
def asleep() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another session, which is prompt."""
    with program("be_prompt") as process:
        yield process
        process.kill()


def program(called: str, *before: str) -> subprocess.Popen[bytes]:
    words = [*before, sys.executable, "-c", ASKED.format(called)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def slice_of(pid: int) -> int:
    """Nanoseconds; skips where the kernel does not tell."""
    file = Path(f"/proc/{pid}/sched")
    found = USUAL.search(file.read_text()) if file.exists() else None
    if found is None:
        pytest.skip("This kernel does not tell a process's slice.")
    return int(found[1])


def session_niceness(pid: int) -> int:
    """Of its autogroup; skips where there are none."""
    file = Path(f"/proc/{pid}/autogroup")
    if not file.exists() or Path("/proc/sys/kernel/sched_autogroup_enabled").read_text() != "1\n":
        pytest.skip("This kernel has no autogroups, or they are off.")
    return int(file.read_text().rpartition(" ")[2])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a process go first")
def test_who_goes_first_does_so_with_its_whole_session(asleep: subprocess.Popen[bytes]) -> None:
    priority.go_first(asleep.pid)
    assert os.getpriority(os.PRIO_PROCESS, asleep.pid) == -10
    assert session_niceness(asleep.pid) == -10


def test_who_stands_back_does_so_from_whatever_its_parent_had() -> None:
    with program("stand_back", *(() if os.geteuid() else ("nice", "-n", "-10"))) as process:
        try:
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
            assert session_niceness(process.pid) == 19
        finally:
            process.kill()


@pytest.mark.skipif(not LINUX, reason="only Linux has slices to ask for")
def test_who_is_prompt_asks_for_the_shortest_turns_and_keeps_its_niceness(asleep: subprocess.Popen[bytes]) -> None:
    usual = slice_of(os.getpid())
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 12):
        pytest.skip("This kernel gives all the same slices.")
    assert slice_of(asleep.pid) == LEAST < usual
    assert os.getpriority(os.PRIO_PROCESS, asleep.pid) == os.getpriority(os.PRIO_PROCESS, 0)


def test_where_the_right_is_missing_nothing_happens() -> None:
    script = "import os; from dconnect.core import priority; os.setuid(65534); priority.go_first(os.getpid())"
    if os.geteuid():
        script = script.replace("os.setuid(65534); ", "")
    words = [sys.executable, "-c", f"{script}; print(os.getpriority(0, 0))"]
    result = subprocess.run(words, capture_output=True, text=True, check=True, start_new_session=True)
    assert int(result.stdout) == os.getpriority(os.PRIO_PROCESS, 0)
