"""The trunk, on which a Linux host's small connections share one: what programs feel, and what leaves it."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from bed.client import Client, receive_all, receive_exactly
from bed.dconnect import Dconnect
from bed.namespace import Namespace
from bed.scene import Scene
from bed.session import Bed
from bed.tun import Tun, tunnel_of
from bed.waiting import wait_for
from dconnect.core.limits import TRUNK_BULK_BYTES, TRUNK_DATA_BYTES, TRUNK_STREAM_BYTES

UP = ("--tun",)

ECHO, DISCARD = 7, 9
EDGES = sorted(edge + more for edge in {TRUNK_DATA_BYTES, TRUNK_BULK_BYTES, TRUNK_STREAM_BYTES} for more in (-1, 0, 1))
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def tun(bed: Bed, agent: Dconnect) -> Iterator[Tun]:
    """A tunnel that is up."""
    with tunnel_of(bed) as made:
        made.up()
        yield made


@pytest.fixture
def listener(bed: Bed, scene: Scene) -> Iterator[socket.socket]:
    """A server in a container, which is the test's to lead."""
    with bed.netns_of("plain").socket(socket.AF_INET) as made:
        made.bind(("0.0.0.0", 0))
        made.listen(64)
        made.settimeout(10)
        yield made


def own_connections(host: Namespace) -> int:
    """How many connections to the front door the host has, beside the link and the trunk."""
    found = host.run(["ss", "-tnHO", "state", "established", "( dport = :1080 )"], check=True).stdout.splitlines()
    return len(found) - 2


def say_all(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def echoed(bed: Bed, address: str, data: bytes) -> bytes:
    """What comes back of it, once all was said."""
    with bed.host.connect(address, ECHO, timeout=30) as connection, ThreadPoolExecutor(1) as pool:
        said = pool.submit(say_all, connection, data)
        received = receive_all(connection)
        said.result()
    return received


def test_what_ends_about_the_bound_of_a_stream_arrives_whole(bed: Bed, scene: Scene, tun: Tun) -> None:
    address = bed.address_of("plain")
    for size in (1, *EDGES, 1 << 20):
        data = os.urandom(size)
        assert echoed(bed, address, data) == data, size


def test_many_at_once_of_all_sizes_arrive_whole(bed: Bed, scene: Scene, tun: Tun) -> None:
    address = bed.address_of("plain")
    sizes = [1, 100, 5_000, *EDGES, 100_000, 300_000] * 8

    def is_whole(size: int) -> bool:
        data = os.urandom(size)
        return hashlib.sha256(echoed(bed, address, data)).digest() == hashlib.sha256(data).digest()

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(is_whole, sizes))
    wait_for("nothing is left of them", lambda: own_connections(bed.host) == 0, 10)
    wait_for("and the terminal says so", lambda: tun.status()["connections"] == 0, 5)


