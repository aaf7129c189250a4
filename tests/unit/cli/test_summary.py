from __future__ import annotations

from typing import Any

from dconnect.cli.summary import example


def container(
    name: str, *ports: str, state: str = "running", endpoints: tuple[str, ...] = ("bridge",)
) -> dict[str, Any]:
    return {"name": name, "state": state, "endpoints": endpoints, "ports": list(ports)}


def test_the_example_is_a_container_that_most_likely_serves_the_web() -> None:
    found = [container("db", "5432/tcp"), container("app", "8080/tcp"), container("web", "443/tcp", "80/tcp")]
    assert example(found, "docker") == "http://web.docker/"
    assert example(found[:2], "docker") == "http://app.docker:8080/"
    assert example(found[:1], "docker") == "http://db.docker:5432/"


def test_a_container_that_exposes_nothing_is_shown_with_port_80() -> None:
    assert example([container("x")], "test") == "http://x.test/"
    assert example([container("x", "53/udp")], "test") == "http://x.test/"


def test_equals_are_ordered_by_name_so_that_the_example_stays_the_same() -> None:
    assert example([container("b", "80/tcp"), container("a", "80/tcp")], "docker") == "http://a.docker/"


def test_there_is_no_example_without_a_container_that_can_be_reached() -> None:
    stopped, lonely = container("x", state="exited"), container("y", endpoints=())
    assert example([stopped, lonely], "docker") == ""
