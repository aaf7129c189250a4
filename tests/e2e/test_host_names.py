"""``dconnect dns install`` on a whole Debian machine: its real resolvers find containers, and nothing is left after."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bed.dconnect import DNS_PORT, Dconnect
from bed.machine import Machine, machine, resolved
from bed.name_server import name_of, name_server
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for

_KILLED = Path(__file__).parent / "programs" / "killed_install.py"
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
