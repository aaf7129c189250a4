"""``up --dns-forward``: other domains' names, asked of the engine's name server, beside containers' names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bed.dconnect import DNS_PORT, Dconnect
from bed.name_server import name_of, name_server
from bed.scene import Scene
from bed.session import Bed


@pytest.fixture(scope="module")
def forwarding(bed: Bed, scene: Scene) -> Iterator[Dconnect]:
    dconnect = Dconnect(bed)
    dconnect.up("--dns-forward=auto")
    try:
        yield dconnect
    finally:
        dconnect.down()


def dig(bed: Bed, *words: str) -> str:
    return bed.host.run(["dig", "-p", str(DNS_PORT), f"@{bed.address}", "+tries=1", "+time=8", *words]).stdout


def test_names_of_containers_and_of_others_come_from_one_server(bed: Bed, scene: Scene, forwarding: Dconnect) -> None:
    with name_server(bed.engine_netns):
        for transport in ("+notcp", "+tcp"):
            assert dig(bed, "+short", transport, name_of("192.0.2.7")).split() == ["192.0.2.7"]
            assert dig(bed, "+short", transport, "AAAA", name_of("2001:db8::7")).split() == ["2001:db8::7"]
            assert dig(bed, "+short", transport, "db.shop.docker").split() == [bed.address_of(scene.db)]
        assert "status: NXDOMAIN" in dig(bed, "nobody.docker")


def test_without_a_server_other_names_fail_and_containers_do_not(bed: Bed, scene: Scene, forwarding: Dconnect) -> None:
    assert "status: SERVFAIL" in dig(bed, name_of("192.0.2.8"))
    assert dig(bed, "+short", "db.shop.docker").split() == [bed.address_of(scene.db)]


def test_status_tells_where_other_names_come_from(forwarding: Dconnect) -> None:
    assert "other domains from the engine's name servers" in forwarding("status")


def test_an_option_that_is_no_server_is_refused(bed: Bed) -> None:
    result = Dconnect(bed).run("up", "--dns-forward=dns.example")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--dns-forward 'dns.example' is neither auto nor an address" in result.stderr
