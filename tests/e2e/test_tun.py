"""Transparent mode on a host that cannot route: real device, real agent, plain clients."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bed.dconnect import Dconnect
from bed.namespace import Namespace
from bed.scene import Scene
from bed.session import Bed
from bed.tun import Tun, another_user, tunnel_of
from bed.waiting import wait_for

UP = ("--tun",)

FOLLOW_SECONDS = 2.0
"""For a route to follow a network: the agent's event, 200 ms of ours, and a busy machine."""
HEAL_SECONDS = 2.0
"""For the tunnel to be back, once its agent is."""
_OPEN_TUN = 'mknod -m 666 "$1" c 10 200 && mount --bind "$1" /dev/net/tun && shift && exec "$@"'
"""Everybody may open /dev/net/tun on a machine with udev; in a mount namespace so it is here, for one command."""
_AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


@pytest.fixture
def tun(bed: Bed, agent: Dconnect) -> Iterator[Tun]:
    """The command; what a test leaves is removed, and that it is gone is shown."""
    with tunnel_of(bed) as made:
        yield made


def _addresses(bed: Bed) -> str:
    return bed.host.run(["ip", "addr"]).stdout


def _fetch(bed: Bed, address: str, *, port: int = 80) -> str:
    host = f"[{address}]" if ":" in address else address
    return bed.host.run(["curl", "-sS", "--max-time", "5", f"http://{host}:{port}/"]).stdout


def _ping(bed: Bed, address: str) -> bool:
    return bed.host.run(["ping", "-c1", "-W2", address]).returncode == 0


def test_without_an_agent_it_says_so_and_changes_nothing(bed: Bed, scene: Scene) -> None:
    tun = Tun(bed)
    result = tun.run("tun", "up")
    assert result.returncode == 3
    assert "start it with `dconnect up`" in result.stderr
    assert not list(tun.notes.glob("*"))
    assert tun.run("tun", "status").returncode == 3
    assert tun.run("tun", "down").returncode == 3


def test_an_agent_without_a_tunnel_is_told_how_to_get_one(bed: Bed, scene: Scene) -> None:
    dconnect = Dconnect(bed)
    dconnect.up()
    try:
        result = Tun(bed).run("tun", "up")
    finally:
        dconnect.down()
    assert result.returncode == 1
    assert "has no tunnel; `dconnect up --tun` gives it one" in result.stderr
    assert "dconnect0" not in _addresses(bed)


def test_plain_clients_reach_addresses_of_both_families(bed: Bed, tun: Tun) -> None:
    address, six = bed.address_of("plain"), bed.address_of("six", version=6)
    assert _fetch(bed, address) == ""
    assert f"The tunnel is up on dconnect0: {'172.17.0.0/16'}" in tun.up()
    assert _fetch(bed, address).startswith("hello")
    assert _fetch(bed, six).startswith("hello")
    assert _ping(bed, address)
    assert _ping(bed, six)


def _segments(namespace: Namespace) -> int:
    """Of TCP, both ways."""
    told = namespace.counts("Tcp")
    return told["InSegs"] + told["OutSegs"]


def test_the_very_first_connection_of_each_family_does_not_wait_for_a_second_syn(bed: Bed, tun: Tun) -> None:
    tun.up()
    before = bed.host.counts("Tcp")["RetransSegs"]
    assert _fetch(bed, bed.address_of("plain")).startswith("hello")
    assert _fetch(bed, bed.address_of("six", version=6)).startswith("hello")
    assert bed.host.counts("Tcp")["RetransSegs"] == before


def test_no_packet_between_host_and_agent_only_acknowledges_what_is_answered(bed: Bed, tun: Tun) -> None:
    tun.up()
    address, agent, count = bed.address_of("plain"), bed.netns_of("dconnect"), 50
    before = _segments(agent)
    for _ in range(count):
        with bed.host.connect(address, 7) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Open, a byte, reset; answer, the byte: each a segment of the trunk's. The reset and the next one's wish are
    # acknowledged by themselves (two small segments without an answer), and so is what is late by 40 ms.
    assert _segments(agent) - before <= 6.5 * count


