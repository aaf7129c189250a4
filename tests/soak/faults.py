"""What cuts a tunnel for long: the cable is out, the pump is stopped. How long it takes to heal, and what is lost."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bed.client import receive_exactly
from bed.dconnect import Dconnect
from bed.session import Bed
from bed.tun import Tun, tunnel_of
from soak.parts import Ground, Outcome

CABLE_SECONDS, STOPPED_SECONDS = 30.0, 60.0
SHORT = 1 / 3
"""Of both in ``make test``: a pump must be stopped for longer than 15 to 20 s, when the agent has ended its link."""
HEAL_SECONDS = 2.0
"""For the tunnel to be back, once that is possible."""
_DEAD_SECONDS = 20.0
"""What does not heal is given up."""


def reached(bed: Bed, address: str) -> bool:
    """Whether one ping, sent now, comes back."""
    return bed.host.run(["ping", "-c1", "-W0.2", address]).returncode == 0


def echoes(connection: socket.socket) -> bool:
    """Whether a connection to an echo server is still one."""
    try:
        connection.sendall(b"still there?")
        return receive_exactly(connection, 12) == b"still there?"
    except OSError:
        return False


@contextmanager
def cable_out(bed: Bed) -> Iterator[None]:
    """Within the block the host's only wire is down."""
    bed.host.run(["ip", "link", "set", "vm0", "down"], check=True)
    try:
        yield
    finally:
        bed.host.run(["ip", "link", "set", "vm0", "up"], check=True)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Within the block these processes do nothing."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def healed(bed: Bed, address: str) -> float:
    """Seconds until a ping comes back; those of an attempt that succeeds count."""
    begun = time.monotonic()
    while not reached(bed, address) and time.monotonic() - begun < _DEAD_SECONDS:
        pass
    return round(time.monotonic() - begun, 2)


def cable(outcome: Outcome, bed: Bed, tun: Tun, seconds: float, target: str = "plain") -> None:
    """The cable is out for so long, with packets on their way; then it is in again."""
    address, routes = bed.address_of(target), tun.routes()
    with bed.host.connect(address, 7, timeout=10) as connection:
        with cable_out(bed):
            end = time.monotonic() + seconds
            told = _told(bed, address, seconds / 2)
            time.sleep(max(0.0, end - time.monotonic()))
            there = tun.routes()
        took = healed(bed, address)
        alive = echoes(connection)
    outcome.figures["cable"] = {"seconds": seconds, "told_after_s": told, "healed_after_s": took}
    outcome.must('soon packets are answered with "unreachable"', told, hold=told < seconds / 2)
    outcome.must("device and routes stay meanwhile", sorted(routes - there), hold=there == routes)
    _judge(outcome, "the cable is in again", took, alive=alive)


def pump(outcome: Outcome, bed: Bed, tun: Tun, seconds: float, target: str = "plain") -> None:
    """The pump, and what it has started, is stopped for so long; then it goes on."""
    address = bed.address_of(target)
    with bed.host.connect(address, 7, timeout=10) as connection:
        with stopped(*tun.processes()[1:]):
            time.sleep(seconds)
        took = healed(bed, address)
        alive = echoes(connection)
    outcome.figures["pump"] = {"seconds": seconds, "healed_after_s": took, "links": tun.status()["link"]["opened"]}
    _judge(outcome, "the pump goes on", took, alive=alive)


def _told(bed: Bed, address: str, seconds: float) -> float:
    """Seconds until a ping is answered by the host itself; or so many."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if "Destination Host Unreachable" in bed.host.run(["ping", "-c1", "-W0.2", address]).stdout:
            break
    return round(time.monotonic() - begun, 2)


def _judge(outcome: Outcome, when: str, took: float, *, alive: bool) -> None:
    outcome.must(f"{HEAL_SECONDS:.0f} s after {when} so is the tunnel", took, hold=took <= HEAL_SECONDS)
    outcome.must(f"a connection lives on when {when}", alive, hold=alive)


def run(ground: Ground) -> Outcome:
    bed, outcome = ground.bed, Outcome()
    Dconnect(bed).up("--tun")
    bed.target("plain")
    try:
        with tunnel_of(bed) as tun:
            tun.up()
            cable(outcome, bed, tun, max(SHORT, ground.scale) * CABLE_SECONDS)
            pump(outcome, bed, tun, max(SHORT, ground.scale) * STOPPED_SECONDS)
    finally:
        bed.docker("rm", "--force", "plain")
    return outcome
