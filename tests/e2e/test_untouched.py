"""Users' networks stay theirs: no endpoint of ours, and compose comes and goes as without us."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bed.client import Client
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

ROUNDS = 20
OURS = {"dconnect", "dconnect-dialer"}
COMPOSE = """
version: "3"
services:
  front:
    image: {image}
    networks: [one, two]
  back:
    image: {image}
    networks: [two]
networks:
  one: {{}}
  two: {{internal: true}}
"""


def endpoints(bed: Bed) -> dict[str, set[str]]:
    """Network → names of the containers with an endpoint on it; the engine's own networks left out."""
    found: dict[str, set[str]] = {}
    for network in bed.docker("network", "ls", "--quiet", "--filter=type=custom").split():
        details = json.loads(bed.docker("network", "inspect", network))[0]
        found[details["Name"]] = {endpoint["Name"] for endpoint in details["Containers"].values()}
    return found


@contextmanager
def watched(bed: Bed) -> Iterator[list[str]]:
    """Collects, all along, every endpoint of ours that the engine tells of on a network other than its own."""
    ours: list[str] = []
    events = bed.host.popen(
        ["docker", "events", "--filter=type=network", "--filter=event=connect", "--format={{json .}}"]
    )
    agents = {bed.inspect(name)["Id"]: name for name in OURS}

    def collect() -> None:
        assert events.stdout is not None
        for line in events.stdout:
            attributes = json.loads(line)["Actor"]["Attributes"]
            if attributes["container"] in agents and attributes["name"] not in ("bridge", "host"):
                ours.append(f"{agents[attributes['container']]} on {attributes['name']}")

    thread = threading.Thread(target=collect, name="events")
    thread.start()
    try:
        yield ours
    finally:
        events.terminate()
        events.wait()
        thread.join()
        for stream in (events.stdout, events.stderr):
            if stream is not None:
                stream.close()


def test_no_network_of_the_users_has_an_endpoint_of_ours(
    bed: Bed, scene: Scene, agent: Dconnect, client: Client
) -> None:
    with watched(bed) as ours:
        for name in ("plain", "web", "db", "vault", "six"):
            assert client.get(f"http://{name}/").code == 200
        found = endpoints(bed)
        assert set(found) == {"shop_front", "shop_back", "vault_net", "six_net"}
        assert not OURS & set().union(*found.values())
    assert ours == []


def test_compose_comes_and_goes_twenty_times(bed: Bed, agent: Dconnect, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(COMPOSE.format(image=bed.busybox_image))
    compose = ["docker-compose", "--file", str(file), "--project-name", "rounds", "--no-ansi"]
    before = set(endpoints(bed))
    with watched(bed) as ours:
        for number in range(ROUNDS):
            up = bed.host.run([*compose, "up", "--detach"])
            assert up.returncode == 0, f"round {number}: {up.stderr}"
            # Traffic on both networks, as a user would have it when he types down.
            assert [client.get(f"http://{name}.rounds/").code for name in ("front", "back")] == [200, 200]
            assert not OURS & set().union(*endpoints(bed).values())
            down = bed.host.run([*compose, "down", "--timeout=0"])
            assert down.returncode == 0, f"round {number}: {down.stderr}"
            assert set(endpoints(bed)) == before, f"round {number} left a network"
    assert ours == []
