"""``dconnect dns install`` on a whole Debian machine: its real resolvers find containers, and nothing is left after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bed.clients import go_program, needs
from bed.dconnect import DNS_PORT, Dconnect
from bed.machine import Machine, machine, resolved
from bed.name_server import name_of, name_server
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for
from dconnect.cli.host.detect import Manager
from dconnect.cli.host.plans import File, Wish, plan
from dconnect.core.address import Target

_PROGRAMS = Path(__file__).parent / "programs"
_KILLED = _PROGRAMS / "killed_install.py"
_GETADDRINFO = "import socket,sys; print(socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)[0][4][0])"
_PLAIN = "# a comment that stays\nsearch lan\nnameserver 10.99.0.1\noptions timeout:2\n"


@pytest.fixture(scope="module")
def names_elsewhere(bed: Bed) -> Iterator[None]:
    """The network's own name server."""
    with name_server(bed.engine_netns):
        yield


@pytest.fixture(scope="module")
def with_resolved(bed: Bed, agent: Dconnect, names_elsewhere: None) -> Iterator[Machine]:
    """A machine whose names systemd-resolved serves, as Debian's package leaves it."""
    with machine(bed) as made, resolved(made, bed.address):
        yield made


@pytest.fixture(scope="module")
def plain(bed: Bed, agent: Dconnect, names_elsewhere: None) -> Iterator[Machine]:
    """A machine with a resolv.conf that somebody wrote, and no manager of names."""
    with machine(bed) as made:
        made.run(["rm", "/etc/resolv.conf"], check=True)
        (made.root / "etc/resolv.conf").write_text(_PLAIN)
        made.run(["sed", "-i", "s/^hosts:.*/hosts: files dns/", "/etc/nsswitch.conf"], check=True)
        yield made


def found(on: Machine, name: str) -> list[str]:
    """What libc finds in a program of its own, by getent and by Python's getaddrinfo."""
    words = on.run(["getent", "ahosts", name]).stdout.split()
    return [*words[:1], *on.run(["/usr/bin/python3", "-c", _GETADDRINFO, name]).stdout.split()]


def installed(bed: Bed, on: Machine) -> Dconnect:
    dconnect = Dconnect(bed, on)
    result = dconnect.run("dns", "install")
    assert result.returncode == 0, result.stdout + result.stderr
    return dconnect


# -- systemd-resolved ------------------------------------------------------------------------------


def test_systemd_resolved_asks_us_for_our_names_and_others_for_theirs(
    bed: Bed, scene: Scene, with_resolved: Machine
) -> None:
    before = with_resolved.snapshot()
    domains = with_resolved.run(["resolvectl", "domain"]).stdout
    assert found(with_resolved, "db.shop.docker") == []
    dconnect = installed(bed, with_resolved)
    assert found(with_resolved, "db.shop.docker") == [bed.address_of(scene.db)] * 2
    assert found(with_resolved, "vault.docker.test") == [bed.address_of(scene.vault)] * 2
    assert found(with_resolved, name_of("192.0.2.7")) == ["192.0.2.7"] * 2
    assert (
        f"db.shop.docker: {bed.address_of(scene.db)}"
        in with_resolved.run(["resolvectl", "query", "--legend=no", "db.shop.docker"]).stdout
    )
    told = json.loads(dconnect("dns", "status", "--json"))
    assert (told["manager"], told["works"], told["problems"]) == ("systemd-resolved", True, [])
    assert told["installed"] == {
        "manager": "systemd-resolved",
        "suffixes": ["docker", "docker.test"],
        "dns": f"{bed.address}:{DNS_PORT}",
    }
    dconnect("dns", "uninstall")
    assert with_resolved.snapshot() == before
    assert with_resolved.run(["resolvectl", "domain"]).stdout == domains
    assert found(with_resolved, "db.shop.docker") == []
    assert found(with_resolved, name_of("192.0.2.8")) == ["192.0.2.8"] * 2


def test_a_server_on_loopback_is_asked_by_systemd_resolved_itself_at_any_port(bed: Bed, with_resolved: Machine) -> None:
    before = with_resolved.snapshot()
    with name_server(bed.host, "127.0.0.1", 5353):
        install = [*_install("systemd-resolved", "evil.example", "127.0.0.1", 5353), "1000"]
        assert with_resolved.run(install).returncode == 0
        assert "5353" in with_resolved.run(["resolvectl", "dns", "dconnect-dns"]).stdout
        assert not [name for name, what in with_resolved.snapshot().items() if "forwarder" in what]
        assert found(with_resolved, name_of("198.51.100.7")) == ["198.51.100.7"] * 2
        told = with_resolved.run(["resolvectl", "query", name_of("198.51.100.8")]).stdout
        assert "198.51.100.8" in told
        assert "link: vm0" not in told  # as it says of a server that it asked by another link
    assert Dconnect(bed, with_resolved).run("dns", "uninstall").returncode == 0
    assert with_resolved.snapshot() == before


