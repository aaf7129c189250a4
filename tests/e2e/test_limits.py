"""Full doors, no descriptors, the end of an agent: in the container, and on a machine with a low limit."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bed.client import Client, receive_all, receive_exactly
from bed.dconnect import PROXY_PORT, Dconnect
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for
from dconnect.core.limits import DRAIN_SECONDS, HANDSHAKE_SECONDS

SLOW = 500
"""Clients that begin a handshake and never end it."""
SOON = 2.0
"""Seconds within which a normal request is answered meanwhile, on a busy machine; nobody's deadline is that short."""
PORT, DNS_PORT = 2080, 2053
PLACES = 16
"""Clients that a worker takes at least, however few its descriptors are."""


@contextlib.contextmanager
def slow_clients(client: Client, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        said = (b"\x05", b"\x05\x01\x00", b"GET http://plain/ HTTP/1.1\r\nHost: ", b"CONNECT plain:80 HT")
        made = []
        for number in range(count):
            connection = stack.enter_context(client.open())
            connection.sendall(said[number % len(said)])
            made.append(connection)
        yield made


def counted(client: Client) -> int:
    status = client.own("/api/v1/status")
    return sum(worker["open"] for worker in status["workers"]) if status else 0


def test_slow_clients_do_not_delay_a_request(client: Client, scene: Scene) -> None:
    with slow_clients(client, SLOW):
        wait_for("they are in", lambda: counted(client) >= SLOW, HANDSHAKE_SECONDS)
        for _ in range(20):
            begun = time.monotonic()
            assert client.get("http://plain/").code == 200
            assert time.monotonic() - begun < SOON


# -- a machine with few descriptors ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Foreground:
    """An agent in the engine's namespace."""

    process: subprocess.Popen[bytes]
    client: Client
    file: Path

    def log(self, event: str) -> list[dict[str, Any]]:
        lines = self.file.read_text().splitlines()
        return [found for line in lines if (found := json.loads(line))["event"].startswith(event)]


@contextlib.contextmanager
def foreground(bed: Bed, folder: Path, descriptors: int) -> Iterator[Foreground]:
    """``dconnect agent`` with so many descriptors for each of its processes."""
    file = folder / "log"
    words = Dconnect(bed).command("agent", f"--port={PORT}", f"--dns-port={DNS_PORT}")
    with file.open("wb") as log:
        process = bed.engine_netns.popen(["prlimit", f"--nofile={descriptors}", *words], stderr=log)
    client = Client(bed.engine_netns, "127.0.0.1", PORT)

    def ready() -> bool:
        assert process.poll() is None, file.read_text()
        try:
            return client.own("/healthz") is not None
        except OSError:
            return False

    try:
        wait_for("the agent is ready", ready, 10)
        yield Foreground(process, client, file)
    finally:
        process.terminate()
        process.communicate(timeout=15)


def test_workers_full_of_silent_clients_serve_everybody_else(bed: Bed, scene: Scene, tmp_path: Path) -> None:
    with foreground(bed, tmp_path, 256) as agent, slow_clients(agent.client, SLOW):
        for _ in range(20):
            begun = time.monotonic()
            assert agent.client.get("http://plain/").code == 200
            assert time.monotonic() - begun < SOON
        wait_for("all but the last are told", lambda: len(agent.log("session")) >= SLOW - 2 * PLACES, 5)
        assert {line["outcome"] for line in agent.log("session")} == {"crowded", "ok"}


def test_full_workers_leave_clients_to_each_other_and_then_let_them_wait(
    bed: Bed, scene: Scene, tmp_path: Path
) -> None:
    with foreground(bed, tmp_path, 256) as agent, contextlib.ExitStack() as stack:
        # More than one worker takes, however the first ones are spread; as many as both take together.
        relays = [stack.enter_context(agent.client.socks("plain", 7)[0]) for _ in range(2 * PLACES)]
        wait_for("all are counted", lambda: _open(agent, bed) == [PLACES, PLACES], 5)
        late = stack.enter_context(agent.client.open())
        late.sendall(b"\x05\x01\x00")
        wait_for("the log tells it", lambda: len(agent.log("clients wait")) >= 1, 5)
        for number, relay in enumerate(relays):
            relay.sendall(b"%04d" % number)
            assert receive_exactly(relay, 4) == b"%04d" % number
        relays[0].close()
        assert receive_exactly(late, 2) == b"\x05\x00"


def _open(agent: Foreground, bed: Bed) -> list[int]:
    """Connections that each worker has, told by the kernel: there is no room left to ask."""
    pids = bed.host.run(["pgrep", "--parent", str(agent.process.pid), "--full", "agent.worker"]).stdout.split()
    table = bed.engine_netns.run(["ss", "-tnpH", "state", "established", f"( sport = :{PORT} )"], check=True).stdout
    return sorted(table.count(f"pid={pid},") for pid in pids)


def test_without_descriptors_relays_go_on_and_others_are_served_afterwards(
    bed: Bed, scene: Scene, tmp_path: Path
) -> None:
    with foreground(bed, tmp_path, 40) as agent, contextlib.ExitStack() as stack:
        relays, refused = [], 0
        while not agent.log("clients wait"):
            connection = stack.enter_context(agent.client.open())
            connection.sendall(b"\x05\x01\x00\x05\x01\x00\x03\x05plain\x00\x07")
            connection.settimeout(0.5)
            with contextlib.suppress(OSError):
                answer = receive_exactly(connection, 12)
                if answer[3:4] == b"\x00":
                    relays.append(connection)
                else:
                    refused += 1  # there was room for its socket, and for no second one
            assert len(relays) < 2 * PLACES
        assert relays
        for relay in relays:
            relay.sendall(b"go on")
            assert receive_exactly(relay, 5) == b"go on"
        assert "descriptors" in agent.log("clients wait")[0]["reason"]
        time.sleep(1)  # ten retries
        assert len(agent.log("clients wait")) <= 2, "not once for each worker"
        stack.close()
        # A relay's descriptors come back when its container has ended the connection too.
        wait_for("others are served", lambda: agent.client.get("http://plain/").code == 200, SOON)
        wait_for("relief is told", lambda: len(agent.log("the front door takes")) >= 1, 15)
        assert not agent.log("unexpected")
        assert not agent.log("process died")


# -- no limit of time -----------------------------------------------------------------------------


def test_an_idle_connection_is_watched_by_the_kernel_on_both_sides_and_by_nobody_else(
    bed: Bed, scene: Scene, client: Client
) -> None:
    relay, reply = client.socks("plain", 7)
    with relay:
        assert reply.code == 0
        ss = ["ss", "-tnoH", "state", "established"]
        front = [*ss, f"( dport = :{relay.getsockname()[1]} )"]
        back = [*ss, f"( dst {bed.address_of(scene.plain)} and dport = :7 )"]

        def watched() -> bool:  # once all that was sent is acknowledged
            sides = ((bed.netns_of("dconnect"), front), (bed.engine_netns, back))
            tables = [netns.run(words, check=True).stdout for netns, words in sides]
            return [table.count("timer:(keepalive,") for table in tables] == [1, 1]

        wait_for("the kernel watches both", watched, 5)


def test_idle_connections_are_not_probed_all_at_once(bed: Bed, scene: Scene, client: Client) -> None:
    """Bursts of probes are lost, and what else comes at that moment is lost with them."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(10):
            relay, reply = client.socks("plain", 7)
            stack.enter_context(relay)
            assert reply.code == 0
            ports.append(relay.getsockname()[1])
        agent = bed.netns_of("dconnect")

        def seconds() -> list[str]:
            table = agent.run(["ss", "-tnoH", "state", "established"], check=True).stdout.splitlines()
            lines = [line for line in table if line.split()[3].rpartition(":")[2] in map(str, ports)]
            return re.findall(r"timer:\(keepalive,([\w.]+?sec|[\d:]+)", "\n".join(lines))

        wait_for("the kernel watches all", lambda: len(seconds()) == len(ports), 5)
        assert len(set(seconds())) >= len(ports) // 2, "each worker has its own turns, two may coincide"


# -- the end of an agent -------------------------------------------------------------------------


@pytest.fixture
def own_agent(bed: Bed, scene: Scene) -> Iterator[Dconnect]:
    """An agent that a test may end."""
    dconnect = Dconnect(bed)
    dconnect.up()
    try:
        yield dconnect
    finally:
        dconnect.down()


def test_down_lets_connections_finish_and_tells_the_rest_by_reset(own_agent: Dconnect, bed: Bed) -> None:
    client = Client(bed.host, bed.address, PROXY_PORT)
    finishing, _ = client.socks("plain", 7)
    staying, _ = client.socks("plain", 7)
    idle = client.open()
    idle.sendall(b"GET http://plain/ HTTP/1.1\r\nHost: plain\r\n\r\n")
    assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    ending = threading.Thread(target=own_agent.down)
    begun = time.monotonic()
    ending.start()
    assert receive_all(idle)[-1:] in (b"", b"\n"), "an idle client is let go with FIN"
    assert time.monotonic() - begun < DRAIN_SECONDS, "it was let go only at the end"
    finishing.sendall(b"last words")
    finishing.shutdown(socket.SHUT_WR)
    assert receive_all(finishing) == b"last words"
    with pytest.raises(ConnectionResetError):
        receive_all(staying)
    ending.join(30)
    for connection in (finishing, staying, idle):
        connection.close()
