"""SOCKS5 UDP ASSOCIATE, from the host that cannot route, however the engine publishes ports.

Behind docker-proxy, and behind every desktop's relay, each client is the bridge's gateway with a port of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bed.client import Association, Client, receive_all
from bed.dconnect import DNS_PORT, PROXY_PORT, Dconnect
from bed.namespace import Namespace
from bed.processes import processes
from bed.session import Bed
from bed.waiting import wait_for

ECHO, CROOKED_ECHO, DNS = 7, 17, 53
MANY = 24
"""Enough that every worker accepts some."""
FORWARDER = """
import socket, sys
import socks
proxy, port, server = sys.argv[1:]
front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
front.bind(("127.0.0.1", 0))
way = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
way.set_proxy(socks.SOCKS5, proxy, int(port), rdns=True)
print(front.getsockname()[1], flush=True)
while True:
    query, asker = front.recvfrom(65535)
    way.sendto(query, (server, 53))
    front.sendto(way.recvfrom(65535)[0], asker)
"""
"""A name server on the host whose answers come from a container, by way of PySocks."""


@dataclass(frozen=True, slots=True)
class Way:
    """An agent, and somebody who reaches its published ports."""

    bed: Bed
    user: Namespace
    client: Client
    agent: Dconnect | None
    """None when it is embedded, and its log is at hand only at its end."""
    seen_as: str
    """The user's address as the agent sees it."""
    bound: str
    """BND.ADDR."""
    workers: int = 2

    @contextlib.contextmanager
    def association(self, timeout: float = 5) -> Iterator[Association]:
        made = self.client.associate(timeout)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module", params=["iptables", "docker-proxy", "embedded, one worker"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    with contextlib.ExitStack() as stack:
        if request.param == "docker-proxy":  # without the rules that would pass it by
            bed = stack.enter_context(Bed.start(engine_flags=["--iptables=false"]))
        else:
            bed = request.getfixturevalue("bed")
        bed.docker("network", "create", "udp_net")
        stack.callback(bed.docker, "network", "rm", "udp_net")
        for name, network in (("near", None), ("far", "udp_net")):
            bed.target(name, network=network)
            stack.callback(bed.docker, "rm", "--force", name)
        if request.param.startswith("embedded"):
            yield stack.enter_context(_embedded(bed))
            return
        dconnect = Dconnect(bed)
        stack.callback(dconnect.down)
        dconnect.up("--deny=far")
        client = Client(bed.host, bed.address, PROXY_PORT)
        seen_as = bed.host.address if request.param == "iptables" else "172.17.0.1"
        yield Way(bed, bed.host, client, dconnect, seen_as, bed.address)


@contextlib.contextmanager
def _embedded(bed: Bed) -> Iterator[Way]:
    port, dns_port = PROXY_PORT + 1000, DNS_PORT + 1000
    command = Dconnect(bed).command("agent", f"--port={port}", f"--dns-port={dns_port}", "--deny=far")
    process = bed.engine_netns.popen(["taskset", "--cpu-list", "0", *command])
    client = Client(bed.engine_netns, "127.0.0.1", port)

    def ready() -> bool:
        assert process.poll() is None
        with contextlib.suppress(OSError):
            return client.own("/healthz") is not None
        return False

    try:
        wait_for("the agent is ready", ready, 10)
        yield Way(bed, bed.engine_netns, client, None, "127.0.0.1", "127.0.0.1", workers=1)
    finally:
        process.terminate()
        process.communicate(timeout=15)


@pytest.mark.parametrize("name", ["near", "far.docker"])
@pytest.mark.parametrize("size", [1, 1200, 8000])
def test_datagrams_come_back_whole_with_their_true_source(way: Way, name: str, size: int) -> None:
    address = way.bed.address_of(name.partition(".")[0])
    payload = os.urandom(size)
    with way.association() as association:
        assert association.relay[0] == way.bound
        for host in (name, address):
            association.send(host, ECHO, payload)
            assert association.receive() == (address, ECHO, payload)


@pytest.mark.parametrize("server", ["near", "far.docker"])
def test_dig_asks_a_container_by_way_of_pysocks(way: Way, server: str) -> None:
    proxy, port = way.client.address
    program = way.user.popen([sys.executable, "-c", FORWARDER, proxy, str(port), server])
    try:
        assert program.stdout is not None
        here = program.stdout.readline().decode().strip()
        for name in ("one.example", "two.example"):
            words = ["dig", "+short", "+tries=1", "+time=5", "-p", here, "@127.0.0.1", name]
            assert way.user.run(words, check=True).stdout == "192.0.2.53\n"
    finally:
        program.kill()
        program.communicate()


def test_many_programs_of_one_host_have_each_their_own_answers(way: Way) -> None:
    with contextlib.ExitStack() as stack:
        associations = [stack.enter_context(way.association()) for _ in range(MANY)]
        for turn in range(3):
            for number, association in enumerate(reversed(associations)):
                association.send("near", ECHO, b"%d %d" % (number, turn))
            for number, association in enumerate(reversed(associations)):
                assert association.receive()[2] == b"%d %d" % (number, turn)
        wait_for("every worker has accepted some", lambda: all(each["accepted"] for each in _workers(way)), 5)
        assert len(_workers(way)) == way.workers
        wait_for("all are counted once", lambda: _workers(way)[0]["open"] == MANY, 5)
        told = way.client.own("/api/v1/connections")["connections"]
        mine = [each for each in told if each["front"] == "associate"]
        assert len(mine) == MANY
        assert {each["worker"] for each in mine} == {0}
        assert {each["peer"].rpartition(":")[0] for each in mine} == {way.seen_as}


