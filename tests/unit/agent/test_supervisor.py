from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dconnect.agent.lent import Lent, borrow
from dconnect.core.config import AgentConfig

DEADLINE = 10.0

# A child that tells its PID and index, then does as its file says.
CHILD = """
import ctypes, json, os, signal, sys, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a test that fails may leave none behind
lent = json.loads(os.environ["DCONNECT_LENT"])
with open(os.environ["TOLD"], "a") as told:
    print(json.dumps([lent["index"], os.getpid(), os.getpgid(0) == os.getpid()]), file=told, flush=True)
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ.get("SHORT"):
    sys.exit(3)
while True:
    time.sleep(60)
"""
SUPERVISE = """
from dconnect.agent.lent import Lent
from dconnect.agent.supervisor import Child, Supervisor
from dconnect.core.config import AgentConfig
from dataclasses import replace
import os, sys
sys.executable = os.environ.get("EXECUTABLE", sys.executable)
lent = Lent(AgentConfig(), "unix:///none", 0, 0, 0, 0, 0, 0, 0, "/nowhere")
raise SystemExit(Supervisor([Child(f"child {i}", "a_child", replace(lent, index=i)) for i in range(2)]).run())
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    (tmp_path / "a_child.py").write_text(CHILD)
    (tmp_path / "told").touch()
    return tmp_path / "told"


@contextmanager
def supervised(told: Path, stderr: int = subprocess.PIPE, **extra: str) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join(filter(None, (str(told.parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "TOLD": str(told), **extra}
    process = subprocess.Popen([sys.executable, "-P", "-c", SUPERVISE], env=environment, stderr=stderr, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        for _, pid, _ in children(told):
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def children(told: Path) -> list[tuple[int, int, bool]]:
    return [tuple(json.loads(line)) for line in told.read_text().splitlines()]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_child_is_lent_does_not_stand_in_its_arguments(told: Path) -> None:
    with supervised(told):
        until(lambda: len(children(told)) == 2)
        for index, pid, _ in children(told):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            assert words[1:] == [b"-P", b"-m", b"a_child", b"%d" % index, b""]


def test_a_dead_child_is_restarted_and_the_others_are_left_alone(told: Path) -> None:
    with supervised(told) as process:
        until(lambda: len(children(told)) == 2)
        first = {index: pid for index, pid, _ in children(told)}
        os.kill(first[1], signal.SIGKILL)
        until(lambda: len(children(told)) == 3)
        index, pid, leads = children(told)[2]
        assert (index, pid != first[1], leads) == (1, True, True)
        assert Path(f"/proc/{first[0]}").exists()
        process.terminate()
        assert process.wait(DEADLINE) == 0
        assert not any(Path(f"/proc/{pid}").exists() for _, pid, _ in children(told))


def test_a_child_that_dies_again_and_again_is_restarted_ever_more_slowly(told: Path) -> None:
    with supervised(told, SHORT="1") as process:
        until(lambda: len(children(told)) >= 8)
        process.terminate()
        _, log = process.communicate(timeout=DEADLINE)
    lines = [json.loads(line) for line in log.splitlines()]
    delays = [line["delay_s"] for line in lines if line.get("process") == "child 0"]
    assert delays == sorted(delays)
    assert delays[0] < delays[-1] <= 5.0
    assert all(line["exit_code"] == 3 for line in lines if "exit_code" in line)


def test_a_child_that_cannot_even_be_started_is_tried_again_ever_more_slowly(told: Path) -> None:
    with supervised(told, EXECUTABLE="/nowhere/python") as process:
        assert process.stderr is not None
        lines = [json.loads(process.stderr.readline()) for _ in range(8)]
        process.terminate()
        assert process.wait(DEADLINE) == 0
    assert {line["reason"] for line in lines} == {"No such file or directory"}
    delays = [line["delay_s"] for line in lines if line["process"] == "child 0"]
    assert delays == sorted(delays)
    assert delays[0] < delays[-1]


def test_a_stderr_that_nobody_reads_delays_no_restart(told: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    with supervised(told, write, SHORT="1") as process:
        until(lambda: len(children(told)) >= 6)
        process.terminate()
        assert process.wait(DEADLINE) == 0
    os.close(read)
    os.close(write)


def test_the_second_signal_ends_stubborn_children_at_once(told: Path) -> None:
    with supervised(told, STUBBORN="1") as process:
        until(lambda: len(children(told)) == 2)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "agent stopping" in process.stderr.readline()
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert time.monotonic() - begun < 5, "it waited for children that do not listen"
        assert not any(Path(f"/proc/{pid}").exists() for _, pid, _ in children(told))


def test_what_is_lent_is_the_same_after_the_journey() -> None:
    lent = Lent(AgentConfig(port=1, suffixes=("a", "b")), "unix:///s", 3, 4, 5, 6, 7, 8, 9, "/run/x", index=2)
    assert Lent.from_json(lent.to_json()) == lent
    assert lent.descriptors() == (3, 4, 5, 6, 7, 8, 9)


def test_closing_what_was_borrowed_leaves_the_lenders_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as lender:
        borrowed = borrow(lender.fileno())
        assert not borrowed.getblocking()
        borrowed.close()
        socket.create_connection(lender.getsockname(), DEADLINE).close()
