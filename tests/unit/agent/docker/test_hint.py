"""Which events make the watcher look at what, by the events that an engine sent (data/README.md)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dconnect.agent.docker.watch import Look, hint

EVENTS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "events-20.10.jsonl").read_text().splitlines()
]


def of(kind: str, action: str) -> list[dict[str, Any]]:
    found = [each for each in EVENTS if each["Type"] == kind and each["Action"].partition(":")[0] == action]
    assert found, f"no {kind} {action} was recorded"
    return found


def test_checks_and_commands_in_containers_are_ignored() -> None:
    for action in ("exec_create", "exec_start", "exec_die"):
        for event in of("container", action):
            assert hint(event) == (Look.NOTHING, "")


@pytest.mark.parametrize(
    "action", ["start", "die", "stop", "destroy", "rename", "pause", "unpause", "update", "health_status"]
)
def test_a_finished_change_is_looked_at_promptly(action: str) -> None:
    for event in of("container", action):
        assert hint(event) == (Look.PROMPT, event["Actor"]["ID"])


def test_a_new_container_may_be_about_to_start() -> None:
    for event in of("container", "create"):
        assert hint(event) == (Look.PATIENT, event["Actor"]["ID"])


def test_a_connection_concerns_the_container() -> None:
    for event in of("network", "connect"):
        assert hint(event) == (Look.PATIENT, event["Actor"]["Attributes"]["container"])
    for event in of("network", "disconnect"):
        assert hint(event) == (Look.PROMPT, event["Actor"]["Attributes"]["container"])


@pytest.mark.parametrize("action", ["create", "destroy"])
def test_networks_come_and_go(action: str) -> None:
    for event in of("network", action):
        assert hint(event) == (Look.NETWORKS, "")


def test_a_connection_of_nobody_makes_us_look_at_everything() -> None:
    # Podman: containers/podman issue 21311.
    event = {"Type": "network", "Action": "disconnect", "Actor": {"ID": "3d9d", "Attributes": {"podId": ""}}}
    assert hint(event) == (Look.EVERYTHING, "")


def test_podmans_bare_health_status_is_understood() -> None:
    event = {"Type": "container", "Action": "health_status", "Actor": {"ID": "3d9d", "Attributes": {}}}
    assert hint(event) == (Look.PROMPT, "3d9d")


def test_events_of_other_things_and_of_no_shape_say_nothing() -> None:
    odd: list[object] = [None, [], {}, {"Type": "image", "Action": "pull"}, {"Type": "container", "Action": "start"}]
    for event in odd:
        assert hint(event) == (Look.NOTHING, "")


def test_most_of_what_was_recorded_is_of_use() -> None:
    looks = Counter(hint(event)[0] for event in EVENTS)
    assert looks[Look.NOTHING] == sum(event["Action"].startswith("exec_") for event in EVENTS)
