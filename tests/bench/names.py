"""DNS beside dnsmasq and unbound: rate, latency, processor time and memory.

Also while the zone changes, and while the front door relays all that it can.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bed.client import Client
from bed.dconnect import PROXY_PORT
from bed.namespace import BedError
from bed.processes import Clock, total
from bed.session import Bed
from bench.figures import OURS, Claim, Figure, Run
from bench.load import Way
from bench.programs import Site
from bench.resolvers import Resolvers, Server

CLIENTS, OUTSTANDING = 8, 100
"""dnsperf's; so many outstanding keep every server busy, and fit into a socket's buffer, which 500 do not."""
ASKED_PER_SECOND = 10_000
"""Where latency is measured: a rate that leaves every server idle most of the time."""
CHANGE_SECONDS = 0.1
STREAMS = 8
CHANGING = "names-changing"
WARM_UP = 0.5
"""Seconds of dnsperf before anything is counted: each worker keeps its own answers, and is to have seen all names."""
LOAD_WARM_UP = 0.2
"""Seconds of the load generator that it does not count."""
_MIB = 2**20


def _figure(name: str, unit: str, digits: int = 0) -> Figure:
    return Figure(name, unit, None, lambda *_: 0, digits)


ONE_CORE = _figure("one core", "queries/s")
ONE_CORE_CPU = _figure("CPU, one core", "µs/query", 1)
ALL_CORES = _figure("all cores", "queries/s")
ALL_CORES_CPU = _figure("CPU, all cores", "µs/query", 1)
P50 = _figure("10,000 queries/s, p50", "µs")
P99 = _figure("10,000 queries/s, p99", "µs")
BESIDE = _figure(f"beside {STREAMS} streams", "queries/s")
STREAMS_BESIDE = _figure(f"{STREAMS} streams meanwhile", "Gbit/s", 1)
STREAMS_ALONE = _figure(f"{STREAMS} streams, no queries", "Gbit/s", 1)
CHANGES = _figure("changing zone", "queries/s")
CHANGES_P50 = _figure("changing zone, 10,000 queries/s, p50", "µs")
CHANGES_P99 = _figure("changing zone, 10,000 queries/s, p99", "µs")
MEMORY = _figure("memory, PSS", "MiB", 1)
FIGURES = (
    *(ONE_CORE, ALL_CORES, P50, P99, CHANGES, CHANGES_P50, CHANGES_P99),
    *(BESIDE, STREAMS_BESIDE, STREAMS_ALONE, ONE_CORE_CPU, ALL_CORES_CPU, MEMORY),
)
CLAIMS = (
    Claim(ONE_CORE.name, ("dnsmasq",), least=0.9),
    Claim(ONE_CORE.name, ("unbound",), least=1.0),
    Claim(ALL_CORES.name, ("dnsmasq",), least=1.0),
    Claim(ALL_CORES.name, ("unbound",), least=1.0),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What dnsperf saw."""

    sent: int
    failed: int
    """Without an answer, or with another code than NOERROR."""
    per_second: float
    p50: float = 0
    """Microseconds; like p99 measured only at a limited rate."""
    p99: float = 0


def ask(resolvers: Resolvers, server: Server, seconds: float, rate: int = 0) -> Asked:
    """One run of dnsperf over all names; ``rate`` limits it, in queries per second.

    Raises: BedError.
    """
    bed = resolvers.bed
    words = ["dnsperf", "-s", bed.address, "-p", str(server.port), "-d", str(resolvers.queries), "-l", str(seconds)]
    words += ["-c", str(CLIENTS), "-T", "1", "-q", str(OUTSTANDING)]
    words += ["-Q", str(rate), "-v"] if rate else []
    return parse(bed.host.run(words, check=True, timeout=seconds + 30).stdout)


