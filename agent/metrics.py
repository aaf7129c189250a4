"""``/metrics``: what the agent knows about itself, in Prometheus' words (``docs/metrics.md`` lists them).

Only control imports this, so that the library's memory is counted once. Workers report plain
counters over the bus; here they get their names, at the moment somebody asks. The counters of
dead workers are in them, those of a dead control are not: Prometheus knows such resets.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dconnect.agent.dialing import DIALER_STATES, STRATEGIES, Strategy
from dconnect.agent.docker.watch import Watcher
from dconnect.agent.links import Links
from dconnect.agent.sessions import CONNECT_BUCKETS
from dconnect.core.inventory import Inventory

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DNS_OUTCOMES = {"cache_hits": "cached"}
"""A resolver's counter → the value of the label ``outcome``, where the words differ."""


class Known(Protocol):
    """What the metrics show; control has it."""

    links: Links
    watcher: Watcher
    engine_version: dict[str, str]
    inventory: Inventory

    @property
    def strategy(self) -> Strategy:
        """How containers are reached."""

    @property
    def dialer_state(self) -> str:
        """The dialer container's state."""


def render(known: Known, version: str, accept: str) -> tuple[bytes, str]:
    """The metrics and their content type, in the best of the formats that the ``Accept`` field names."""
    registry = CollectorRegistry()
    registry.register(_Agent(known, version))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Agent(Collector):
    def __init__(self, known: Known, version: str) -> None:
        self._known = known
        self._version = version

    def describe(self) -> Iterator[Metric]:
        return iter(())  # the registry is made for one answer: nothing can collide

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("dconnect_build", "The agent's version.", {"version": self._version})
        total = self._known.links.tally.total()
        yield from self._connections(total)
        yield from _datagrams(total)
        yield from _dns(total.get("dns", {}))
        yield from self._engine()
        if (gateway := self._known.links.tunnel_report) is not None:
            yield from _tunnel(gateway["tunnel"], total.get("tunnel", {}))
        yield from self._dialer()
        yield from self._processes()

    def _connections(self, total: Mapping[str, Any]) -> Iterator[Metric]:
        accepted = CounterMetricFamily("dconnect_connections", "Clients accepted at the front door.")
        accepted.add_metric((), total.get("accepted", 0))
        yield accepted
        refused = CounterMetricFamily(
            "dconnect_connections_refused", "Connections closed unread, by reason.", labels=("reason",)
        )
        refused.add_metric(("source",), total.get("refused", 0))
        yield refused
        here = GaugeMetricFamily("dconnect_connections_open", "Clients that are here now.", labels=("worker",))
        for report in self._known.links.worker_reports:
            here.add_metric((str(report["index"]),), report.get("open", 0))
        yield here
        pauses = CounterMetricFamily("dconnect_accept_pauses", "How often accepting had to pause.")
        pauses.add_metric((), total.get("pauses", 0))
        yield pauses
        sessions = CounterMetricFamily(
            "dconnect_sessions", "Sessions that have ended, by protocol and outcome.", labels=("front", "outcome")
        )
        for front, outcomes in sorted(total.get("sessions", {}).items()):
            for outcome, count in sorted(outcomes.items()):
                sessions.add_metric((front, outcome), count)
        yield sessions
        moved = CounterMetricFamily(
            "dconnect_transferred_bytes", "Payload relayed; up is towards the container.", labels=("direction",)
        )
        for direction in ("up", "down"):
            moved.add_metric((direction,), total.get(f"bytes_{direction}", 0))
        yield moved
        connects = HistogramMetricFamily(
            "dconnect_connect_duration_seconds", "From the whole request to the connected socket, when it connected."
        )
        counts = list(accumulate(total.get("connects") or [0] * (len(CONNECT_BUCKETS) + 1)))
        bounds = [*map(str, CONNECT_BUCKETS), "+Inf"]
        connects.add_metric((), list(zip(bounds, counts, strict=True)), total.get("connect_seconds", 0.0))
        yield connects

    def _engine(self) -> Iterator[Metric]:
        known, watcher = self._known, self._known.watcher
        workers = GaugeMetricFamily("dconnect_workers", "Workers that report.")
        workers.add_metric((), len(known.links.worker_reports))
        yield workers
        connected = GaugeMetricFamily("dconnect_engine_connected", "Whether the Docker engine is followed now.")
        connected.add_metric((), int(watcher.connected))
        yield connected
        if known.engine_version:
            yield InfoMetricFamily("dconnect_engine", "The Docker engine.", known.engine_version)
        for what, count in (
            ("containers", len(known.inventory.containers)),
            ("networks", len(known.inventory.networks)),
        ):
            size = GaugeMetricFamily(f"dconnect_inventory_{what}", f"{what.capitalize()} known.")
            size.add_metric((), count)
            yield size
        if watcher.updated_at is not None:
            age = GaugeMetricFamily("dconnect_inventory_age_seconds", "Since the engine confirmed the inventory.")
            age.add_metric((), time.monotonic() - watcher.updated_at)
            yield age

    def _dialer(self) -> Iterator[Metric]:
        states = StateSetMetricFamily("dconnect_dialer_state", "The dialer container.")
        states.add_metric((), {state: state == self._known.dialer_state for state in DIALER_STATES})
        yield states
        strategy = StateSetMetricFamily("dconnect_strategy", "How containers are reached.")
        strategy.add_metric((), {name: name == self._known.strategy.name for name in STRATEGIES})
        yield strategy

    def _processes(self) -> Iterator[Metric]:
        resident = GaugeMetricFamily("dconnect_process_resident_memory_bytes", "Memory.", labels=("process",))
        cpu = CounterMetricFamily("dconnect_process_cpu_seconds", "User and system time.", labels=("process",))
        fds = GaugeMetricFamily("dconnect_process_open_fds", "Open descriptors.", labels=("process",))
        pids = {"supervisor": os.getppid(), "control": os.getpid()}
        pids |= {f"worker {report['index']}": report["pid"] for report in self._known.links.worker_reports}
        gateway = self._known.links.tunnel_report
        if gateway is not None:
            pids["gateway"] = gateway["pid"]
        for name, pid in pids.items():
            usage = usage_of(pid)
            if usage is not None:
                resident.add_metric((name,), usage.resident_bytes)
                cpu.add_metric((name,), usage.cpu_seconds)
                fds.add_metric((name,), usage.descriptors)
        yield from (resident, cpu, fds)
        most = GaugeMetricFamily("dconnect_process_max_fds", "Most descriptors that each process may have.")
        most.add_metric((), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        yield most


def _datagrams(total: Mapping[str, Any]) -> Iterator[Metric]:
    relayed = CounterMetricFamily(
        "dconnect_datagrams",
        "Datagrams of UDP associations relayed; up is towards the container.",
        labels=("direction",),
    )
    for direction in ("up", "down"):
        relayed.add_metric((direction,), total.get("datagrams", {}).get(direction, 0))
    yield relayed
    dropped = CounterMetricFamily(
        "dconnect_datagrams_dropped", "Datagrams of UDP associations dropped, by reason.", labels=("reason",)
    )
    for reason, count in sorted(total.get("datagrams_dropped", {}).items()):
        dropped.add_metric((reason,), count)
    yield dropped


def _tunnel(now: Mapping[str, Any], total: Mapping[str, Any]) -> Iterator[Metric]:
    links = GaugeMetricFamily("dconnect_tunnel_links", "Hosts that have a link now.")
    links.add_metric((), now["links"])
    yield links
    flows = GaugeMetricFamily("dconnect_tunnel_flows", "Flows that the gateway has a socket for.", labels=("protocol",))
    for protocol, count in sorted(now["flows"].items()):
        flows.add_metric((protocol,), count)
    yield flows
    for name, what in (("packets", "Packets"), ("bytes", "Bytes of packets")):
        moved = CounterMetricFamily(
            f"dconnect_tunnel_{name}", f"{what} of all links; up is towards the containers.", labels=("direction",)
        )
        for direction in ("up", "down"):
            moved.add_metric((direction,), total.get(name, {}).get(direction, 0))
        yield moved
    dropped = CounterMetricFamily("dconnect_tunnel_dropped", "Packets that went no further.", labels=("reason",))
    for reason, count in sorted(total.get("dropped", {}).items()):
        dropped.add_metric((reason,), count)
    yield dropped


def _dns(counters: Mapping[str, int]) -> Iterator[Metric]:
    queries = CounterMetricFamily("dconnect_dns_queries", "DNS queries by outcome.", labels=("outcome",))
    for name, count in counters.items():
        if name not in ("queries", "truncated"):  # the sum of all, and a part of those answered
            queries.add_metric((_DNS_OUTCOMES.get(name, name),), count)
    yield queries
    truncated = CounterMetricFamily("dconnect_dns_truncated", "DNS answers too large for UDP, sent with TC.")
    truncated.add_metric((), counters.get("truncated", 0))
    yield truncated


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has of the machine."""

    resident_bytes: int
    cpu_seconds: float
    descriptors: int


def usage_of(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """Read it (proc(5)); None when the process is gone, or not ours to look at."""
    try:
        # pid (comm) state …: comm may have spaces and parentheses of its own.
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        # From Linux 6.2 on the size tells how many there are; ten thousand names take 50 ms to read.
        folder = proc / str(pid) / "fd"
        descriptors = folder.stat().st_size or len(os.listdir(folder))  # noqa: PTH208 - counted, not made paths
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Usage(int(fields[21]) * _PAGE_BYTES, ticks / _TICKS, descriptors)
