"""``tun up`` for real programs: they know nothing of us, and feel what they would feel beside the containers."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bed.client import receive_all
from bed.clients import needs, talk
from bed.daemons import IPERF_PORT, REDIS_PORT, STORE, daemons_image, move_slots, redirections, redis_cli, redis_cluster
from bed.dconnect import Dconnect
from bed.namespace import Namespace
from bed.resolvers import Resolving
from bed.scene import Scene
from bed.session import Bed
from bed.target_server import BLOCK
from bed.tun import Tun, tunnel_of
from dconnect.agent.labels import TUN_NAME

UP = ("--tun",)

PROGRAMS = Path(__file__).parent / "programs"
BEYOND, THERE = "198.51.100.0/24", "198.51.100.9"
"""Not the engine's, but routed to it by ``--include``."""
OWN = "10.213.0.1"
GIBIBYTE = 1 << 30
UDP_LOSS_PERCENT = 1.0
"""At a rate that a loaded machine keeps up with; what is lost is lost in a full socket's buffer."""
SLOTS = 500

pytestmark = [needs("redis-tools", "redis-cli"), needs("iperf3", "iperf3")]


@pytest.fixture(scope="module")
def image(bed: Bed) -> str:
    return daemons_image(bed)


@pytest.fixture(scope="module")
def store(bed: Bed, scene: Scene, image: str) -> Iterator[str]:
    """redis and iperf3, on three kinds of network."""
    container = bed.docker("run", "--detach", "--name=store", "--network=six_net", image, "sh", "-c", STORE)
    for network in ("bridge", "vault_net"):
        bed.docker("network", "connect", network, container)
    for port in (REDIS_PORT, IPERF_PORT):
        bed.wait_ready(container, port)
    yield container
    bed.docker("rm", "--force", container)


@pytest.fixture(scope="module", params=[[], ["--packets"]], ids=["TCP as bytes", "TCP as packets"])
def tun(request: pytest.FixtureRequest, bed: Bed, agent: Dconnect, store: str) -> Iterator[Tun]:
    """The tunnel, up; and that the host is afterwards as it was."""
    with tunnel_of(bed) as made:
        made.up(f"--include={BEYOND}", *request.param)
        yield made


@pytest.fixture(scope="module", params=["the engine's own rules", "engine 28's rules"])
def rules(request: pytest.FixtureRequest, bed: Bed, tun: Tun) -> Iterator[None]:
    if request.param == "engine 28's rules":
        with bed.imitate_engine_28():
            yield
    else:
        yield


class Place(NamedTuple):
    """A kind of network, and the container that is there beside the store."""

    container: str
    network: str
    version: int


PLACES = [Place("plain", "bridge", 4), Place("vault", "vault_net", 4), Place("six", "six_net", 6)]
everywhere = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.network)


def address_in(bed: Bed, place: Place, container: str | None = None) -> str:
    return bed.address_of(container or place.container, place.network, version=place.version)


# -- by address -----------------------------------------------------------------------------------


@everywhere
def test_curl(bed: Bed, rules: None, place: Place) -> None:
    address = address_in(bed, place)
    url = f"http://[{address}]/" if place.version == 6 else f"http://{address}/"
    assert bed.host.run(["curl", "-gsS", "--max-time", "10", url], check=True).stdout.startswith("hello from")


@everywhere
@needs("iputils-ping", "ping")
def test_ping(bed: Bed, rules: None, place: Place) -> None:
    words = ["ping", f"-{place.version}", "-c3", "-i0.2", "-W5", address_in(bed, place)]
    told = bed.host.run(words, check=True).stdout
    assert "3 received, 0% packet loss" in told
    assert f"from {address_in(bed, place)}" in told


@everywhere
@needs("netcat-openbsd", "nc.openbsd")
def test_nc_with_udp(bed: Bed, rules: None, place: Place) -> None:
    assert talk(bed, ["nc.openbsd", "-u", "-W1", address_in(bed, place), "7"], b"word") == b"word"


@everywhere
def test_redis_cli(bed: Bed, rules: None, place: Place, store: str) -> None:
    address = address_in(bed, place, store)
    assert redis_cli(bed, address, "set", place.network, address) == "OK\n"
    assert redis_cli(bed, address, "get", place.network) == f"{address}\n"


# -- by name --------------------------------------------------------------------------------------

BY_NAME = [
    (["curl", "-sS", "--max-time", "10", "http://plain.docker/"], "hello from"),
    (["curl", "-sS", "--max-time", "10", "http://vault.docker/"], "hello from"),
    (["curl", "-6sS", "--max-time", "10", "http://six.docker/"], "hello from"),
    (["ping", "-c1", "-W5", "web.shop.docker"], "1 received"),
    (["ping", "-6", "-c1", "-W5", "six.docker"], "1 received"),
    (["redis-cli", "-h", "store.docker", "ping"], "PONG"),
]


@pytest.fixture(scope="module")
def resolving(tun: Tun, tmp_path_factory: pytest.TempPathFactory) -> Resolving:
    return Resolving(tmp_path_factory.mktemp("tun"), tun.status()["dns"][0])


