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
from bed.processes import processes
from bed.scene import Scene
from bed.session import Bed
from bed.tun import Tun, tunnel_of
from bed.waiting import wait_for
from dconnect.core.limits import DIALER_BATCH
from soak.faults import reached

BACK_SECONDS = 2.0
"""Service must be back within this, once the lost piece is possible again."""
ENGINE_RESTART_SECONDS = 2.0
"""What the engine itself takes to notice that a container has ended, wait 100 ms, and start it again."""
WORKERS = 2
SPARE = "10.86.0.77"
CONNECTIONS = 40
"""Enough that every worker has some."""


@contextlib.contextmanager
def open_connections(client: Client) -> Iterator[list[socket.socket]]:
    """Connections to an echo server, spread over the workers and known to them."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(CONNECTIONS):
            connection, reply = client.socks("plain", 7)
            stack.enter_context(connection)
            assert reply.code == 0
            connections.append(connection)
        wait_for("all are counted", lambda: sum(each["open"] for each in reports(client).values()) >= CONNECTIONS, 5)
        yield connections


def reports(client: Client) -> dict[int, dict[str, Any]]:
    """What each worker says of itself, by its number; its pid is that inside the container."""
    try:
        status = client.own("/api/v1/status")
    except OSError:
        status = None
    return {each["index"]: each for each in (status or {"workers": ()})["workers"]}


def alive(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"still there?")
        return receive_exactly(connection, 12) == b"still there?"
    except OSError:
        return False


def served(client: Client, name: str = "plain") -> bool:
    try:
        return client.get(f"http://{name}/").code == 200
    except OSError:
        return False


def answered(bed: Bed, name: str, address: str, transport: str = "+notcp") -> bool:
    words = ["dig", "+short", "+time=1", "+tries=1", transport, "-p", str(DNS_PORT), f"@{bed.address}", name]
    return bed.host.run(words).stdout.strip() == address


def test_a_killed_worker_takes_only_its_own_connections(bed: Bed, client: Client) -> None:
    with open_connections(client) as connections:
        lost = reports(client)[0]
        before = processes(bed, "dconnect")
        os.kill(before["agent.worker 0"], signal.SIGKILL)
        killed = time.monotonic()
        # At once and all along, the other worker serves.
        assert served(client)

        def back() -> bool:
            report = reports(client).get(0)  # the dead one's may still be there
            return report is not None and report["pid"] != lost["pid"] and report["serial"] > 0

        wait_for("the worker is back", back, BACK_SECONDS - (time.monotonic() - killed))
        after = processes(bed, "dconnect")
        assert after["agent.worker 0"] != before["agent.worker 0"]
        assert after["agent.worker 1"] == before["agent.worker 1"]
        dead = [connection for connection in connections if not alive(connection)]
        assert len(dead) <= lost["open"] < CONNECTIONS, "a connection of another worker was lost"
        assert dead, "worker 0 had none, so nothing was shown"


def test_when_every_worker_is_killed_clients_wait_and_are_served(bed: Bed, client: Client) -> None:
    for name, pid in processes(bed, "dconnect").items():
        if name.startswith("agent.worker"):
            os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    assert client.get("http://plain/").code == 200, "the connection was not kept for the next worker"
    assert time.monotonic() - begun < BACK_SECONDS


def test_without_control_names_and_connections_go_on(bed: Bed, scene: Scene, client: Client) -> None:
    with open_connections(client) as connections:
        os.kill(processes(bed, "dconnect")["agent.control"], signal.SIGKILL)
        killed = time.monotonic()
        assert answered(bed, "plain.docker", bed.address_of(scene.plain))
        assert served(client)
        wait_for("control is back", lambda: watching(client), BACK_SECONDS - (time.monotonic() - killed))
        assert all(map(alive, connections))
    bed.target("after-control")
    try:
        wait_for("changes arrive", lambda: client.get("http://after-control/").code == 200, BACK_SECONDS)
    finally:
        bed.docker("rm", "--force", "after-control")


def test_without_the_dialer_connections_go_on_and_it_is_restarted(bed: Bed, client: Client) -> None:
    with open_connections(client) as connections:
        os.kill(processes(bed, "dconnect-dialer")["agent.dialer"], signal.SIGKILL)
        took = new_sockets(client)
        print(f"the new dialer's sockets served after {took:.2f} s")
        assert all(map(alive, connections))
    assert client.own("/api/v1/status")["strategy"]["name"] == "engine-netns"


def test_a_removed_dialer_is_created_again(bed: Bed, client: Client) -> None:
    bed.docker("rm", "--force", "dconnect-dialer")
    took = new_sockets(client)
    print(f"the new dialer's sockets served after {took:.2f} s")


def new_sockets(client: Client) -> float:
    """Dial more often than the workers' pools allow, so that the last sockets are a new dialer's; how long it took."""
    begun = time.monotonic()
    for number in range(2 * WORKERS * DIALER_BATCH + 1):
        code = client.socks_code("plain", 7)
        assert code == 0, f"dial {number} was refused with {code} after {time.monotonic() - begun:.2f} s"
    took = time.monotonic() - begun
    assert took < BACK_SECONDS
    return took


def test_after_a_kill_of_the_whole_agent_the_engine_restarts_it(bed: Bed, client: Client) -> None:
    os.kill(processes(bed, "dconnect")["agent"], signal.SIGKILL)
    took = wait_for("the agent is back", lambda: served(client), BACK_SECONDS + ENGINE_RESTART_SECONDS)
    print(f"the agent served after {took:.2f} s")


@pytest.fixture(scope="module")
def other_bed() -> Iterator[Bed]:
    """An engine that may be stopped."""
    with Bed.start() as bed:
        bed.target("plain", options=["--restart=always"])
        Dconnect(bed).up("--tun")
        yield bed


@pytest.fixture
def tun(other_bed: Bed) -> Iterator[Tun]:
    """A tunnel of its host's."""
    with tunnel_of(other_bed) as made:
        made.up()
        yield made