def test_one_program_speaks_to_many_at_once(way: Way) -> None:
    addresses = {way.bed.address_of(name) for name in ("near", "far")}
    with way.association() as association:
        for address in addresses:
            association.send(address, ECHO, address.encode())
        answers = {association.receive() for _ in addresses}
    assert answers == {(address, ECHO, address.encode()) for address in addresses}


def test_an_answer_from_another_source_is_dropped(way: Way) -> None:
    with way.association(timeout=1) as association:
        association.send("near", CROOKED_ECHO, b"crooked")
        with pytest.raises(TimeoutError):
            association.receive()
        association.send("near", ECHO, b"straight")
        assert association.receive()[2] == b"straight"
        port = association.tcp.getsockname()[1]
    _told_of(way, port, {"stranger": 1}, (15, 8))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("169.254.169.254", "policy"),
        ("127.0.0.1", "policy"),
        ("172.17.0.1", "policy"),
        ("::1", "policy"),
        ("::ffff:127.0.0.1", "policy"),
        ("0.0.0.0", "policy"),
        ("172.17.255.255", "policy"),
        ("far", "policy"),  # --deny=far
        ("far..", "policy"),  # by whatever name
        ("dconnect.docker", "refused"),
        ("nobody.docker", "name_unknown"),
    ],
)
def test_what_is_out_of_bounds_is_refused(way: Way, host: str, reason: str) -> None:
    with way.association(timeout=1) as association:
        association.send(host, ECHO, b"?")
        association.send("near", ECHO, b"!")
        assert association.receive()[2] == b"!"
        with pytest.raises(TimeoutError):
            association.receive()
        port = association.tcp.getsockname()[1]
    _told_of(way, port, {reason: 1}, (1, 1))


def test_the_engines_own_address_is_refused(way: Way) -> None:
    with way.bed.engine_netns.socket(kind=2) as own, way.association() as association:
        own.bind((way.bed.address, 0))
        own.settimeout(0.5)
        for address in (way.bed.address, "127.0.0.1"):
            association.send(address, own.getsockname()[1], b"?")
        association.send("near", ECHO, b"!")
        assert association.receive()[2] == b"!"
        with pytest.raises(TimeoutError):
            own.recv(10)


def test_the_association_ends_with_its_tcp_connection(way: Way) -> None:
    with way.association(timeout=1) as association:
        association.send("near", ECHO, b"hello")
        assert association.receive()[2] == b"hello"
        port = association.tcp.getsockname()[1]
        association.tcp.close()
        _told_of(way, port, {}, (5, 5))
        wait_for("it is listed no more", lambda: not _listed(way), 5)
        association.send("near", ECHO, b"too late")
        with pytest.raises(TimeoutError):
            association.receive()


def test_a_killed_worker_ends_associations_and_its_successor_makes_new_ones(way: Way) -> None:
    if way.agent is None:
        pytest.skip("its processes are not told apart")
    with way.association() as association:
        association.send("near", ECHO, b"before")
        assert association.receive()[2] == b"before"
        os.kill(processes(way.bed, "dconnect")["agent.worker 0"], signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert receive_all(association.tcp) == b""

    def echoes() -> bool:
        with contextlib.suppress(AssertionError, OSError), way.association(timeout=1) as again:
            again.send("near", ECHO, b"after")
            return again.receive()[2] == b"after"
        return False

    wait_for("associations are made again", echoes, 10)
    for _ in range(MANY):  # from the worker that lived on, too
        assert echoes()


def test_down_closes_associations_at_once(way: Way) -> None:
    if way.agent is None:
        pytest.skip("the fixture ends it")
    with way.association() as association:
        association.send("near", ECHO, b"hello")
        assert association.receive()[2] == b"hello"
        begun = time.monotonic()
        way.agent.down()
        assert receive_all(association.tcp) == b""
        assert time.monotonic() - begun < 4, "it waited for datagrams to end"


def _workers(way: Way) -> list[dict[str, Any]]:
    """What each says of itself, the first one first."""
    status = way.client.own("/api/v1/status")
    return sorted(status["workers"], key=lambda each: int(each["index"]))


def _listed(way: Way) -> list[str]:
    told = way.client.own("/api/v1/connections")["connections"]
    return [each["peer"] for each in told if each["front"] == "associate"]


def _told_of(way: Way, port: int, dropped: dict[str, int], moved: tuple[int, int]) -> None:
    """The log's line about an association; only where the agent sees the client's port can it be told by that."""
    if way.agent is None:
        return
    agent = way.agent

    def lines() -> list[dict[str, object]]:
        found = [line for line in agent.log() if line["event"] == "session" and line["front"] == "associate"]
        return [line for line in found if way.seen_as != way.user.address or str(line["peer"]).endswith(f":{port}")]

    def told() -> bool:
        last = lines()[-1:]
        return bool(last) and (
            last[0].get("dropped", {}) == dropped and (last[0]["bytes_up"], last[0]["bytes_down"]) == moved
        )

    try:
        wait_for("the session is logged", told, 5)
    except AssertionError:
        raise AssertionError(lines()[-1:]) from None
