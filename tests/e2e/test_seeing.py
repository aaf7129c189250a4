"""What people see of a running agent: metrics as Prometheus reads them, and who is connected."""

from __future__ import annotations

import http.client
import os
import signal
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bed.client import Client, receive_exactly
from bed.dconnect import DNS_PORT, Dconnect
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for

Samples = dict[tuple[str, ...], float]


def scrape(client: Client) -> Samples:
    """The samples by name and values of the labels."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = client.open()
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Type", "")[:10]) == (200, "text/plain")
        text = response.read().decode()
    finally:
        connection.close()
    return {
        (sample.name, *map(str, sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counters(samples: Samples) -> Samples:
    """What must never fall while control lives; a process's own time begins anew with it."""
    return {
        name: value
        for name, value in samples.items()
        if name[0].endswith(("_total", "_count", "_bucket", "_sum")) and "process" not in name[0]
    }


def connections(client: Client, target: str) -> list[dict[str, Any]]:
    return [each for each in client.own("/api/v1/connections")["connections"] if each["target"] == target]


def test_metrics_tell_what_was_done(bed: Bed, scene: Scene, client: Client) -> None:
    before = scrape(client)
    relay, reply = client.socks("plain", 7)
    assert reply.code == 0
    relay.sendall(b"12345")
    assert receive_exactly(relay, 5) == b"12345"
    assert client.socks_code("plain", 81) == 5
    assert client.get("http://shop_web_1/").code == 200
    assert client.get("http://no-such-name.docker/").code == 502
    for name in ("plain.docker", "plain.docker", "nobody.docker"):
        bed.host.run(["dig", "+short", "-p", str(DNS_PORT), f"@{bed.address}", name], check=True)

    after: Samples = {}

    def grown(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    def counted() -> bool:
        after.update(scrape(client))
        return grown("dconnect_sessions_total", "socks5", "refused") == 1  # once the client's end was seen

    wait_for("all are counted", counted, 5)
    assert grown("dconnect_connections_total") >= 5
    assert grown("dconnect_sessions_total", "http", "name_unknown") == 1
    assert grown("dconnect_sessions_total", "http", "ok") >= 1
    assert grown("dconnect_transferred_bytes_total", "up") >= 5, "the open relay's bytes are missing"
    assert grown("dconnect_transferred_bytes_total", "down") >= 5
    assert grown("dconnect_connect_duration_seconds_count") >= 1
    assert grown("dconnect_dns_queries_total", "nxdomain") == 1
    assert grown("dconnect_dns_queries_total", "answered") + grown("dconnect_dns_queries_total", "cached") == 2
    assert after["dconnect_engine_connected",] == 1
    assert after["dconnect_inventory_containers",] >= 7
    assert after["dconnect_inventory_age_seconds",] < 60
    assert after["dconnect_dialer_state", "running"] == 1
    assert after["dconnect_strategy", "engine-netns"] == 1
    for process in ("supervisor", "control", "worker 0", "worker 1"):
        assert 1 << 20 < after["dconnect_process_resident_memory_bytes", process] < 1 << 28
        assert after["dconnect_process_open_fds", process] > 3
    relay.close()


def test_an_open_connection_is_shown_while_it_is_open(agent: Dconnect, scene: Scene, client: Client, bed: Bed) -> None:
    relay, reply = client.socks("plain", 7)
    assert reply.code == 0
    relay.sendall(b"to and fro")
    assert receive_exactly(relay, 10) == b"to and fro"
    (shown,) = connections(client, "plain:7")
    host, port = relay.getsockname()
    assert shown["peer"] == f"{host}:{port}"
    assert (shown["front"], shown["address"], shown["state"]) == ("socks5", bed.address_of(scene.plain), "relaying")
    assert (shown["bytes_up"], shown["bytes_down"]) == (10, 10)
    assert 0 <= shown["age_s"] < 10
    row = next(line for line in agent("connections").splitlines() if f"{host}:{port}" in line)
    assert row.split()[1:5] == ["socks5", "plain:7", bed.address_of(scene.plain), "relaying"]
    assert " open" in next(line for line in agent("status").splitlines() if line.startswith("connections"))
    relay.close()
    wait_for("it is gone", lambda: not connections(client, "plain:7"), 5)
    line = agent.wait_session("plain:7", f"{host}:{port}")
    assert (line["outcome"], line["bytes_up"], line["bytes_down"]) == ("ok", 10, 10)
    assert 0 < line["connect_seconds"] <= line["seconds"]


@pytest.mark.usefixtures("scene")
def test_no_counter_falls_when_a_worker_is_killed(bed: Bed, client: Client) -> None:
    for _ in range(20):
        assert client.get("http://plain/").code == 200
        client.socks_code("plain", 81)
    relay, _ = client.socks("plain", 7)
    relay.sendall(b"x" * 1000)
    receive_exactly(relay, 1000)
    wait_for("both report", lambda: scrape(client)["dconnect_workers",] == 2, 5)
    before = scrape(client)
    for line in bed.docker("top", "dconnect", "-eo", "pid,args").splitlines():
        if "dconnect.agent.worker" in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)

    def back() -> bool:
        try:
            return scrape(client).get(("dconnect_workers",)) == 2
        except OSError:
            return False

    took = wait_for("both are back", back, 5)
    print(f"both workers reported again after {took:.2f} s")
    after = counters(scrape(client))
    fallen = {name: (value, after.get(name)) for name, value in counters(before).items() if after.get(name, -1) < value}
    assert not fallen
    assert client.get("http://plain/").code == 200
    assert scrape(client)["dconnect_connections_total",] > before["dconnect_connections_total",]
    relay.close()