def test_a_closed_port_is_refused_and_another_network_is_not_touched(bed: Bed, tun: Tun) -> None:
    tun.up()
    result = bed.host.run(["curl", "-sS", "--max-time", "5", f"http://{bed.address_of('plain')}:81/"])
    assert result.returncode == 7  # "Failed to connect to host", not a time-out
    assert tun.routes() >= {"172.17.0.0/16", "fd00:dc::/64"}
    assert not any(route.startswith("10.99.") for route in tun.routes())


def test_status_tells_device_link_and_traffic(bed: Bed, tun: Tun) -> None:
    tun.up()
    assert _ping(bed, bed.address_of("plain"))
    wait_for("the link's round trip is known", lambda: tun.status()["link"]["rtt_ms"] is not None, 10)
    status = tun.status()
    assert (status["device"], status["mtu"], status["link"]["up"]) == ("dconnect0", 65535, True)
    assert status["sent"]["packets"] > 0
    assert status["received"]["packets"] > 0
    assert set(status["subnets"]) == tun.routes()
    text = tun("tun", "status")
    assert re.search(r"^link +to 10\.99\.0\.1:1080 since .*, round trip \d+\.\d\d ms$", text, re.MULTILINE)


def test_both_devices_have_room_for_what_thousands_of_connections_send_at_once(bed: Bed, tun: Tun) -> None:
    tun.up("--packets")
    for namespace in (bed.host, bed.netns_of("dconnect")):
        shown = namespace.run(["ip", "link", "show", "dconnect0"], check=True).stdout
        assert "qlen 8192" in shown  # probes of 5,000 idle connections come in one burst; with 1,000 some never arrive


def test_neither_the_link_nor_a_connection_in_it_has_a_pace_of_its_own(bed: Bed, tun: Tun) -> None:
    agent, fetched, door = bed.netns_of("dconnect"), "( dport = :80 )", "( sport = :1080 )"
    for options, links in ((), 2), (("--packets",), 1):  # the connection itself is one to the front door, or within one
        tun.up(*options)
        ends = [(bed.host, fetched), (bed.engine_netns, fetched), (agent, door), (bed.host, "( dport = :1080 )")]
        ends.append((agent if options else tun.private(), "( sport = :80 )"))
        with bed.host.connect(bed.address_of("plain"), 80, timeout=5):
            found = [
                namespace.run(["ss", "-tinHO", "state", "established", which], check=True).stdout.splitlines()
                for namespace, which in ends
            ]
        assert [len(lines) for lines in found] == [1, 1, links, links, 1]
        assert all(" reno " in line for lines in found for line in lines), found
        tun("tun", "down")


def test_what_others_wait_for_goes_before_them(tun: Tun) -> None:
    tun.up()
    helper, pump, terminal = tun.processes()
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in (helper, pump, terminal)] == [0, -10, -10]


def test_one_tunnel_at_a_time(tun: Tun) -> None:
    tun.up()
    result = tun.run("tun", "up")
    assert result.returncode == 1
    assert "up already" in result.stderr
    assert tun.status()["link"]["up"]


def test_routes_follow_networks(bed: Bed, tun: Tun) -> None:
    tun.up()
    bed.docker("network", "create", "--subnet=172.31.77.0/24", "tun-follows")
    try:
        wait_for("the new network is routed", lambda: "172.31.77.0/24" in tun.routes(), FOLLOW_SECONDS)
    finally:
        bed.docker("network", "rm", "tun-follows")
    wait_for("the removed network is not", lambda: "172.31.77.0/24" not in tun.routes(), FOLLOW_SECONDS)


