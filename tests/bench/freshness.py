"""How soon names follow containers: from Docker's own event to the first right answer.

For each container: ask the name server for its name every millisecond while ``docker start`` runs;
the engine's ``start`` event carries the engine's clock, which in the bed is ours. The same with
``docker kill``, its ``die`` event, and NXDOMAIN.
"""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from dnslib import RCODE, DNSRecord

from bed.client import Client
from bed.dconnect import DNS_PORT, PROXY_PORT
from bed.session import Bed

COUNT = 100
PAUSE = 0.001
DEADLINE = 10.0


class Events:
    """The engine's events as they come."""

    def __init__(self, bed: Bed) -> None:
        words = ["docker", "events", "--filter=type=container", "--format={{json .}}"]
        self._process = bed.host.popen(words)
        self._times: dict[tuple[str, str], int] = {}
        self._thread = threading.Thread(target=self._collect, name="events")
        self._thread.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self._times[event["Actor"]["Attributes"]["name"], event["Action"]] = event["timeNano"]

    def time_of(self, name: str, action: str) -> float:
        """Seconds of the epoch."""
        deadline = time.monotonic() + DEADLINE
        while (name, action) not in self._times:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {action} event of {name}")
            time.sleep(PAUSE)
        return self._times[name, action] / 1e9

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()
        self._thread.join()


@contextmanager
def events_of(bed: Bed) -> Iterator[Events]:
    events = Events(bed)
    try:
        yield events
    finally:
        events.close()


def first_time(holds: Callable[[], bool]) -> float:
    """Poll until something holds; the time of that, in seconds of the epoch."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {DEADLINE} s")
        time.sleep(PAUSE)
    return time.time()


def ask(asker: socket.socket, name: str) -> DNSRecord:
    """One query; lost answers are asked for again by the caller."""
    query = DNSRecord.question(name)
    asker.send(query.pack())
    with suppress(TimeoutError):
        while True:
            answer = DNSRecord.parse(asker.recv(4096))
            if answer.header.id == query.header.id:
                return answer
    return query


def reached(client: Client, name: str) -> bool:
    try:
        return client.get(f"http://{name}/").code == 200
    except OSError:
        return False


def measure(bed: Bed, count: int = COUNT) -> dict[str, list[float]]:
    """Milliseconds of every container; the agent must be up."""
    names = [f"fresh-{number}" for number in range(count)]
    for name in names:
        bed.docker("create", "--name", name, bed.busybox_image)
    client = Client(bed.host, bed.address, PROXY_PORT)
    found: dict[str, list[float]] = {"start to DNS": [], "start to proxy": [], "die to NXDOMAIN": []}
    with events_of(bed) as events, bed.host.socket(kind=socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.2)
        asker.connect((bed.address, DNS_PORT))
        for name in names:
            starter = threading.Thread(target=bed.docker, args=("start", name))
            starter.start()
            named = first_time(lambda name=name: bool(ask(asker, f"{name}.docker").rr))  # type: ignore[misc]
            page = first_time(lambda name=name: reached(client, name))  # type: ignore[misc]
            starter.join()
            begun = events.time_of(name, "start")
            found["start to DNS"].append((named - begun) * 1000)
            found["start to proxy"].append((page - begun) * 1000)
        for name in names:
            killer = threading.Thread(target=bed.docker, args=("kill", name))
            killer.start()
            gone = first_time(
                lambda name=name: ask(asker, f"{name}.docker").header.rcode == RCODE.NXDOMAIN  # type: ignore[misc]
            )
            killer.join()
            found["die to NXDOMAIN"].append((gone - events.time_of(name, "die")) * 1000)
    bed.docker("rm", "--force", *names)
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    """Distribution in milliseconds."""
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), 1),
        "p90": round(ordered[int(len(ordered) * 0.9)], 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "max": round(ordered[-1], 1),
    }
