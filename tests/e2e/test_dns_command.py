"""``dconnect dns`` by the agent and, where none runs, by the engine itself: the same answers."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

NOTE = "dconnect: no agent runs on DOCKER_HOST, so this is what the engine itself says.\n"


@pytest.fixture(scope="module", params=["the engine", "the agent"])
def dconnect(request: pytest.FixtureRequest, bed: Bed, scene: Scene) -> Iterator[Dconnect]:
    made = Dconnect(bed)
    if request.param == "the agent":
        made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def note(dconnect: Dconnect, request: pytest.FixtureRequest) -> str:
    """What stands on stderr before everything else."""
    return "" if "the agent" in request.node.name else NOTE


def test_names_and_addresses_are_looked_up_both_ways(bed: Bed, scene: Scene, dconnect: Dconnect, note: str) -> None:
    address = bed.address_of(scene.db)
    for name in ("shop_db_1", "db.shop", "db.shop.docker"):
        result = dconnect.run("dns", name)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{address}\n", note)
    names = dconnect.run("dns", address).stdout.split()
    assert {"shop_db_1.docker", "db.shop.docker"} <= set(names)
    [found] = json.loads(dconnect.run("dns", "--json", address).stdout)
    assert found["containers"] == ["shop_db_1"]


def test_records_of_a_type(bed: Bed, scene: Scene, dconnect: Dconnect) -> None:
    def data(*words: str) -> list[str]:
        return sorted(dconnect("dns", *words).splitlines())

    assert data("--type=srv", "_http._tcp.plain") == ["0 0 80 plain.docker."]
    assert data("--type=ptr", bed.address_of(scene.plain)) == ["plain.docker."]
    assert data("--type=AAAA", "six.docker") == [bed.address_of(scene.six, version=6)]
    assert data("--type=txt", "db.shop")[0].startswith('"container=shop_db_1","image=dconnect-bed/target')
    both = [bed.address_of(scene.web, network) for network in ("shop_front", "shop_back")]
    shown = json.loads(dconnect("dns", "--type=a", "--json", "1.web.shop"))
    assert sorted(each["data"] for each in shown) == sorted(both)
    assert {(each["name"], each["type"], each["ttl"]) for each in shown} == {("1.web.shop.docker", "A", 1)}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nobody"], 5, "No container is called nobody"),
        (["192.0.2.1"], 5, "192.0.2.1"),
        (["--type=A", "nobody"], 5, "No container is called nobody"),
        (["--type=AAAA", "plain"], 1, "plain.docker exists and has no AAAA record."),
        (["--type=nonsense", "plain"], 2, "--type 'nonsense' is no record type"),
        (["--type=A"], 2, "--type needs a name"),
        (["--watch", "plain"], 2, "--watch shows the table"),
    ],
)
def test_failures_are_told_by_exit_code_and_sentence(
    scene: Scene, dconnect: Dconnect, words: list[str], code: int, says: str
) -> None:
    result = dconnect.run("dns", *words)
    assert (result.returncode, result.stdout) == (code, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_the_table_is_shown_anew_when_a_container_comes(bed: Bed, scene: Scene, dconnect: Dconnect) -> None:
    with bed.host.popen(dconnect.command("dns", "--watch")) as process:
        assert process.stdout is not None
        try:
            before = [process.stdout.readline()]
            while b"vault" not in before[-1]:
                before.append(process.stdout.readline())
            bed.target("latecomer")
            line = b""
            while not line.startswith(b"latecomer"):
                line = process.stdout.readline()
                assert line, process.communicate()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert b"Traceback" not in process.communicate()[1]
        finally:
            process.kill()
            bed.docker("rm", "--force", "latecomer")
    assert not any(each.startswith(b"latecomer") for each in before)