def parse(text: str) -> Asked:
    """What dnsperf printed.

    Raises: BedError when that is no result.
    """
    sent = re.search(r"Queries sent: +(\d+)", text)
    rate = re.search(r"Queries per second: +([\d.]+)", text)
    if not sent or not rate:
        raise BedError(f"dnsperf gave no result: {text[-500:]}")
    good = re.search(r"NOERROR (\d+) \(", text)
    failed = int(sent[1]) - (int(good[1]) if good else 0)
    times = sorted(float(took) * 1e6 for took in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", text, re.MULTILINE))
    if not times:
        return Asked(int(sent[1]), failed, float(rate[1]))
    return Asked(int(sent[1]), failed, float(rate[1]), statistics.median(times), times[int(len(times) * 0.99)])


class Changes:
    """One container that has another name every tenth of a second."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._stop = threading.Event()
        self.count, self.seconds = 0, 0.0
        bed.docker("run", "--detach", f"--name={CHANGING}", bed.busybox_image)
        self._id = bed.inspect(CHANGING)["Id"]

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Within the block; an engine that is slower than that is asked as fast as it answers."""
        self._stop.clear()
        begun, before = time.monotonic(), self.count
        with ThreadPoolExecutor(1) as pool:
            changing = pool.submit(self._change, begun - before * CHANGE_SECONDS)
            try:
                yield
            finally:
                self._stop.set()
        changing.result()
        self.seconds += time.monotonic() - begun

    def _change(self, begun: float) -> None:
        while not self._stop.wait(max(0.0, begun + self.count * CHANGE_SECONDS - time.monotonic())):
            self._bed.engine.post(f"/containers/{self._id}/rename?name={CHANGING}-{self.count}")
            self.count += 1

    @property
    def per_second(self) -> float:
        return round(self.count / self.seconds, 1)


class Names:
    """The measurement."""

    def __init__(self, site: Site, way: Way, seconds: float) -> None:
        """Start the servers; ``way`` leads through dconnect's front door.

        Raises: BedError.
        """
        self._site = site
        self._way = way
        self._seconds = seconds
        self.resolvers = Resolvers(site.bed)
        self.changes = Changes(site.bed)
        self.run = Run(list(self.resolvers.servers), FIGURES, CLAIMS)
        self.failed_changing = 0
        self._zones = 0
        """Made of the changes."""

    def measure(self, rounds: int) -> None:
        """All rounds, then memory; a line for each round shows how it goes."""
        for number in range(rounds):
            self._confine(1)
            for program in self.run.programs:
                self._saturate(program, ONE_CORE, ONE_CORE_CPU)
            self._confine(len(os.sched_getaffinity(0)))
            for program in self.run.programs:
                self._saturate(program, ALL_CORES, ALL_CORES_CPU)
                self._latency(program, P50, P99)
                self._beside_streams(program)
            alone = self._site.load.measure(self._way, "down", STREAMS, self._seconds)
            self._add(STREAMS_ALONE, OURS, alone.per_second * 8 / 1e9)
            self._change()
            last = [f"{program} {self.run.values[ONE_CORE.name][program][-1]:,.0f}" for program in self.run.programs]
            print(f"round {number + 1} of {rounds}  one core, queries/s: {', '.join(last)}", flush=True)
        for program, server in self.resolvers.servers.items():
            self._add(MEMORY, program, total(self._site.bed, (server.container,)).pss / _MIB)

    def _confine(self, cores: int) -> None:
        self.resolvers.confine(cores)
        for program in self.run.programs:
            self._ask(program, WARM_UP)

    def _add(self, figure: Figure, program: str, value: float) -> None:
        self.run.values[figure.name][program].append(value)

    def _ask(self, program: str, seconds: float, rate: int = 0) -> Asked:
        asked = ask(self.resolvers, self.resolvers.servers[program], seconds, rate)
        self.run.failures[program] += asked.failed
        return asked

    def _saturate(self, program: str, rate: Figure, cost: Figure) -> None:
        clock = Clock(self._site.bed, (self.resolvers.servers[program].container,))
        before = clock.seconds()
        asked = self._ask(program, self._seconds)
        self._add(rate, program, asked.per_second)
        self._add(cost, program, (clock.seconds() - before) / asked.sent * 1e6)

    def _latency(self, program: str, p50: Figure, p99: Figure) -> None:
        asked = self._ask(program, self._seconds, ASKED_PER_SECOND)
        self._add(p50, program, asked.p50)
        self._add(p99, program, asked.p99)

    def _beside_streams(self, program: str) -> None:
        """Through dconnect's front door, whoever answers the queries: the machine has its processors only once."""
        with ThreadPoolExecutor(1) as pool:
            streams = pool.submit(self._site.load.measure, self._way, "down", STREAMS, self._seconds)
            self._add(BESIDE, program, self._ask(program, self._seconds + LOAD_WARM_UP).per_second)
        self._add(STREAMS_BESIDE, program, streams.result().per_second * 8 / 1e9)

    def _change(self) -> None:
        """What does not change is asked for, and must be answered as ever."""
        before, serial = self.run.failures[OURS], self._serial()
        with self.changes.going_on():
            self._add(CHANGES, OURS, self._ask(OURS, self._seconds).per_second)
            self._latency(OURS, CHANGES_P50, CHANGES_P99)
            self.run.failures[OURS] += self.resolvers.wrong(self.resolvers.servers[OURS])
        self.failed_changing += self.run.failures[OURS] - before
        self._zones += self._serial() - serial

    def _serial(self) -> int:
        """Number of the newest zone that all workers serve."""
        status = Client(self._site.bed.host, self._site.bed.address, PROXY_PORT).own("/api/v1/status")
        return min(int(worker["serial"]) for worker in status["workers"])

    def _zones_per_second(self) -> float:
        return round(self._zones / self.changes.seconds, 1)

    def claims(self) -> list[dict[str, Any]]:
        """As ``Run.claims``, and one about the changes."""
        words = f"changing zone ({self._zones_per_second()} zones/s): failed answers at most 0"
        return [
            *self.run.claims(),
            {"claim": words, "ratio": self.failed_changing, "holds": not self.failed_changing},
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "versions": self.resolvers.versions | {"dnsperf": dnsperf_version()},
            "names": len(self.resolvers.names),
            "clients": CLIENTS,
            "outstanding": OUTSTANDING,
            "changes_per_second": self.changes.per_second,
            "zones_per_second": self._zones_per_second(),
            "figures": self.run.figures(),
            "failed_answers": self.run.failures,
            "claims": self.claims(),
        }


def dnsperf_version() -> str:
    """Of the Debian package.

    Raises: BedError when it is missing.
    """
    words = ["dpkg-query", "--show", "--showformat=${Version}", "dnsperf"]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    if result.returncode:
        raise BedError("dnsperf is missing; run: sh tests/bed/prerequisites.sh dnsperf")
    return result.stdout
