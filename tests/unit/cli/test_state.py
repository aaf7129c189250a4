from __future__ import annotations

import json
import os
from pathlib import Path, PurePath

import pytest

from dconnect.cli.state import MAX_ENGINES, Ports, directory, recall, recall_agent, remember, remember_agent
from dconnect.core.config import AgentConfig


def test_ports_are_remembered_by_engine(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "ports.json"
    remember(file, "one", Ports(1081, 1054))
    remember(file, "two", Ports(1082, 1055))
    assert recall(file, "one") == Ports(1081, 1054)
    assert recall(file, "two") == Ports(1082, 1055)
    assert recall(file, "three") is None


def test_the_newest_ports_count(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    remember(file, "one", Ports(1081, 1054))
    remember(file, "one", Ports(1091, 1064))
    assert recall(file, "one") == Ports(1091, 1064)


def test_the_engine_used_longest_ago_is_forgotten_first(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    remember(file, "old", Ports(1, 2))
    remember(file, "kept", Ports(3, 4))
    remember(file, "old", Ports(5, 6))
    for number in range(MAX_ENGINES - 1):
        remember(file, f"new {number}", Ports(7, 8))
    assert recall(file, "kept") is None
    assert recall(file, "old") == Ports(5, 6)
    assert len(json.loads(file.read_text())) == MAX_ENGINES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"one": []}',
        '{"one": 5}',
        '{"one": {"port": 1080}}',
        '{"one": {"port": "1080", "dns_port": 1053}}',
        '{"one": {"port": 0, "dns_port": 1053}}',
        '{"one": {"port": 1080, "dns_port": 65536}}',
        '{"one": {"port": -1, "dns_port": 1053}}',
        '{"one": {"port": Infinity, "dns_port": 1053}}',
        '{"one": {"port": null, "dns_port": 1053}}',
    ],
)
def test_a_broken_file_is_as_good_as_none_and_is_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ports.json"
    file.write_text(text)
    assert recall(file, "one") is None
    remember(file, "one", Ports(1081, 1054))
    assert recall(file, "one") == Ports(1081, 1054)


def test_bytes_that_are_no_text_are_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_bytes(b"\xff\xfe\x00")
    assert recall(file, "one") is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below_a_file = tmp_path / "file" / "ports.json"  # fails for root too, unlike a read-only directory
    remember(below_a_file, "one", Ports(1081, 1054))
    assert recall(below_a_file, "one") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="Nothing is read-only for root.")
def test_a_read_only_directory_is_no_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    remember(tmp_path / "ports.json", "one", Ports(1081, 1054))
    assert recall(tmp_path / "ports.json", "one") is None


def test_nothing_but_the_file_itself_is_left_in_its_directory(tmp_path: Path) -> None:
    remember(tmp_path / "ports.json", "one", Ports(1081, 1054))
    assert [path.name for path in tmp_path.iterdir()] == ["ports.json"]


def test_agents_are_remembered_by_their_engine_s_url_for_this_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "agents.json"
    one, two = AgentConfig(port=1081), AgentConfig(bind="::1", suffixes=("lan",), allow=("10.0.0.0/8",))
    remember_agent(file, "unix:///one.sock", AgentConfig())
    remember_agent(file, "unix:///one.sock", one)
    remember_agent(file, "unix:///two.sock", two)
    assert recall_agent(file, "unix:///one.sock") == one
    assert recall_agent(file, "unix:///two.sock") == two
    assert recall_agent(file, "unix:///three.sock") is None
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"u": 5}', '{"u": "{"}', '{"u": "[]"}', '{"u": "{\\"port\\": -1}"}'])
def test_a_broken_file_of_agents_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "agents.json"
    file.write_text(text)
    assert recall_agent(file, "u") is None
    remember_agent(file, "u", AgentConfig())
    assert recall_agent(file, "u") == AgentConfig()


@pytest.mark.parametrize(
    ("environ", "platform", "place"),
    [
        ({}, "linux", "/home/me/.local/state/dconnect"),
        ({"XDG_STATE_HOME": "/s"}, "linux", "/s/dconnect"),
        ({"XDG_STATE_HOME": ""}, "linux", "/home/me/.local/state/dconnect"),
        ({"XDG_STATE_HOME": "/s"}, "darwin", "/home/me/Library/Application Support/dconnect"),
        ({"LOCALAPPDATA": "/l"}, "win32", "/l/dconnect"),
        ({}, "win32", "/home/me/AppData/Local/dconnect"),
    ],
)
def test_each_platform_has_its_own_place(environ: dict[str, str], platform: str, place: str) -> None:
    assert PurePath(directory(environ, Path("/home/me"), platform)) == PurePath(place)