@pytest.mark.parametrize(("words", "expected"), BY_NAME, ids=[" ".join(words) for words, _ in BY_NAME])
def test_by_name_with_the_tunnels_own_name_server(
    bed: Bed, resolving: Resolving, words: Sequence[str], expected: str
) -> None:
    assert expected in bed.host.run(resolving.command(words), check=True).stdout


@needs("netcat-openbsd", "nc.openbsd")
def test_nc_with_udp_by_name(bed: Bed, resolving: Resolving) -> None:
    assert talk(bed, resolving.command(["nc.openbsd", "-u", "-W1", "plain.docker", "7"]), b"word") == b"word"


# -- much -----------------------------------------------------------------------------------------


def iperf3(bed: Bed, address: str, *options: str) -> dict[str, Any]:
    """How a test of one second ended."""
    result = bed.host.run(["iperf3", "--client", address, "--time=1", "--json", *options])
    report: dict[str, Any] = json.loads(result.stdout)
    assert result.returncode == 0, report.get("error")
    end: dict[str, Any] = report["end"]
    return end


REVERSE = pytest.mark.parametrize("direction", [[], ["--reverse"]], ids=["up", "down"])


def lost(bed: Bed) -> tuple[int, int]:
    """What had no room in the tunnel's two devices, the host's and the agent's."""
    (host,) = json.loads(bed.host.run(["ip", "-s", "-j", "link", "show", "dev", "dconnect0"], check=True).stdout)
    counter = f"/sys/class/net/{TUN_NAME}/statistics/tx_dropped"
    return int(host["stats64"]["tx"]["dropped"]), int(bed.docker("exec", "dconnect", "cat", counter))


@REVERSE
def test_iperf3_over_tcp_without_a_packet_lost(bed: Bed, rules: None, store: str, direction: list[str]) -> None:
    before = lost(bed)
    end = iperf3(bed, bed.address_of(store, "bridge"), *direction)
    print(f"{end['sum_received']['bits_per_second'] / 1e9:.1f} Gbit/s, {end['sum_sent']['retransmits']} retransmitted")
    assert end["sum_received"]["bytes"] > 0
    assert lost(bed) == before


@REVERSE
@pytest.mark.parametrize("version", [4, 6])
def test_iperf3_over_udp(bed: Bed, tun: Tun, store: str, direction: list[str], version: int) -> None:
    address = bed.address_of(store, "six_net", version=version)
    end = iperf3(bed, address, "--udp", "--bitrate=20M", "--length=1200", *direction)
    print(f"{end['sum']['packets']} datagrams, {end['sum']['lost_percent']:.2f}% lost")
    assert end["sum"]["packets"] > 1000
    assert end["sum"]["lost_percent"] <= UDP_LOSS_PERCENT


def test_a_gibibyte_goes_up_and_comes_down_with_the_same_sha256(bed: Bed, rules: None, scene: Scene) -> None:
    address = bed.address_of(scene.six, version=6)
    state = hashlib.sha256()
    with bed.host.connect(address, 9, timeout=60) as sock:
        for _ in range(GIBIBYTE // len(BLOCK)):
            sock.sendall(BLOCK)
            state.update(BLOCK)
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock).decode() == state.hexdigest()
    with bed.host.connect(address, 19, timeout=60) as sock:
        sock.sendall(f"{GIBIBYTE}\n".encode())
        came = hashlib.sha256()
        while part := sock.recv(1 << 20):
            came.update(part)
    assert came.hexdigest() == state.hexdigest()


def pruned(bed: Bed) -> int:
    """Segments that came, as their senders were told they may, and that a receive buffer had no room for."""
    told = [namespace.counts("TcpExt") for namespace in (bed.host, bed.engine_netns)]
    return sum(each["RcvPruned"] + each["TCPRcvQDrop"] for each in told)


def test_a_download_goes_to_a_process_of_its_own_and_nothing_under_way_is_lost(
    bed: Bed, tun: Tun, scene: Scene
) -> None:
    address, before = bed.address_of(scene.plain), pruned(bed)
    for _ in range(5):
        with bed.host.connect(address, 19, timeout=60) as sock:
            sock.sendall(f"{GIBIBYTE // 8}\n".encode())
            assert len(receive_all(sock)) == GIBIBYTE // 8
    assert pruned(bed) == before


@pytest.fixture(scope="module")
def cluster(bed: Bed, tun: Tun, image: str) -> Iterator[list[str]]:
    """The addresses of its nodes: three masters, then their replicas."""
    with redis_cluster(bed, image) as addresses:
        yield addresses