def test_a_systemd_resolved_that_knows_no_ports_asks_the_forwarder(
    bed: Bed, scene: Scene, with_resolved: Machine
) -> None:
    before = with_resolved.snapshot()
    install = [*_install("systemd-resolved before 246", "docker", bed.address, DNS_PORT), "1000"]
    assert with_resolved.run(install).returncode == 0
    assert found(with_resolved, "db.shop.docker") == [bed.address_of(scene.db)] * 2
    assert Dconnect(bed, with_resolved).run("dns", "uninstall").returncode == 0
    assert with_resolved.snapshot() == before


def _install(manager: str, suffix: str, host: str, port: int) -> list[str]:
    """The command that installs and is killed before the change whose number is to be added."""
    return [sys.executable, "-P", str(_KILLED), manager, suffix, host, str(port)]


def assert_every_kill_can_be_undone(bed: Bed, on: Machine, manager: str, changes: range) -> None:
    before = on.snapshot()
    codes = []
    for change in changes:
        codes.append(on.run([*_install(manager, "docker", bed.address, DNS_PORT), str(change)]).returncode)
        dconnect = Dconnect(bed, on)
        assert dconnect.run("dns", "uninstall").returncode == 0
        wait_for("a forwarder without a word to end", lambda: on.snapshot().keys() <= before.keys(), 5)
        assert on.snapshot() == before, change
    assert codes[0] == codes[len(codes) // 2] == -signal.SIGKILL
    assert codes[-1] == 0  # not killed any more


def test_after_a_kill_in_the_middle_nothing_is_left_of_a_link(bed: Bed, with_resolved: Machine) -> None:
    assert_every_kill_can_be_undone(bed, with_resolved, "systemd-resolved", range(1, 25, 3))


# -- /etc/resolv.conf ------------------------------------------------------------------------------


def test_the_last_resort_finds_containers_and_leaves_other_names_to_the_others(
    bed: Bed, scene: Scene, plain: Machine
) -> None:
    before = plain.snapshot()
    dconnect = installed(bed, plain)
    address = bed.address_of(scene.db)
    assert found(plain, "db.shop.docker") == [address] * 2
    assert found(plain, name_of("192.0.2.7")) == ["192.0.2.7"] * 2
    assert address in plain.run(["busybox", "nslookup", "db.shop.docker"]).stdout
    for name, means in (("db.shop.docker", address), (name_of("192.0.2.7"), "192.0.2.7")):
        assert f"PING {name} ({means})" in plain.run(["busybox", "ping", "-c1", "-W1", name]).stdout
    assert json.loads(dconnect("dns", "status", "--json"))["works"] is True
    # Answers too large for a datagram come by TCP, and dig is told what our server says of others' names.
    assert address in plain.run(["dig", "+tcp", "+short", "db.shop.docker"]).stdout
    assert "REFUSED" in plain.run(["dig", name_of("192.0.2.7")]).stdout
    dconnect("dns", "uninstall")
    assert plain.snapshot() == before
    assert (plain.root / "etc/resolv.conf").read_text() == _PLAIN


@needs("golang-go", "go")
def test_go_s_own_resolver_goes_on_to_the_next_server_too(
    bed: Bed, scene: Scene, plain: Machine, tmp_path: Path
) -> None:
    shutil.copy(go_program(_PROGRAMS / "lookup.go", tmp_path), plain.root / "usr/local/bin/lookup")
    dconnect = installed(bed, plain)
    try:
        looked_up = plain.run(["lookup", "db.shop.docker", name_of("192.0.2.7")])
    finally:
        dconnect("dns", "uninstall")
    assert looked_up.stdout.split() == [bed.address_of(scene.db), "192.0.2.7"]


def test_without_the_forwarder_other_names_are_found_as_before(bed: Bed, plain: Machine) -> None:
    before = plain.snapshot()
    dconnect = installed(bed, plain)
    [forwarder] = plain.snapshot().keys() - before.keys() - {"/var/lib/dconnect", "/var/lib/dconnect/host.json"}
    assert forwarder.startswith("process ")
    status = Path("/proc", forwarder.split()[1], "status").read_text()
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "CapEff:\t0000000000000000" in status
    os.kill(int(forwarder.split()[1]), signal.SIGKILL)
    assert found(plain, name_of("192.0.2.9")) == ["192.0.2.9"] * 2
    result = dconnect.run("dns", "status")
    assert result.returncode == 1
    assert "The forwarder does not run any more." in result.stdout
    assert "It does NOT work now" in result.stdout
    result = dconnect.run("dns", "install")  # it mends
    assert result.returncode == 0, result.stderr
    dconnect("dns", "uninstall")
    assert plain.snapshot() == before


def test_while_the_agent_is_away_other_names_are_found_at_once(bed: Bed, plain: Machine) -> None:
    before = plain.snapshot()
    assert plain.run([*_install("/etc/resolv.conf", "docker", bed.address, 1), "1000"]).returncode == 0
    begun = time.monotonic()
    assert found(plain, name_of("192.0.2.10")) == ["192.0.2.10"] * 2
    assert time.monotonic() - begun < 4  # libc would wait five seconds for a server that is silent
    assert Dconnect(bed, plain).run("dns", "uninstall").returncode == 0
    assert plain.snapshot() == before


def test_after_a_kill_in_the_middle_nothing_is_left_of_the_last_resort(bed: Bed, plain: Machine) -> None:
    assert_every_kill_can_be_undone(bed, plain, "/etc/resolv.conf", range(9))


# -- NetworkManager's dnsmasq ----------------------------------------------------------------------


def test_dnsmasq_reads_what_is_written_for_network_manager(bed: Bed, scene: Scene, plain: Machine) -> None:
    [file] = [
        step
        for step in plan(Wish(Manager.NETWORK_MANAGER, ("docker", "docker.test"), Target(bed.address, DNS_PORT)))
        if isinstance(step, File)
    ]
    folder = plain.root / file.path.lstrip("/")
    folder.parent.mkdir(parents=True)
    folder.write_text(file.text)
    options = ["--conf-file=/dev/null", f"--conf-dir={Path(file.path).parent}"]
    assert "syntax check OK" in plain.run(["dnsmasq", "--test", *options]).stderr
    # As NetworkManager starts it, but for the bus.
    words = ["--keep-in-foreground", "--no-hosts", "--no-resolv", "--bind-interfaces", "--user=root", "--pid-file="]
    command = ["dnsmasq", *options, *words, "--listen-address=127.0.0.1", f"--server={bed.address}"]
    with plain.popen(command) as process:
        try:
            dig = ["dig", "@127.0.0.1", "+short", "+tries=1", "+time=2"]
            wait_for("dnsmasq", lambda: bool(plain.run([*dig, name_of("192.0.2.11")]).stdout.startswith("192.")), 10)
            assert plain.run([*dig, "db.shop.docker"]).stdout.split() == [bed.address_of(scene.db)]
            assert plain.run([*dig, "vault.docker.test"]).stdout.split() == [bed.address_of(scene.vault)]
        finally:
            process.kill()
            folder.unlink()


# -- with and without what it needs ------------------------------------------------------------------


def test_only_root_may_and_a_dry_run_needs_nobody(bed: Bed, plain: Machine) -> None:
    before = plain.snapshot()
    dconnect = Dconnect(bed, plain)
    shown = dconnect("dns", "install", "--dry-run")
    assert "put nameserver 127.0.0.153 first in /etc/resolv.conf" in shown
    assert f"start a forwarder on 127.0.0.153 port 53 to {bed.address}:{DNS_PORT}" in shown
    assert plain.snapshot() == before


def test_uninstall_needs_no_engine_and_install_needs_an_agent(bed: Bed, plain: Machine) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nowhere.sock"}
    dconnect = Dconnect(bed, plain)
    assert plain.run(dconnect.command("dns", "install"), env=nowhere).returncode == 4
    before = plain.snapshot()
    installed(bed, plain)
    result = plain.run(dconnect.command("dns", "uninstall"), env=nowhere)
    assert (result.returncode, result.stdout) == (0, "This host's resolver is as it was before.\n")
    result = plain.run(dconnect.command("dns", "uninstall"), env=nowhere)
    assert (result.returncode, result.stdout) == (0, "Nothing was installed on this host.\n")
    assert plain.snapshot() == before


def test_down_undoes_what_leads_to_the_agent(bed: Bed, agent: Dconnect, plain: Machine) -> None:
    before = plain.snapshot()
    dconnect = installed(bed, plain)
    try:
        assert "This host's resolver is as it was before." in dconnect("down")
        assert plain.snapshot() == before
        result = dconnect.run("dns", "install")
        assert result.returncode == 3
        assert "dconnect is not running" in result.stderr
    finally:
        agent.up()