def test_a_conflict_is_refused_with_the_route_named_and_the_rest_goes_up(bed: Bed, tun: Tun) -> None:
    route = ["172.17.0.0/16", "via", bed.address, "dev", "vm0"]
    bed.host.run(["ip", "route", "add", *route], check=True)
    try:
        before = tun.network()
        result = tun.run("tun", "up")
        assert result.returncode == 0
        assert (
            f"172.17.0.0/16 is not routed: this host has the route 172.17.0.0/16 via {bed.address} on vm0."
            in result.stderr
        )
        assert "172.17.0.0/16" not in tun.routes()
        assert _fetch(bed, bed.address_of("six", version=6)).startswith("hello")
        assert tun.status()["refused"][0]["subnet"] == "172.17.0.0/16"
        tun("tun", "down")
        assert tun.network() == before
    finally:
        bed.host.run(["ip", "route", "del", *route], check=True)


def test_where_everything_conflicts_nothing_is_changed(bed: Bed, tun: Tun) -> None:
    result = tun.run("tun", "up", "--exclude=0.0.0.0/0", "--exclude=::/0")
    assert result.returncode == 1
    assert "There is nothing to route." in result.stderr
    assert not list(tun.notes.glob("*"))


def test_options_choose_subnets_and_mtu(bed: Bed, tun: Tun) -> None:
    tun.up("--exclude=172.17.128.0/17", "--include=198.51.100.0/24", "--mtu=9000")
    routes = tun.routes()
    assert {"172.17.0.0/17", "198.51.100.0/24"} <= routes
    assert "172.17.0.0/16" not in routes
    assert "mtu 9000" in _addresses(bed)
    assert _fetch(bed, bed.address_of("plain")).startswith("hello")


@pytest.mark.parametrize("words", [("--include=nonsense",), ("--exclude=172.17.0.1/16",), ("--mtu=70000",)])
def test_what_is_no_option_is_a_usage_error(tun: Tun, words: tuple[str, ...]) -> None:
    assert tun.run("tun", "up", *words).returncode == 2


def _kill_pump(tun: Tun) -> None:
    os.kill(tun.status()["pid"], signal.SIGKILL)


def _kill_terminal(tun: Tun) -> None:
    os.kill(tun.processes()[2], signal.SIGKILL)


def _kill_helper(tun: Tun) -> None:
    os.kill(tun.helper(), signal.SIGKILL)


def _end_helper(tun: Tun) -> None:
    os.kill(tun.helper(), signal.SIGTERM)


def _down(tun: Tun) -> None:
    tun("tun", "down")


def _cleanup(tun: Tun) -> None:
    assert tun("cleanup").startswith("Removed: dconnect0")


@pytest.mark.parametrize("end", [_kill_pump, _kill_terminal, _kill_helper, _end_helper, _down, _cleanup])
def test_however_it_ends_the_hosts_network_is_as_before(bed: Bed, tun: Tun, end: Callable[[Tun], None]) -> None:
    before = tun.network()
    tun.up()
    assert tun.network() != before
    end(tun)
    wait_for("the network is as before", lambda: tun.network() == before, 3)
    tun.up()  # and it can be had again
    assert _fetch(bed, bed.address_of("plain")).startswith("hello")


def test_cleanup_is_idempotent_and_says_what_is_true(tun: Tun) -> None:
    for _ in range(2):
        assert tun("cleanup") == "Nothing of dconnect's transparent mode is left on this host.\n"


