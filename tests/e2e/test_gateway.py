"""The agent's end of the transparent mode: programs that know no proxy reach what is there, and feel what is not."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bed.client import receive_all
from bed.dconnect import PROXY_PORT, Dconnect
from bed.namespace import BedError
from bed.processes import processes
from bed.scene import Scene
from bed.session import Bed
from bed.target_server import BLOCK
from bed.tunnel import Tunnel
from bed.waiting import wait_for
from dconnect.agent.labels import AGENT_NAME

UP = ("--tun",)

GIBIBYTE = 1 << 30
DEAD = "172.17.255.9"
"""On the default bridge's subnet, and nobody's."""
OWN, OWN6 = "10.213.0.1", "fd3b:9c7e:51d2::1"


@pytest.fixture(scope="module")
def tunnel(bed: Bed, agent: Dconnect) -> Iterator[Tunnel]:
    with Tunnel(bed, PROXY_PORT) as made:
        made.config()
        yield made


@pytest.fixture(params=["the engine's own rules", "engine 28's rules"])
def rules(request: pytest.FixtureRequest, bed: Bed, tunnel: Tunnel) -> Iterator[None]:
    if request.param == "engine 28's rules":
        with bed.imitate_engine_28():
            yield
    else:
        yield


def refused(bed: Bed, address: str, port: int) -> tuple[int, float]:
    """The errno of a connect that must fail, and how long it took."""
    begun = time.monotonic()
    with pytest.raises(OSError) as error:  # noqa: PT011 - its errno is the answer
        bed.host.connect(address, port)
    return error.value.errno or 0, time.monotonic() - begun


def udp(bed: Bed, address: str, port: int) -> socket.socket:
    sock = bed.host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.connect((address, port))
    return sock


# -- TCP ----------------------------------------------------------------------------------------


def test_plain_curl_reaches_containers_on_every_kind_of_network(bed: Bed, scene: Scene, rules: None) -> None:
    for name, container in (("plain", scene.plain), ("shop_db_1", scene.db), ("vault", scene.vault)):
        address = bed.address_of(name)
        result = bed.host.run(["curl", "-sS", "--noproxy", "*", f"http://{address}/"], check=True)
        assert result.stdout.strip() == f"hello from {container[:12]}"


def test_plain_curl_reaches_a_container_over_ipv6(bed: Bed, scene: Scene, rules: None) -> None:
    address = bed.address_of(scene.six, version=6)
    result = bed.host.run(["curl", "-gsS", "--noproxy", "*", f"http://[{address}]/"], check=True)
    assert result.stdout.strip() == f"hello from {scene.six[:12]}"


def test_a_closed_port_is_refused_at_once(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    for address in (bed.address_of(scene.plain), bed.address_of(scene.six, version=6)):
        code, seconds = refused(bed, address, 81)
        assert code == errno.ECONNREFUSED
        assert seconds < 1


def test_a_dead_address_is_unreachable_as_soon_as_the_engine_knows(bed: Bed, tunnel: Tunnel) -> None:
    code, _ = refused(bed, DEAD, 80)
    assert code == errno.EHOSTUNREACH


def test_what_policy_refuses_is_unreachable_at_once(bed: Bed, tunnel: Tunnel) -> None:
    code, seconds = refused(bed, "172.17.0.1", PROXY_PORT)  # the engine's own address
    assert code == errno.EHOSTUNREACH
    assert seconds < 1


def test_the_tunnels_other_addresses_lead_nowhere(bed: Bed, tunnel: Tunnel) -> None:
    assert refused(bed, "10.213.0.77", 80)[0] == errno.EHOSTUNREACH
    assert refused(bed, OWN, PROXY_PORT)[0] == errno.ECONNREFUSED


def test_the_front_doors_own_port_is_a_port_like_others(bed: Bed, tunnel: Tunnel) -> None:
    """In the agent's own network it is taken, on all devices."""
    container = bed.target("on_1080")
    try:
        bed.docker("exec", "-d", container, "python3", "-c", SERVE_1080)
        address = bed.address_of(container)
        wait_for("the server", lambda: _answers(bed, address, 1080), 10)
    finally:
        bed.docker("rm", "-f", container)


