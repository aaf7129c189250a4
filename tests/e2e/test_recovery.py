"""Whatever dies comes back by itself, and takes nothing with it that it did not hold."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bed.client import Client, receive_exactly
from bed.dconnect import DNS_PORT, PROXY_PORT, Dconnect
from bed.scene import Scene
from bed.session import Bed

BACK_SECONDS = 2.0
"""Service must be back within this, once the lost piece is possible again."""
CONNECTIONS = 40
"""Enough that every worker has some."""


def wait_for(what: str, holds: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds; how long it took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - begun


def processes(bed: Bed, container: str) -> dict[str, int]:
    """Module → PID on this machine, of one of our containers; workers are told apart by their number."""
    found: dict[str, int] = {}
    for line in bed.docker("top", container, "-eo", "pid,args").splitlines()[1:]:
        pid, _, arguments = line.strip().partition(" ")
        words = arguments.split()
        module = words[words.index("-m") + 1] if "-m" in words else arguments
        index = " " + arguments.rpartition(" ")[2].strip("{}") if module.endswith("worker") else ""
        found[module.removeprefix("dconnect.") + index] = int(pid)
    return found


@contextlib.contextmanager
def open_connections(client: Client, agent: Dconnect) -> Iterator[list[socket.socket]]:
    """Connections to an echo server, spread over the workers and known to them."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(CONNECTIONS):
            connection, reply = client.socks("plain", 7)
            stack.enter_context(connection)
            assert reply.code == 0
            connections.append(connection)
        wait_for("all are counted", lambda: sum(open_by_pid(agent).values()) >= CONNECTIONS, 5)
        yield connections


def open_by_pid(agent: Dconnect) -> dict[int, int]:
    return {worker["index"]: worker["open"] for worker in agent.status()["workers"]}


def alive(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"still there?")
        return receive_exactly(connection, 12) == b"still there?"
    except OSError:
        return False


def served(client: Client) -> bool:
    try:
        return client.get("http://plain/").code == 200
    except OSError:
        return False


def answered(bed: Bed, name: str, address: str, transport: str = "+notcp") -> bool:
    words = ["dig", "+short", "+time=1", "+tries=1", transport, "-p", str(DNS_PORT), f"@{bed.address}", name]
    return bed.host.run(words).stdout.strip() == address


def test_a_killed_worker_takes_only_its_own_connections(bed: Bed, agent: Dconnect, client: Client) -> None:
    with open_connections(client, agent) as connections:
        lost = open_by_pid(agent)[0]
        before = processes(bed, "dconnect")
        os.kill(before["agent.worker 0"], signal.SIGKILL)
        # At once and all along, the other worker serves.
        assert served(client)
        wait_for("the worker is back", lambda: back(agent, 0, before["agent.worker 0"]), BACK_SECONDS + 1)
        after = processes(bed, "dconnect")
        assert after["agent.worker 0"] != before["agent.worker 0"]
        assert after["agent.worker 1"] == before["agent.worker 1"]
        dead = [connection for connection in connections if not alive(connection)]
        assert len(dead) <= lost < CONNECTIONS, "a connection of another worker was lost"
        assert dead, "worker 0 had none, so nothing was shown"


def back(agent: Dconnect, index: int, old_pid: int) -> bool:
    return any(worker["index"] == index and worker["serial"] > 0 for worker in agent.status()["workers"])


@pytest.mark.parametrize("both", [0, 1])
def test_when_every_worker_is_killed_clients_wait_and_are_served(
    bed: Bed, agent: Dconnect, client: Client, both: int
) -> None:
    for name, pid in processes(bed, "dconnect").items():
        if name.startswith("agent.worker"):
            os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    assert client.get("http://plain/").code == 200, "the connection was not kept for the next worker"
    assert time.monotonic() - begun < BACK_SECONDS


