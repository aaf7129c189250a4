"""What breaks under a tunnel heals, takes nothing along that need not go, and leaves the host as it was."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bed.client import Client, receive_exactly
from bed.dconnect import PROXY_PORT, Dconnect
from bed.elsewhere import second_host
from bed.namespace import Namespace
from bed.processes import processes
from bed.scene import Scene
from bed.session import Bed
from bed.traffic import pings, traffic
from bed.tun import Tun, tunnel_of
from bed.tunnel import Tunnel
from bed.waiting import wait_for
from dconnect.core.limits import RELAY_BULK_BYTES, TRUNK_STREAM_BYTES
from soak import faults
from soak.faults import HEAL_SECONDS, echoes, reached, stopped
from soak.parts import Outcome

UP = ("--tun",)

FIRST = "10.213.0.2"
"""What a host gets that does not say who it is."""
MUCH = 3 * RELAY_BULK_BYTES
"""What is carried by a process of its own before it is half through."""
MOVED = 2 * TRUNK_STREAM_BYTES
"""What has a connection of its own before it is half through."""
START_SECONDS = 1.5
"""What a process of the agent's takes to start on a busy machine; only then healing is possible."""


@pytest.fixture
def tun(bed: Bed, agent: Dconnect) -> Iterator[Tun]:
    """The command; that nothing is left of it is shown."""
    with tunnel_of(bed) as made:
        made.up()
        yield made


@pytest.fixture
def elsewhere(bed: Bed) -> Iterator[Namespace]:
    """Another host of the same engine."""
    with second_host(bed) as host:
        yield host


def kill(bed: Bed, name: str) -> None:
    """Kill a process of the agent's, and wait until it is dead."""
    pid = processes(bed, "dconnect")[name]
    os.kill(pid, signal.SIGKILL)
    wait_for(f"{name} is dead", lambda: not Path("/proc", str(pid)).exists(), 5)


def exchange(connection: socket.socket, count: int) -> bytes:
    """Have an echo server send so many bytes back."""
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(connection.sendall, bytes(count))
        received = receive_exactly(connection, count)
        sent.result()
    return received


def test_after_a_kill_of_the_gateway_the_tunnel_heals_and_what_has_left_the_trunk_lives_on(
    bed: Bed, scene: Scene, tun: Tun
) -> None:
    target, address, routes = bed.address_of(scene.plain), tun.address(), tun.routes()
    with bed.host.connect(target, 7, timeout=10) as connection, bed.host.connect(target, 7, timeout=10) as small:
        assert exchange(connection, MOVED) == bytes(MOVED)
        assert echoes(small)
        before = tun.status()["link"]["opened"]
        kill(bed, "agent.gateway")
        took = wait_for("the tunnel is back", lambda: reached(bed, target), HEAL_SECONDS + START_SECONDS)
        print(f"the tunnel was back after {took:.2f} s")
        assert echoes(connection)
        with pytest.raises(ConnectionResetError):
            small.recv(1)
    assert (tun.address(), tun.routes(), tun.status()["link"]["opened"]) == (address, routes, before + 1)


def test_a_kill_of_a_worker_takes_neither_the_link_nor_the_trunk_nor_the_others_connections(
    bed: Bed, scene: Scene, tun: Tun, client: Client
) -> None:
    target, before = bed.address_of(scene.plain), tun.status()["link"]
    with ExitStack() as stack:
        connections = [stack.enter_context(bed.host.connect(target, 7, timeout=10)) for _ in range(20)]
        small = [stack.enter_context(bed.host.connect(target, 7, timeout=10)) for _ in range(20)]
        assert all(exchange(each, MOVED) == bytes(MOVED) for each in connections)
        told = client.own("/api/v1/connections")["connections"]
        others = sum(each["worker"] == 1 for each in told if each["target"] == f"{target}:7")
        assert 0 < others < 20, "both workers take some"
        with pings(bed.host, target):
            kill(bed, "agent.worker 0")
            with bed.host.connect(target, 7, timeout=10) as new:
                assert echoes(new)
        assert sum(map(echoes, connections)) == others
        assert all(map(echoes, small))
    assert tun.status()["link"]["opened"] == before["opened"]


def test_a_kill_of_who_carries_bulk_takes_nothing_else(bed: Bed, scene: Scene, tun: Tun) -> None:
    target, links = bed.address_of(scene.plain), tun.status()["link"]["opened"]
    with bed.host.connect(target, 7, timeout=10) as small, bed.host.connect(target, 7, timeout=10) as bulk:
        assert exchange(bulk, MUCH) == bytes(MUCH)
        assert echoes(small)
        *_, terminal, carrier = tun.processes()
        os.kill(carrier, signal.SIGKILL)
        wait_for("it is gone", lambda: carrier not in tun.processes(), 5)
        assert not echoes(bulk)
        assert echoes(small)
        with bed.host.connect(target, 7, timeout=10) as again:
            assert exchange(again, MUCH) == bytes(MUCH)
            assert echoes(again)
    assert tun.processes()[2] == terminal
    assert tun.status()["link"]["opened"] == links


@pytest.mark.parametrize(
    ("cut", "seconds"), [(faults.cable, faults.CABLE_SECONDS), (faults.pump, faults.STOPPED_SECONDS)]
)
def test_what_is_cut_for_long_heals_at_once(
    bed: Bed, scene: Scene, tun: Tun, cut: Callable[[Outcome, Bed, Tun, float], None], seconds: float
) -> None:
    outcome = Outcome()
    cut(outcome, bed, tun, seconds * faults.SHORT)
    print(outcome.figures)
    assert not outcome.broken()


def test_a_host_keeps_its_address_when_another_comes_first_after_a_restart(
    bed: Bed, scene: Scene, agent: Dconnect, tun: Tun, elsewhere: Namespace
) -> None:
    target, pid = bed.address_of(scene.plain), tun.status()["pid"]
    while tun.address() == FIRST:  # one host in 253 begins to search there
        tun("tun", "down")
        tun.up()
        pid = tun.status()["pid"]
    address = tun.address()
    with stopped(pid):
        bed.docker("restart", "--time=1", "dconnect")
        wait_for("the agent is ready", lambda: bool(agent.status()["tunnel"]["ready"]), 20)
        other = Tunnel(bed, PROXY_PORT, host=elsewhere)
        assert other.config()["addresses"][0] == FIRST
    with other:
        took = wait_for("the tunnel is back", lambda: reached(bed, target), HEAL_SECONDS)
        print(f"the tunnel was back after {took:.2f} s")
        assert tun.address() == address
        with elsewhere.connect(target, 7) as connection:
            assert echoes(connection), "the other host has lost its link"


def test_two_hosts_do_not_harm_one_another(bed: Bed, scene: Scene, tun: Tun, elsewhere: Namespace) -> None:
    target = bed.address_of(scene.plain)
    with traffic(bed.host, target), tunnel_of(bed, elsewhere) as other:
        other.up()
        assert other.address() != tun.address()
        with traffic(elsewhere, target), elsewhere.connect(bed.address_of(scene.web), 7) as connection:
            assert echoes(connection)
        other("tun", "down")
    assert tun.status()["link"]["opened"] == 1
