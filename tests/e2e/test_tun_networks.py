"""Networks come and go while others work: each route follows at once, and nobody else notices."""

from __future__ import annotations

import json
import re
import signal
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed
from bed.traffic import traffic
from bed.tun import tunnel_of
from bed.waiting import wait_for

UP = ("--tun",)

COUNT = 20
SOON_MS = 200.0
"""From the engine's event to the route, and from the other event to its end; twice that ..."""
BUSY = 2
"""... for so many of all, for the machine is shared and does something else."""
_ROUTE = re.compile(r"^\[(\S+)\] (Deleted )?(172\.30\.\d+\.0/24) dev dconnect0 ", re.MULTILINE)


class Watch:
    """What a program printed until it was ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.said = ""

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self.said = self._process.communicate(timeout=10)[0].decode()


@contextmanager
def watched(bed: Bed, words: list[str]) -> Iterator[Watch]:
    watch = Watch(bed.host.popen(words, env={"TZ": "UTC"}))
    try:
        yield watch
    finally:
        watch.end()


def events_of(bed: Bed, said: str) -> dict[tuple[str, bool], float]:
    """Subnet, and whether it came → when the engine said so, in seconds of the epoch."""
    found = {}
    for event in map(json.loads, said.splitlines()):
        name = event["Actor"]["Attributes"]["name"]
        if event["Action"] in ("create", "destroy") and name.startswith("follow-"):
            subnet = f"172.30.{name.removeprefix('follow-')}.0/24"
            found[subnet, event["Action"] == "create"] = event["timeNano"] / 1e9
    return found


def routes_of(said: str) -> dict[tuple[str, bool], float]:
    """The same of the host's routes."""
    return {
        (subnet, not deleted): datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
        for moment, deleted, subnet in _ROUTE.findall(said)
    }


def test_each_route_follows_its_network_and_other_traffic_feels_nothing(
    bed: Bed, scene: Scene, agent: Dconnect
) -> None:
    names = [f"follow-{number}" for number in range(COUNT)]
    with (
        tunnel_of(bed) as tun,
        watched(bed, ["docker", "events", "--filter=type=network", "--format={{json .}}"]) as events,
        watched(bed, ["ip", "-ts", "monitor", "route"]) as routes,
    ):
        tun.up()
        with traffic(bed.host, bed.address_of(scene.plain)):
            for number, name in enumerate(names):
                bed.docker("network", "create", f"--subnet=172.30.{number}.0/24", name)
            wait_for("all are routed", lambda: f"172.30.{COUNT - 1}.0/24" in tun.routes(), 5)
            for name in names:
                bed.docker("network", "rm", name)
            wait_for("none is", lambda: not any(each.startswith("172.30.") for each in tun.routes()), 5)
        assert tun.status()["link"]["opened"] == 1
    told, followed = events_of(bed, events.said), routes_of(routes.said)
    assert len(told) == len(followed) == 2 * COUNT
    late = sorted((followed[each] - told[each]) * 1000 for each in told)
    print(f"routes followed after {statistics.median(late):.0f} ms, at most {late[-1]:.0f} ms: {late}")
    assert late[-1 - BUSY] <= SOON_MS
    assert late[-1] <= 2 * SOON_MS
