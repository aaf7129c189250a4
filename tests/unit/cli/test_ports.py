from __future__ import annotations

import pytest

from dconnect.cli.ports import MAX_TRIES, candidates, taken

# As the engines say it; each is quoted from dockerd's or Docker Desktop's own output.
ALLOCATED = (
    "driver failed programming external connectivity on endpoint dconnect (5f1a): "
    "Bind for 127.0.0.1:{port} failed: port is already allocated"
)
LISTEN = (
    "driver failed programming external connectivity on endpoint dconnect (5f1a): "
    "Error starting userland proxy: listen {kind} 127.0.0.1:{port}: bind: address already in use"
)
ENGINE_28 = (
    "failed to set up container networking: driver failed programming external connectivity on endpoint dconnect "
    "(5f1a): failed to bind host port for 127.0.0.1:{port}:172.17.0.2:{inside}/tcp: address already in use"
)
DESKTOP = (
    "Ports are not available: exposing port TCP 127.0.0.1:{port} -> 127.0.0.1:0: "
    "listen tcp 127.0.0.1:{port}: bind: An attempt was made to access a socket in a way forbidden by its access "
    "permissions."
)
DESKTOP_SHORT = "Ports are not available: exposing port TCP [::1]:{port} -> 127.0.0.1:0: unexpected status: 500"


@pytest.mark.parametrize("reason", [ALLOCATED, LISTEN, ENGINE_28, DESKTOP, DESKTOP_SHORT])
@pytest.mark.parametrize(("port", "which"), [(2080, "front"), (2053, "dns")])
def test_the_taken_port_is_read_from_the_refusal(reason: str, port: int, which: str) -> None:
    inside = {"front": 1080, "dns": 1053}[which]
    assert taken(reason.format(port=port, inside=inside, kind="udp4"), front=2080, dns=2053) == which


def test_the_port_inside_the_container_is_not_taken_for_the_host_port() -> None:
    assert taken(ENGINE_28.format(port=1053, inside=1080), front=1080, dns=1053) == "dns"
    assert taken(ENGINE_28.format(port=1080, inside=1080), front=1080, dns=1053) == "front"


def test_another_refusal_is_about_no_port() -> None:
    reason = 'invalid mount config for type "bind": bind source path does not exist: /var/run/docker.sock:1080'
    assert taken(reason, front=1080, dns=1053) is None


def test_a_port_that_was_asked_for_is_the_only_candidate() -> None:
    assert candidates(1234, 5678, 1080) == [1234]


def test_without_a_wish_the_remembered_port_is_tried_before_the_default_and_its_neighbours() -> None:
    assert candidates(None, 5678, 1080) == [5678, *range(1080, 1080 + MAX_TRIES)]
    assert candidates(None, 1081, 1080)[:3] == [1081, 1080, 1082]
    assert candidates(None, None, 1080) == list(range(1080, 1080 + MAX_TRIES))