def test_without_control_names_and_connections_go_on(bed: Bed, scene: Scene, agent: Dconnect, client: Client) -> None:
    with open_connections(client, agent) as connections:
        os.kill(processes(bed, "dconnect")["agent.control"], signal.SIGKILL)
        assert answered(bed, "plain.docker", bed.address_of(scene.plain))
        assert served(client)
        wait_for("control is back", lambda: agent.run("status").returncode == 0, BACK_SECONDS)
        assert all(map(alive, connections))
    bed.target("after-control")
    try:
        wait_for("changes arrive", lambda: client.get("http://after-control/").code == 200, BACK_SECONDS)
    finally:
        bed.docker("rm", "--force", "after-control")


def test_without_the_dialer_connections_go_on_and_it_is_restarted(bed: Bed, agent: Dconnect, client: Client) -> None:
    with open_connections(client, agent) as connections:
        old = processes(bed, "dconnect-dialer")["agent.dialer"]
        os.kill(old, signal.SIGKILL)
        assert served(client), "the pool serves on"
        took = wait_for("the dialer is back", lambda: dialer(bed) not in (None, old), BACK_SECONDS)
        print(f"dialer back after {took:.2f} s")
        assert all(map(alive, connections))
    # More than any pool holds: these sockets are the new dialer's.
    assert [client.socks_code("plain", 7) for _ in range(200)] == [0] * 200
    assert agent.status()["strategy"]["name"] == "engine-netns"


def dialer(bed: Bed) -> int | None:
    try:
        return processes(bed, "dconnect-dialer").get("agent.dialer")
    except Exception:  # noqa: BLE001 - not running at this moment
        return None


def test_a_removed_dialer_is_created_again(bed: Bed, agent: Dconnect, client: Client) -> None:
    bed.docker("rm", "--force", "dconnect-dialer")
    wait_for("the dialer is back", lambda: dialer(bed) is not None, BACK_SECONDS)
    assert [client.socks_code("plain", 7) for _ in range(200)] == [0] * 200


def test_after_a_kill_of_the_whole_agent_the_engine_restarts_it(bed: Bed, agent: Dconnect, client: Client) -> None:
    os.kill(processes(bed, "dconnect")["agent"], signal.SIGKILL)
    wait_for("the agent is back", lambda: served(client), BACK_SECONDS + 3)  # the engine's own restart delay included


@pytest.fixture(scope="module")
def other_bed() -> Iterator[Bed]:
    """An engine that may be stopped."""
    with Bed.start() as bed:
        bed.target("plain", options=["--restart=always"])
        Dconnect(bed).up()
        yield bed


@pytest.mark.parametrize("end", [Bed.stop_engine, Bed.kill_engine])
def test_a_restarted_engine_is_found_again(other_bed: Bed, end: Callable[[Bed], None]) -> None:
    bed, agent, client = other_bed, Dconnect(other_bed), Client(other_bed.host, other_bed.address, PROXY_PORT)
    assert served(client)
    end(bed)
    bed.start_engine()
    wait_for("the engine has restarted its containers", lambda: running(bed), 20)
    bed.wait_ready("plain")
    address = bed.address_of("plain")
    proxy = wait_for("the proxy serves", lambda: served(client), BACK_SECONDS)
    names = wait_for("names are right", lambda: answered(bed, "plain.docker", address), BACK_SECONDS)
    print(f"proxy after {proxy:.2f} s, names after {names:.2f} s")
    assert answered(bed, "plain.docker", address, "+tcp")
    wait_for("the engine is watched", lambda: watching(agent), BACK_SECONDS)
    bed.target("later")
    try:
        wait_for("changes arrive", lambda: client.get("http://later/").code == 200, BACK_SECONDS)
    finally:
        bed.docker("rm", "--force", "later")


def running(bed: Bed) -> bool:
    return {"plain", "dconnect"} <= set(bed.docker("ps", "--format={{.Names}}").split())


def watching(agent: Dconnect) -> bool:
    status: dict[str, Any] = agent.status() if agent.run("status").returncode == 0 else {"engine": {"connected": False}}
    return bool(status["engine"]["connected"])
