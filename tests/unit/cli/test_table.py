from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from dconnect.cli.names import table


def container(name: str, state: str = "running", **others: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "names": [], "endpoints": [], "ports": [], **others}


def text(*containers: dict[str, Any]) -> list[list[str]]:
    output = io.StringIO()
    Console(file=output, width=200, markup=False, emoji=False).print(table(containers))
    return [line.split() for line in output.getvalue().splitlines()]


def test_running_containers_come_first_and_each_part_is_ordered_by_name() -> None:
    rows = text(container("d"), container("a", "exited"), container("c"), container("b", "exited"))
    assert rows == [
        ["CONTAINER", "STATE", "NAMES", "ADDRESSES", "PORTS"],
        ["c", "running"],
        ["d", "running"],
        ["a", "exited"],
        ["b", "exited"],
    ]


def test_each_name_and_each_address_has_a_line() -> None:
    endpoints = [
        {"network": "front", "ipv4": "172.18.0.2", "ipv6": None},
        {"network": "six", "ipv4": "172.19.0.2", "ipv6": "fd00::2"},
    ]
    rows = text(container("web", names=["web.docker", "w.docker"], endpoints=endpoints, ports=["80/tcp", "53/udp"]))
    assert rows[1:] == [
        ["web", "running", "web.docker", "172.18.0.2", "(front)", "80/tcp", "53/udp"],
        ["w.docker", "172.19.0.2", "(six)"],
        ["fd00::2", "(six)"],
    ]