def test_in_the_foreground_ctrl_c_ends_it(bed: Bed, tun: Tun) -> None:
    before = tun.network()
    process = bed.host.popen(tun.command("tun", "up", "--foreground"), env=tun.environment)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"The tunnel is up on dconnect0")
    assert _ping(bed, bed.address_of("plain"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, b"The tunnel is down.\n", b"")
    assert tun.network() == before


def test_while_the_agent_is_away_packets_are_answered_at_once_and_then_it_heals(bed: Bed, tun: Tun) -> None:
    address = bed.address_of("plain")
    tun.up()
    assert _ping(bed, address)
    bed.docker("stop", "-t", "1", "dconnect")
    try:
        began = time.monotonic()
        result = bed.host.run(["ping", "-c1", "-W5", address])
        assert "Destination Host Unreachable" in result.stdout
        assert bed.host.run(["curl", "-sS", f"http://{address}/"]).returncode == 7
        assert time.monotonic() - began < 4
        assert "172.17.0.0/16" in tun.routes()  # device and routes stay
        assert not tun.status()["link"]["up"]
    finally:
        bed.docker("start", "dconnect")
    wait_for("the agent is ready", lambda: "200" in _health(bed), 20)
    wait_for("the tunnel is back", lambda: _ping(bed, address), HEAL_SECONDS)
    assert _fetch(bed, address).startswith("hello")


def _health(bed: Bed) -> str:
    url = f"http://{bed.address}:1080/healthz"
    return bed.host.run(["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "--max-time", "1", url]).stdout


@pytest.fixture
def theirs(bed: Bed, agent: Dconnect) -> Iterator[Tun]:
    """The command for another user, who may use the engine and has the token."""
    user = another_user()
    state = bed.root / "nobodys"
    shutil.copytree(bed.root / "state", state)
    for path in (state, *state.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    engine = Path(bed.docker_host.removeprefix("unix://"))
    mode = engine.stat().st_mode
    bed.root.chmod(0o755)
    engine.chmod(0o666)
    try:
        environment = {"SUDO_UID": str(user.pw_uid), "XDG_STATE_HOME": str(state)}
        yield Tun(bed, environment=environment, system_python=True)
    finally:
        engine.chmod(mode)
        shutil.rmtree(state)


def test_without_root_it_says_which_line_to_type(bed: Bed, theirs: Tun) -> None:
    result = bed.host.run([*_AS_NOBODY, *theirs.command("tun", "up", "--mtu=9000")], env=theirs.environment)
    assert result.returncode == 1
    assert result.stderr.endswith("need root: sudo dconnect tun up --mtu=9000\n")


def test_one_command_has_the_tunnel_for_its_network_without_root(bed: Bed, theirs: Tun) -> None:
    script = f"""
        curl -sS --max-time 5 http://{bed.address_of("plain")}/ && curl -sS --max-time 5 http://plain.docker/ &&
        ping -c1 -W2 {bed.address_of("plain")} >&2 && ip -o link | wc -l && id -u && exit 7"""
    words = theirs.command("run", "--netns", "--", "sh", "-c", script)
    with_tun = ["unshare", "--mount", "sh", "-c", _OPEN_TUN, "sh", str(bed.root / "tun")]
    result = bed.host.run([*with_tun, *_AS_NOBODY, *words], env=theirs.environment)
    assert result.returncode == 7, result.stderr
    lines = result.stdout.splitlines()
    assert (lines[0][:5], lines[1], lines[2:]) == ("hello", lines[0], ["2", str(another_user().pw_uid)])
    assert "dconnect0" not in _addresses(bed)


def test_a_command_that_is_not_there_is_a_usage_error(bed: Bed, tun: Tun) -> None:
    assert tun.run("run", "--netns", "--", "no-such-command").returncode == 2
    assert tun.run("run", "true").returncode == 2


def test_under_sudo_the_pump_runs_as_its_user(bed: Bed, tun: Tun, theirs: Tun) -> None:
    theirs.up()
    status = Path(f"/proc/{theirs.status()['pid']}").stat()
    assert (status.st_uid, status.st_gid) == (another_user().pw_uid, another_user().pw_gid)
    assert (theirs.notes / "tun.sock").stat().st_uid == another_user().pw_uid
    assert _fetch(bed, bed.address_of("plain")).startswith("hello")
    theirs("tun", "down")
