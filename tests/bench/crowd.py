"""A crowd: thousands of idle relays, hundreds of busy ones, and somebody who comes newly meanwhile."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from bench.agent import agent, descriptors, died, left_after, memory, workers
from bench.load import Reading, Way
from bench.programs import Site

IDLE, BUSY, SECONDS = 10_000, 500, 10.0
PER_SECOND = 10
"""New requests meanwhile."""
WORKERS_MIB = 64.0
"""All workers together may need this, with the whole crowd there."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What was seen."""

    idle: int
    busy: int
    seconds: float
    failures: int
    """Of idle, busy and new connections together."""
    died: list[str]
    """Processes of the agent that did not live through it."""
    alone_us: dict[str, float]
    """Latency of a new request without the crowd: connect, handshake, one byte there and back."""
    request_us: dict[str, float]
    """The same with it."""
    busy_us: dict[str, float]
    """Of 64 bytes there and back on a busy relay."""
    busy_per_second: float
    """Such messages, of all busy relays together."""
    rss_before_mib: dict[str, float]
    rss_mib: dict[str, float]
    """Of each process, with the crowd there."""
    descriptors_before: dict[str, int]
    descriptors: dict[str, int]
    descriptors_left: dict[str, int]
    """What was not given back in time, by process."""

    @property
    def workers_mib(self) -> float:
        return workers(self.rss_mib)

    def to_json(self) -> dict[str, Any]:
        whole = round(sum(self.rss_mib.values()), 1)
        return asdict(self) | {"workers_rss_mib": self.workers_mib, "agent_rss_mib": whole}

    def sentence(self) -> str:
        """For a person."""
        new, alone = (
            f"{times['p50'] / 1000:.1f} ms, p99 {times['p99'] / 1000:.1f} ms"
            for times in (self.request_us, self.alone_us)
        )
        whole, left = sum(self.rss_mib.values()), sum(self.descriptors_left.values())
        return (
            f"{self.idle:,} idle and {self.busy:,} busy relays: {self.failures} failures; a new request takes {new}"
            f" (alone {alone}); workers {self.workers_mib} MiB, the whole agent {whole:.1f} MiB;"
            f" {left} descriptors left"
        )


def _latency(reading: Reading) -> dict[str, float]:
    return {"p50": reading.p50, "p99": reading.p99}


def measure(site: Site, way: Way, *, idle: int = IDLE, busy: int = BUSY, seconds: float = SECONDS) -> Crowd:
    """Let the crowd come and go; the agent is up and has no other clients.

    Raises: BedError when the crowd cannot be made or a busy relay breaks.
    """
    bed, load = site.bed, site.load
    alone = load.measure(way, "fresh", PER_SECOND, seconds)
    before = agent(bed)
    with load.hold(way, "idle", idle) as held, ThreadPoolExecutor(2) as pool:
        all_busy = pool.submit(load.measure, way, "rtt", busy, seconds)
        new = pool.submit(load.measure, way, "fresh", PER_SECOND, seconds)
        time.sleep(seconds / 2)
        there = agent(bed)
        busy_seen, new_seen = all_busy.result(), new.result()
        last = held.let_go()
    left = left_after(bed, before)
    return Crowd(
        idle=idle,
        busy=busy,
        seconds=seconds,
        failures=alone.failures + new_seen.failures + idle - last.total,
        died=died(before, agent(bed)),
        alone_us=_latency(alone),
        request_us=_latency(new_seen),
        busy_us=_latency(busy_seen),
        busy_per_second=busy_seen.per_second,
        rss_before_mib=memory(before),
        rss_mib=memory(there),
        descriptors_before=descriptors(before),
        descriptors=descriptors(there),
        descriptors_left=left,
    )