def test_small_ones_take_no_connection_to_the_front_door_and_one_that_grows_takes_one(
    bed: Bed, scene: Scene, tun: Tun
) -> None:
    address = bed.address_of("plain")
    with ExitStack() as stack:
        connections = [stack.enter_context(bed.host.connect(address, ECHO)) for _ in range(50)]
        for connection in connections:
            connection.sendall(b"small")
            assert receive_exactly(connection, 5) == b"small"
        assert own_connections(bed.host) == 0
        assert tun.status()["connections"] == len(connections)
        for _ in range(2 * TRUNK_STREAM_BYTES // 1000):  # as a chat would, for days
            connections[0].sendall(bytes(1000))
            assert receive_exactly(connections[0], 1000) == bytes(1000)
        assert own_connections(bed.host) == 1
        assert tun.status()["connections"] == len(connections)


@pytest.mark.parametrize("said", [0, TRUNK_STREAM_BYTES // 4], ids=["at once", "after some bytes"])
def test_a_cut_is_felt_as_a_cut_in_either_direction(bed: Bed, listener: socket.socket, tun: Tun, said: int) -> None:
    address, port = bed.address_of("plain"), listener.getsockname()[1]
    for cut_by in ("container", "host"):
        with bed.host.connect(address, port, timeout=10) as near:
            far = listener.accept()[0]
            with far:
                far.settimeout(10)
                far.sendall(bytes(said))
                near.sendall(bytes(said))
                assert receive_exactly(near, said) == receive_exactly(far, said) == bytes(said)
                cutting, cut = (far, near) if cut_by == "container" else (near, far)
                cutting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                cutting.close()
                with pytest.raises(ConnectionResetError):
                    cut.recv(1)


@pytest.mark.parametrize("size", [1000, 10 * TRUNK_STREAM_BYTES])
def test_whoever_says_its_end_first_still_hears_all(bed: Bed, listener: socket.socket, tun: Tun, size: int) -> None:
    data = os.urandom(size)
    with (
        bed.host.connect(bed.address_of("plain"), listener.getsockname()[1], timeout=10) as near,
        listener.accept()[0] as far,
        ThreadPoolExecutor(1) as pool,
    ):
        far.settimeout(10)
        near.sendall(b"all of it, please")
        near.shutdown(socket.SHUT_WR)
        assert receive_all(far) == b"all of it, please"
        said = pool.submit(say_all, far, data)
        assert receive_all(near) == data
        said.result()


def test_whoever_does_not_read_keeps_nobody_waiting(bed: Bed, listener: socket.socket, tun: Tun) -> None:
    address, port = bed.address_of("plain"), listener.getsockname()[1]
    data = os.urandom(4 << 20)
    with bed.host.connect(address, port, timeout=30) as near, listener.accept()[0] as far:
        far.settimeout(30)
        with ThreadPoolExecutor(1) as pool:
            said = pool.submit(say_all, far, data)
            for size in (1, 100_000):
                assert len(echoed(bed, address, bytes(size))) == size
            assert receive_all(near) == data
            said.result()


def test_urgent_data_comes_in_line(bed: Bed, listener: socket.socket, tun: Tun) -> None:
    address, port = bed.address_of("plain"), listener.getsockname()[1]
    with bed.host.connect(address, port, timeout=10) as near, listener.accept()[0] as far:
        far.settimeout(10)
        near.sendall(b"before")
        assert receive_exactly(far, 6) == b"before"
        near.send(b"!", socket.MSG_OOB)
        near.sendall(b"after")
        assert receive_exactly(far, 6) == b"!after"


def test_what_is_open_is_told_and_what_has_ended_is_in_the_log_once(
    bed: Bed, scene: Scene, agent: Dconnect, tun: Tun, client: Client
) -> None:
    target = f"{bed.address_of('plain')}:{ECHO}"
    before = len(agent.sessions(target))
    with (
        bed.host.connect(bed.address_of("plain"), ECHO) as small,
        bed.host.connect(bed.address_of("plain"), ECHO) as big,
    ):
        small.sendall(b"12345")
        assert receive_exactly(small, 5) == b"12345"
        for _ in range(64):
            big.sendall(bytes(1000))
            receive_exactly(big, 1000)
        told = client.own("/api/v1/connections")["connections"]
        found = sorted((each["bytes_up"], each["bytes_down"]) for each in told if each["target"] == target)
        assert found == [(5, 5), (64_000, 64_000)]
        assert [each["front"] for each in told].count("trunk") == 1
    wait_for("both are in the log", lambda: len(agent.sessions(target)) >= before + 2, 5)
    lines = agent.sessions(target)[before:]
    assert sorted((line["front"], line["outcome"], line["bytes_up"], line["bytes_down"]) for line in lines) == [
        ("tunnel", "ok", 5, 5),
        ("tunnel", "ok", 64_000, 64_000),
    ]


def test_a_closed_port_and_a_dead_address_are_told_on_it_as_they_are(bed: Bed, scene: Scene, tun: Tun) -> None:
    with pytest.raises(ConnectionRefusedError):
        bed.host.connect(bed.address_of("plain"), 81)
    with pytest.raises(OSError) as error:  # noqa: PT011 - its errno is the answer
        bed.host.connect("172.17.255.9", 80, timeout=10)
    assert error.value.errno == errno.EHOSTUNREACH