def test_a_redis_cluster_is_used_while_its_slots_move(bed: Bed, tun: Tun, cluster: list[str], rules: None) -> None:
    before = redirections(bed, cluster)
    program = PROGRAMS / "redis_client.py"
    words: list[str | Path] = [sys.executable, "-P", program, cluster[0], str(REDIS_PORT)]
    with bed.host.popen(words, stdin=subprocess.PIPE) as client:
        try:
            assert client.stdout is not None
            said = client.stdout.readline()
            if said == b"ready\n":
                move_slots(bed, cluster[0], cluster[1], SLOTS)
            output, errors = client.communicate(b"", timeout=60)
        finally:
            client.kill()  # else a hanging one would be waited for
    assert client.returncode == 0, errors.decode()
    followed = redirections(bed, cluster) - before
    told = json.loads(output)
    print(f"{told}, and {followed} redirections were followed")
    assert told["lost"] == 0
    assert followed > 0


# -- what is not there ----------------------------------------------------------------------------


def felt(namespace: Namespace, address: str, port: int) -> int:
    """The errno of a connect that must fail."""
    with pytest.raises(OSError) as error:  # noqa: PT011 - its errno is the answer
        namespace.connect(address, port, timeout=15)
    assert error.value.errno, f"{address} port {port} is silent"
    return error.value.errno


def both_sides(bed: Bed) -> tuple[Namespace, Namespace]:
    return bed.host, bed.engine_netns


@pytest.fixture(scope="module")
def stopped(bed: Bed) -> Iterator[str]:
    """The address that a container had."""
    container = bed.target("stopped", image=bed.busybox_image)
    address = bed.address_of(container)
    bed.docker("stop", "--time=0", container)
    # What the engine's kernel believes for a while, and differently each time.
    bed.engine_netns.run(["ip", "neigh", "flush", "to", address], check=True)
    yield address
    bed.docker("rm", container)


def test_connects_fail_as_in_the_engines_own_network(bed: Bed, rules: None, scene: Scene, stopped: str) -> None:
    closed = [bed.address_of(scene.plain), bed.address_of(scene.vault), bed.address_of(scene.six, version=6)]
    nowhere = [*((address, 81) for address in closed), (stopped, 80), (THERE, 80)]
    both = [(namespace, *where) for where in nowhere for namespace in both_sides(bed)]
    with ThreadPoolExecutor(len(both)) as pool:  # the dead ones take three seconds each
        found = list(pool.map(felt, *zip(*both, strict=True)))
    assert found[::2] == found[1::2]
    assert found[::2] == [errno.ECONNREFUSED] * 3 + [errno.EHOSTUNREACH, errno.ENETUNREACH]


def test_ping_of_a_dead_address_fails_as_in_the_engines_own_network(bed: Bed, tun: Tun) -> None:
    # One that nobody had: for a stopped container's, a kernel that remembers its link address prints nothing.
    dead = str(ip_network(bed.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "bridge"))[-2])
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(partial(Namespace.run, command=["ping", "-c1", "-W10", dead]), both_sides(bed)))
    assert [each.returncode for each in told] == [1, 1]
    texts = [each.stdout for each in told]
    assert all("icmp_seq=1 Destination Host Unreachable" in text for text in texts), texts


@needs("nmap", "nmap")
def test_nmap_sees_what_it_sees_from_the_engines_own_network(bed: Bed, rules: None, scene: Scene) -> None:
    words = ["nmap", "-n", "-Pn", "-sT", "-oG", "-", bed.address_of(scene.plain)]  # 1,000 ports
    seen = [
        re.findall(r"Ports: (.*?)(?:\t|$)(.*)", namespace.run(words, check=True).stdout)
        for namespace in both_sides(bed)
    ]
    assert seen[0] == seen[1]
    assert "80/open/tcp" in str(seen)


# -- hops -----------------------------------------------------------------------------------------


@pytest.fixture
def router(bed: Bed, tun: Tun) -> Iterator[None]:
    """A way from the engine to what is beyond, through a container."""
    container = bed.target("router", options=["--sysctl=net.ipv4.ip_forward=1"])
    route = [BEYOND, "via", bed.address_of(container)]
    bed.engine_netns.run(["ip", "route", "add", *route], check=True)
    try:
        yield
    finally:
        bed.engine_netns.run(["ip", "route", "del", *route], check=True)
        bed.docker("rm", "--force", container)


def test_a_container_is_one_hop_away(bed: Bed, tun: Tun, scene: Scene) -> None:
    address = bed.address_of(scene.plain)
    assert "1 received" in bed.host.run(["ping", "-c1", "-W5", "-t1", address], check=True).stdout
    told = bed.host.run(["busybox", "traceroute", "-n", "-q1", "-w5", "-m3", address], check=True).stdout
    assert re.findall(r"^ *(\d+)  (\S+)", told, re.MULTILINE) == [("1", address)]


def test_a_router_beyond_is_told_by_the_tunnels_end(bed: Bed, router: None) -> None:
    told = bed.host.run(["ping", "-c1", "-W5", "-t1", THERE])
    assert f"From {OWN} icmp_seq=1 Time to live exceeded" in told.stdout
    told = bed.host.run(["busybox", "traceroute", "-n", "-q1", "-w5", "-m1", THERE], check=True)
    assert re.findall(r"^ *(\d+)  (\S+)", told.stdout, re.MULTILINE) == [("1", OWN)]