@pytest.mark.parametrize("end", [Bed.stop_engine, Bed.kill_engine])
def test_a_restarted_engine_is_found_again(other_bed: Bed, tun: Tun, end: Callable[[Bed], None]) -> None:
    bed, client = other_bed, Client(other_bed.host, other_bed.address, PROXY_PORT)
    assert served(client)
    routes, own = tun.routes(), tun.address()
    end(bed)
    assert tun.routes() == routes
    bed.start_engine()
    wait_for("the engine has restarted its containers", lambda: running(bed), 20)
    bed.wait_ready("plain")
    address = bed.address_of("plain")
    proxy = wait_for("the proxy serves", lambda: served(client), BACK_SECONDS)
    names = wait_for("names are right", lambda: answered(bed, "plain.docker", address), BACK_SECONDS)
    tunnel = wait_for("the tunnel is back", lambda: reached(bed, address), BACK_SECONDS)
    print(f"proxy after {proxy:.2f} s, names after {names:.2f} s, tunnel after {tunnel:.2f} s")
    assert (tun.routes(), tun.address()) == (routes, own)
    assert answered(bed, "plain.docker", address, "+tcp")
    wait_for("the engine is watched", lambda: watching(client), BACK_SECONDS)
    bed.target("later")
    try:
        wait_for("changes arrive", lambda: client.get("http://later/").code == 200, BACK_SECONDS)
    finally:
        bed.docker("rm", "--force", "later")


def running(bed: Bed) -> bool:
    return {"plain", "dconnect"} <= set(bed.docker("ps", "--format={{.Names}}").split())


def watching(client: Client) -> bool:
    try:
        status = client.own("/api/v1/status")
    except OSError:
        return False
    return bool(status and status["engine"]["connected"])


@pytest.fixture
def lasting_bed() -> Iterator[Bed]:
    """An engine whose containers live on without it, ours too (``live-restore``)."""
    with Bed.start(engine_flags=["--live-restore"]) as bed:
        Dconnect(bed).up()
        yield bed


def test_while_the_engine_is_away_names_are_the_last_known_ones_and_status_says_so(lasting_bed: Bed) -> None:
    bed, client = lasting_bed, Client(lasting_bed.host, lasting_bed.address, PROXY_PORT)
    dconnect = Dconnect(bed)
    addresses = {}
    bed.docker("network", "create", "--subnet=10.86.0.0/24", "spare")
    for name in ("kept", "dying", "leaving"):
        bed.target(name)
        addresses[name] = bed.address_of(name)
    pids = {name: bed.inspect(name)["State"]["Pid"] for name in addresses}
    wait_for("names are known", lambda: answered(bed, "leaving.docker", addresses["leaving"]), BACK_SECONDS)
    assert not dconnect.status()["inventory"]["stale"]

    bed.kill_engine()
    wait_for("the loss is seen", lambda: not watching(client), BACK_SECONDS)
    for name, address in addresses.items():
        for transport in ("+notcp", "+tcp"):
            assert answered(bed, f"{name}.docker", address, transport)
    assert served(client, "kept")
    status = dconnect.status()
    assert (status["engine"]["connected"], status["inventory"]["stale"]) == (False, True)
    text = dconnect("status")
    assert "NOT CONNECTED" in text
    assert "NOT UP TO DATE" in text
    assert dconnect("dns", "kept").split() == [addresses["kept"]]

    # What dies while nobody looks; what comes, changes and goes at once when the engine is back.
    os.kill(pids["dying"], signal.SIGKILL)
    bed.start_engine()
    took = wait_for("the dead one's name is gone", lambda: answered(bed, "dying.docker", ""), BACK_SECONDS)
    print(f"names were right {took:.2f} s after the engine answered")
    bed.docker("rm", "--force", "leaving")
    bed.docker("run", "--detach", "--name=leaving", f"--ip={SPARE}", "--network=spare", bed.busybox_image)
    bed.docker("rename", "kept", "renamed")
    changed = time.monotonic()
    for name, address in {"leaving": SPARE, "renamed": addresses["kept"], "kept": "", "dying": ""}.items():
        left = changed + BACK_SECONDS - time.monotonic()
        wait_for(name, lambda: answered(bed, f"{name}.docker", address), left)  # noqa: B023 - called here
    status = dconnect.status()
    assert (status["engine"]["connected"], status["inventory"]["stale"]) == (True, False)
    assert "NOT" not in dconnect("status")


def test_changes_that_control_slept_through_are_known_when_it_wakes(bed: Bed, scene: Scene, client: Client) -> None:
    old, address = bed.target("slept-on"), bed.address_of("slept-on")
    wait_for("the name is known", lambda: answered(bed, "slept-on.docker", address), BACK_SECONDS)
    control = processes(bed, "dconnect")["agent.control"]
    os.kill(control, signal.SIGSTOP)
    try:
        bed.docker("rename", "slept-on", "woken")
        bed.docker("run", "--detach", "--name=slept-on", bed.busybox_image)
        new = bed.address_of("slept-on")
        assert answered(bed, "slept-on.docker", address), "without control the last inventory is served"
    finally:
        os.kill(control, signal.SIGCONT)
    try:
        took = wait_for("the name's new owner", lambda: answered(bed, "slept-on.docker", new), BACK_SECONDS)
        wait_for("the old one's new name", lambda: answered(bed, "woken.docker", address), BACK_SECONDS - took)
    finally:
        bed.docker("rm", "--force", "slept-on", old)