SERVE_1080 = "import socket\ns = socket.create_server(('', 1080))\nwhile True: s.accept()[0].sendall(b'not the door')"


def _answers(bed: Bed, address: str, port: int) -> bool:
    try:
        with bed.host.connect(address, port) as sock:
            return receive_all(sock) == b"not the door"
    except ConnectionRefusedError:
        return False


def test_one_source_port_leads_to_three_destinations(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    with ExitStack() as stack:
        port = 0
        open_now = []
        for container in (scene.plain, scene.web, scene.db):
            sock = stack.enter_context(closing(bed.host.socket()))
            sock.settimeout(5)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", port))
            port = sock.getsockname()[1]
            sock.connect((bed.address_of(container), 80))
            open_now.append((sock, container))
        for sock, container in open_now:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            lines = sock.makefile("rb")
            assert f"hello from {container[:12]}\n".encode() in iter(lines.readline, b"")


def test_200_connects_at_once_to_open_and_closed_ports(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    address = bed.address_of(scene.plain)
    sockets = [bed.host.socket() for _ in range(200)]
    outcomes: Counter[str] = Counter()

    def connect(number: int, sock: socket.socket) -> None:
        sock.settimeout(10)
        try:
            sock.connect((address, 7 if number % 2 else 81))
            sock.sendall(b"x")
            outcomes["open" if sock.recv(1) == b"x" else "empty"] += 1
        except ConnectionRefusedError:
            outcomes["refused"] += 1
        finally:
            sock.close()

    threads = [threading.Thread(target=connect, args=each) for each in enumerate(sockets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"open": 100, "refused": 100}


def test_4000_connects_in_a_row(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    program = (
        "import socket, sys\n"
        "for n in range(4000):\n"
        "    with socket.create_connection((sys.argv[1], 7), 10) as s:\n"
        "        s.sendall(b'x')\n"
        "        assert s.recv(1) == b'x', n\n"
    )
    bed.host.run(["python3", "-c", program, bed.address_of(scene.plain)], timeout=100, check=True)


@pytest.mark.parametrize("version", [4, 6])
def test_a_gibibyte_goes_up_with_the_same_sha256(bed: Bed, scene: Scene, tunnel: Tunnel, version: int) -> None:
    state = hashlib.sha256()
    with bed.host.connect(bed.address_of(scene.six, version=version), 9, timeout=60) as sock:
        for _ in range(GIBIBYTE // len(BLOCK)):
            sock.sendall(BLOCK)
            state.update(BLOCK)
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock).decode() == state.hexdigest()


@pytest.mark.parametrize("version", [4, 6])
def test_a_gibibyte_comes_down_with_the_same_sha256(bed: Bed, scene: Scene, tunnel: Tunnel, version: int) -> None:
    address = bed.address_of(scene.six, version=version)
    host = f"[{address}]" if version == 6 else address
    words = ["curl", "-gsS", "--noproxy", "*", "-D", "/dev/stderr", f"http://{host}/bytes/{GIBIBYTE}"]
    with bed.host.popen(words) as source:
        assert source.stdout is not None
        assert source.stderr is not None
        state = hashlib.sha256()
        while part := source.stdout.read(1 << 20):
            state.update(part)
        assert f"X-SHA256: {state.hexdigest()}" in source.stderr.read().decode()


def test_a_half_closed_connection_goes_on_the_other_way(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    with bed.host.connect(bed.address_of(scene.plain), 7) as sock:
        sock.sendall(b"word")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"word"


# -- UDP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1400, 65_507])
@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_of_any_size_come_back_whole(bed: Bed, scene: Scene, rules: None, size: int, version: int) -> None:
    with udp(bed, bed.address_of(scene.six, version=version), 7) as sock:
        payload = os.urandom(size)
        sock.send(payload)
        assert sock.recv(65_535) == payload


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_to_a_closed_port_is_refused(bed: Bed, scene: Scene, tunnel: Tunnel, version: int) -> None:
    with udp(bed, bed.address_of(scene.six, version=version), 81) as sock:
        sock.send(b"hello?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(10)


def test_a_datagram_to_a_dead_address_is_told(bed: Bed, tunnel: Tunnel) -> None:
    with udp(bed, DEAD, 7) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: without it Linux tells of closed ports only
        sock.send(b"hello?")
        with pytest.raises(OSError) as error:  # noqa: PT011 - its errno is the answer
            sock.recv(10)
        assert error.value.errno == errno.EHOSTUNREACH


def test_an_answer_from_another_port_is_not_let_through(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    with closing(bed.host.socket(kind=socket.SOCK_DGRAM)) as sock:
        sock.settimeout(0.5)
        sock.sendto(b"word", (bed.address_of(scene.plain), 17))
        with pytest.raises(TimeoutError):
            sock.recv(10)


# -- ping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["56", "65507"])
def test_ping_is_answered_by_the_container(bed: Bed, scene: Scene, rules: None, size: str) -> None:
    words = ["ping", "-c", "2", "-i", "0.2", "-W", "5", "-s", size, bed.address_of(scene.plain)]
    assert "2 received" in bed.host.run(words, check=True).stdout


def test_ping_over_ipv6_is_answered_by_the_container(bed: Bed, scene: Scene, rules: None) -> None:
    words = ["ping", "-6", "-c", "2", "-i", "0.2", "-W", "5", bed.address_of(scene.six, version=6)]
    assert "2 received" in bed.host.run(words, check=True).stdout


def test_ping_of_a_paused_networks_dead_address_is_told_by_the_tunnel(bed: Bed, tunnel: Tunnel) -> None:
    result = bed.host.run(["ping", "-c", "3", "-W", "10", "-i", "2", DEAD])
    assert result.returncode == 1
    assert f"From {OWN} icmp_seq" in result.stdout
    assert "Destination Host Unreachable" in result.stdout


def test_ping_of_what_policy_refuses_is_told_so(bed: Bed, tunnel: Tunnel) -> None:
    result = bed.host.run(["ping", "-c", "1", "-W", "5", "172.17.0.1"])
    assert result.returncode == 1
    assert "Packet filtered" in result.stdout


def test_the_tunnels_own_end_answers_pings(bed: Bed, tunnel: Tunnel) -> None:
    for address in (OWN, OWN6):
        assert "1 received" in bed.host.run(["ping", "-c", "1", "-W", "5", address], check=True).stdout


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[f"@{OWN}"], [f"@{OWN6}"], [f"@{OWN}", "+tcp"], [f"@{OWN6}", "+tcp"]])
def test_names_are_answered_at_the_tunnels_own_address(
    bed: Bed, scene: Scene, tunnel: Tunnel, words: list[str]
) -> None:
    result = bed.host.run(["dig", "+short", "+time=5", "+tries=1", *words, "plain.docker"], check=True)
    assert result.stdout.strip() == bed.address_of(scene.plain)


# -- the rest -----------------------------------------------------------------------------------


def test_another_protocol_is_told_that_it_is_unknown(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    program = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)\n"
        "s.setsockopt(socket.IPPROTO_IP, 11, 1)\n"
        "s.settimeout(5)\n"
        "s.connect((sys.argv[1], 0))\n"
        "s.send(bytes(12))\n"
        "try:\n"
        "    s.recv(10)\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
    )
    result = bed.host.run(["python3", "-c", program, bed.address_of(scene.plain)], check=True)
    assert int(result.stdout) == errno.ENOPROTOOPT


def test_a_new_network_is_told_to_the_host(bed: Bed, scene: Scene, tunnel: Tunnel) -> None:
    bed.docker("network", "create", "--subnet=172.29.0.0/16", "late_net")
    try:
        assert "172.29.0.0/16" in tunnel.config()["subnets"]
        container = bed.target("late", network="late_net")
        with bed.host.connect(bed.address_of(container), 7) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        bed.docker("rm", "-f", container)
    finally:
        bed.docker("network", "rm", "late_net")
    assert "172.29.0.0/16" not in tunnel.config()["subnets"]


def test_connections_are_listed_logged_and_counted(bed: Bed, scene: Scene, agent: Dconnect, tunnel: Tunnel) -> None:
    target = f"{bed.address_of(scene.plain)}:7"
    with bed.host.connect(bed.address_of(scene.plain), 7) as sock:
        peer = ":".join(map(str, sock.getsockname()))
        sock.sendall(b"word")
        assert sock.recv(4) == b"word"
        listed = agent("connections")
        assert peer in listed
        assert target in listed
    line = agent.wait_session(target, peer)
    assert (line["front"], line["outcome"], line["bytes_up"], line["bytes_down"]) == ("tunnel", "ok", 4, 4)
    status = agent.status()["tunnel"]
    assert status["ready"]
    assert status["links"] == 1
    assert status["packets"]["up"] > 0


def test_only_the_gateway_and_who_starts_it_have_a_right_over_the_network(bed: Bed, agent: Dconnect) -> None:
    capabilities = {
        name: re.findall(r"^Cap(?:Prm|Eff):\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        for name, pid in processes(bed, AGENT_NAME).items()
    }
    net_admin, none = ["0000000000001000"] * 2, ["0000000000000000"] * 2
    assert {name: net_admin if name in ("agent", "agent.gateway") else none for name in capabilities} == capabilities
    assert len(capabilities) >= 4


def test_a_small_mtu_of_the_host_is_kept(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    with Tunnel(bed, PROXY_PORT, mtu=1500) as small:
        device_address = small.config()["addresses"][0]
        with udp(bed, bed.address_of(scene.plain), 7) as sock:
            sock.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: the kernel makes fragments
            payload = os.urandom(65_507)
            sock.send(payload)
            assert sock.recv(65_535) == payload
            assert sock.getsockname()[0] == device_address
        with bed.host.connect(bed.address_of(scene.plain), 19) as tcp:
            tcp.sendall(b"1000000\n")
            assert len(receive_all(tcp)) == 1_000_000


# -- links --------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused(bed: Bed, agent: Dconnect) -> None:
    with Tunnel(bed, PROXY_PORT, token="0" * 32) as refused_one, pytest.raises(BedError, match=" 401 Unauthorized"):
        refused_one.config()


def test_two_hosts_have_addresses_of_their_own(bed: Bed, agent: Dconnect, tunnel: Tunnel) -> None:
    with Tunnel(bed, PROXY_PORT) as second:
        assert second.config()["addresses"][0] == "10.213.0.3"


def test_connections_outlive_the_gateway_and_the_link(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    first = Tunnel(bed, PROXY_PORT)
    address = first.config()["addresses"][0]
    with ExitStack() as stack:
        # The device goes with its program; another one with the same address takes its connections over.
        sock = stack.enter_context(bed.host.connect(bed.address_of(scene.web), 7, timeout=30))
        sock.sendall(b"before")
        assert sock.recv(6) == b"before"
        os.kill(gateway_pids(bed)[0], signal.SIGKILL)
        with pytest.raises(BedError):
            first.config()
        wait_for("the gateway", lambda: bool(agent.status()["tunnel"]["ready"]), 20)
        with Tunnel(bed, PROXY_PORT, address=address) as again:
            assert again.config()["addresses"][0] == address
            sock.sendall(b"after")
            assert sock.recv(5) == b"after"


def gateway_pids(bed: Bed) -> list[int]:
    lines = bed.docker("top", "dconnect", "-eo", "pid,args").splitlines()
    return [int(line.split()[0]) for line in lines if "dconnect.agent.gateway" in line]


def test_without_the_option_the_agent_says_how_to_have_a_tunnel(bed: Bed, scene: Scene) -> None:
    dconnect = Dconnect(bed)
    dconnect.up()
    try:
        with Tunnel(bed, PROXY_PORT, token="0" * 32) as none, pytest.raises(BedError, match="dconnect up --tun"):
            none.config()
        assert gateway_pids(bed) == []
    finally:
        dconnect.down()
