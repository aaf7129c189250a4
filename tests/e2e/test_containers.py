"""Our two containers as the engine made them: what they may, what they see, what is in their image."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bed.dconnect import DNS_PORT, PROXY_PORT, Dconnect
from bed.namespace import BedError
from bed.session import Bed
from bed.waiting import wait_for

AGENT, DIALER = "dconnect", "dconnect-dialer"
BOTH = pytest.mark.parametrize("container", [AGENT, DIALER])
NET_RAW = 1 << 13
"""linux/capability.h"""
HEALTH_DEADLINE = 90.0
"""The first check comes after a minute, on engines before 25."""
RUN = ("volume", "dconnect-run", "/run/dconnect", True)

pytestmark = pytest.mark.usefixtures("agent")


def process_status(bed: Bed, container: str) -> dict[str, str]:
    """/proc/1/status of a container."""
    lines = bed.docker("exec", container, "cat", "/proc/1/status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@BOTH
def test_rights_are_dropped_on_paper_and_in_the_kernel(bed: Bed, container: str) -> None:
    host = bed.inspect(container)["HostConfig"]
    assert (host["CapDrop"], host["Privileged"], host["ReadonlyRootfs"]) == (["ALL"], False, True)
    assert set(host["SecurityOpt"]) == {"no-new-privileges", "label=disable"}
    status = process_status(bed, container)
    assert status["NoNewPrivs"] == "1"
    allowed = 0 if container == AGENT else NET_RAW
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapInh"):
        assert int(status[kind], 16) & ~allowed == 0, kind
    if container == DIALER:
        assert int(status["CapEff"], 16) == NET_RAW


@BOTH
@pytest.mark.parametrize("place", ["/here", "/opt/dconnect/here", "/etc/here"])
def test_nothing_can_be_written_into_the_root(bed: Bed, container: str, place: str) -> None:
    with pytest.raises(BedError, match="Read-only file system"):
        bed.docker("exec", container, "touch", place)


def mounts(bed: Bed, container: str) -> set[tuple[Any, ...]]:
    found = bed.inspect(container)["Mounts"]
    return {(each["Type"], each.get("Name") or each["Source"], each["Destination"], each["RW"]) for each in found}


def test_mounts_are_the_socket_and_the_volume_and_the_dialer_has_no_socket(bed: Bed) -> None:
    socket = ("bind", bed.docker_host.removeprefix("unix://"), "/var/run/docker.sock", True)
    assert mounts(bed, AGENT) == {socket, RUN}
    assert mounts(bed, DIALER) == {RUN}


def test_ports_are_published_on_the_bind_address_only(bed: Bed) -> None:
    published = bed.inspect(AGENT)["NetworkSettings"]["Ports"]
    wanted = {"1080/tcp": PROXY_PORT, "1080/udp": PROXY_PORT, "1053/udp": DNS_PORT, "1053/tcp": DNS_PORT}
    assert published == {port: [{"HostIp": bed.address, "HostPort": str(host)}] for port, host in wanted.items()}
    for address in ("127.0.0.1", "172.17.0.1"):
        with pytest.raises(ConnectionRefusedError):
            bed.engine_netns.connect(address, PROXY_PORT)
    dialer = bed.inspect(DIALER)
    assert (dialer["HostConfig"]["NetworkMode"], dialer["NetworkSettings"]["Ports"]) == ("host", {})


def test_the_agent_becomes_healthy_and_the_dialer_has_no_check(bed: Bed) -> None:
    took = wait_for("healthy", lambda: bed.inspect(AGENT)["State"]["Health"]["Status"] == "healthy", HEALTH_DEADLINE)
    print(f"healthy after {took:.1f} s")
    assert "Health" not in bed.inspect(DIALER)["State"]


def test_the_image_is_small_and_has_no_compiler(bed: Bed, agent: Dconnect) -> None:
    image, base = (
        json.loads(bed.docker("image", "inspect", name))[0]
        for name in (bed.inspect(AGENT)["Config"]["Image"], bed.base_image)
    )
    print(f"agent image {image['Size'] / 1e6:.1f} MB, of which {base['Size'] / 1e6:.1f} MB are the base")
    assert image["Config"]["Labels"]["dev.dconnect.role"] == "agent"
    assert bed.inspect(DIALER)["Image"] == image["Id"]
    script = "command -v cc gcc g++ clang as ld make cargo; ls -d /build; true"
    assert bed.docker("exec", AGENT, "sh", "-c", f"{{ {script}; }} 2>/dev/null") == ""
