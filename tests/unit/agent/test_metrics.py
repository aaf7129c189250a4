"""The metrics page, read as Prometheus reads it."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from dconnect.agent.dialing import EMBEDDED, Strategy
from dconnect.agent.docker.watch import Watcher
from dconnect.agent.links import Links
from dconnect.agent.metrics import render, usage_of
from dconnect.agent.sessions import Counters
from dconnect.core.inventory import Container, Inventory
from dconnect.dns import Resolver
from dconnect.tunnel.gateway.counters import Counters as TunnelCounters

DOCS = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Known:
    """What control would know."""

    def __init__(self) -> None:
        self.links = Links(2, gateway=True)
        self.watcher = Watcher.__new__(Watcher)  # only told what it would have seen
        self.watcher.connected, self.watcher.updated_at = True, 0.0
        self.engine_version = {"name": "x", "version": "20.10.24", "api_version": "1.41"}
        self.inventory = Inventory((Container("0" * 64, "web", "running"),))
        self.strategy: Strategy = EMBEDDED
        self.dialer_state = "running"

    def report(self, index: int, pid: int, counters: Counters) -> None:
        message = {
            **dataclasses.asdict(counters),
            "index": index,
            "pid": pid,
            "serial": 1,
            "dns": dataclasses.asdict(Resolver().counters) | {"queries": 3, "cache_hits": 2, "answered": 1},
        }
        if not index:  # the first worker holds the UDP port
            message |= {"datagrams": {"up": 7, "down": 5}, "datagrams_dropped": {"fragment": 2}}
        self.links.reports[index] = message
        self.links.tally.update(message)

    def report_tunnel(self, pid: int) -> None:
        tunnel = TunnelCounters(
            links=1,
            flows={"udp": 3, "echo": 0},
            packets={"up": 10, "down": 20},
            bytes={"up": 1000, "down": 2000},
            dropped={"source": 4},
        )
        message = {"index": 2, "pid": pid, "serial": 1, "tunnel": dataclasses.asdict(tunnel)}
        self.links.reports[2] = message
        self.links.tally.update(message)


@pytest.fixture
def known() -> Known:
    made = Known()
    counters = Counters(open=3, accepted=20, refused=2, failed=1, bytes_up=100, bytes_down=2000)
    counters.sessions = {"socks5": {"ok": 15, "refused": 1}, "http": {"ok": 1}}
    counters.connects[0], counters.connects[3], counters.connect_seconds = 14, 2, 0.125
    made.report(0, os.getpid(), counters)
    made.report(1, 0, Counters(open=1, accepted=1))
    made.report_tunnel(1)
    return made


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *map(str, sample.labels.values())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def shown(known: Known) -> dict[tuple[str, ...], float]:
    body, content_type = render(known, "1.2.3", "")
    assert content_type.startswith("text/plain; version=0.0.4")
    return samples(body.decode())


def test_each_figure_has_its_name(known: Known) -> None:
    found = shown(known)
    for name, value in {
        ("dconnect_build_info", "1.2.3"): 1,
        ("dconnect_connections_total",): 21,
        ("dconnect_connections_refused_total", "source"): 2,
        ("dconnect_connections_open", "0"): 3,
        ("dconnect_connections_open", "1"): 1,
        ("dconnect_accept_pauses_total",): 0,
        ("dconnect_sessions_total", "socks5", "ok"): 15,
        ("dconnect_sessions_total", "socks5", "refused"): 1,
        ("dconnect_transferred_bytes_total", "up"): 100,
        ("dconnect_transferred_bytes_total", "down"): 2000,
        ("dconnect_connect_duration_seconds_bucket", "0.0005"): 14,
        ("dconnect_connect_duration_seconds_bucket", "0.025"): 16,
        ("dconnect_connect_duration_seconds_bucket", "+Inf"): 16,
        ("dconnect_connect_duration_seconds_count",): 16,
        ("dconnect_connect_duration_seconds_sum",): 0.125,
        ("dconnect_datagrams_total", "up"): 7,
        ("dconnect_datagrams_total", "down"): 5,
        ("dconnect_datagrams_dropped_total", "fragment"): 2,
        ("dconnect_dns_queries_total", "cached"): 4,
        ("dconnect_dns_queries_total", "answered"): 2,
        ("dconnect_dns_queries_total", "nxdomain"): 0,
        ("dconnect_tunnel_links",): 1,
        ("dconnect_tunnel_flows", "udp"): 3,
        ("dconnect_tunnel_packets_total", "up"): 10,
        ("dconnect_tunnel_bytes_total", "down"): 2000,
        ("dconnect_tunnel_dropped_total", "source"): 4,
        ("dconnect_workers",): 2,
        ("dconnect_engine_connected",): 1,
        ("dconnect_inventory_containers",): 1,
        ("dconnect_dialer_state", "running"): 1,
        ("dconnect_dialer_state", "absent"): 0,
        ("dconnect_strategy", "embedded"): 1,
    }.items():
        assert found[name] == value, name
    assert found["dconnect_inventory_age_seconds",] > 0
    assert found["dconnect_process_resident_memory_bytes", "worker 0"] > 1 << 20
    assert found["dconnect_process_open_fds", "control"] > 2
    assert not [name for name in found if "worker 1" in name], "pid 0 has no /proc entry"


def test_every_query_is_in_exactly_one_outcome(known: Known) -> None:
    outcomes = [value for name, value in shown(known).items() if name[0] == "dconnect_dns_queries_total"]
    assert sum(outcomes) == 6


def test_a_worker_that_died_keeps_its_share(known: Known) -> None:
    del known.links.reports[0]
    known.report(0, 77, Counters(open=0, accepted=1))
    assert shown(known)["dconnect_connections_total",] == 22
    assert shown(known)["dconnect_connections_open", "0"] == 0


def test_a_gateway_that_died_keeps_its_share_and_none_shows_none(known: Known) -> None:
    known.report_tunnel(77)
    assert shown(known)["dconnect_tunnel_packets_total", "up"] == 20
    assert shown(known)["dconnect_tunnel_links",] == 1
    del known.links.reports[2]
    assert not [name for name in shown(known) if "tunnel" in name[0]]


def test_before_anything_is_known_there_is_a_page_all_the_same() -> None:
    empty = Known()
    empty.watcher.updated_at, empty.engine_version = None, {}
    found = shown(empty)
    assert found["dconnect_connections_total",] == 0
    assert found["dconnect_connect_duration_seconds_count",] == 0


def test_open_metrics_is_spoken_to_whoever_asks_for_it(known: Known) -> None:
    body, content_type = render(known, "1.2.3", OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = list(open_metrics(body.decode()))  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"dconnect_build", "dconnect_connections", "dconnect_dialer_state"}


def test_names_follow_the_practice_and_are_all_documented(known: Known) -> None:
    body, _ = render(known, "1.2.3", "")
    families = {family.name: family for family in parser.text_string_to_metric_families(body.decode())}
    for name, family in families.items():
        assert re.fullmatch(r"dconnect_[a-z_]+", name)
        assert family.documentation.endswith(".")
        assert family.type != "unknown"
    told = {name for family in families.values() for name in {_plain(sample.name) for sample in family.samples}}
    documented = set(re.findall(r"^\| `(dconnect_\w+)", DOCS.read_text(), re.MULTILINE))
    assert told == documented


def _plain(name: str) -> str:
    """A histogram is documented once."""
    return re.sub(r"(duration_seconds)_(bucket|sum|count|created)$", r"\1", name)


def test_usage_of_this_process_is_what_the_kernel_says() -> None:
    usage = usage_of(os.getpid())
    assert usage is not None
    assert usage.descriptors == len(list(Path("/proc/self/fd").iterdir())) - 1  # without the one that reads
    assert usage.cpu_seconds <= sum(os.times()[:2]) + 0.1
    assert 1 << 20 < usage.resident_bytes < 1 << 32


def test_usage_is_read_past_a_name_with_parentheses(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "fd").write_bytes(b"***")  # as large as the directory says to be
    rest: list[Any] = ["S", *[0] * 10, 150, 50, *[0] * 8, 2, 0]
    (folder / "stat").write_text(f"7 (a) b (c) {' '.join(map(str, rest))}\n")
    usage = usage_of(7, tmp_path)
    assert usage is not None
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert (usage.resident_bytes, usage.cpu_seconds, usage.descriptors) == (2 * page, 200 / ticks, 3)
    assert usage_of(8, tmp_path) is None
