"""``up --tun``: the token of the link is made and kept as passwords are, and only its proof leaves the machine."""

from __future__ import annotations

import json
import socket
import stat
import sys
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dconnect.cli import passwords
from dconnect.cli.main import app
from dconnect.core.config import AgentConfig
from kit.docker_engine import DockerEngine


def dconnect(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def up(*options: object) -> str:
    result = dconnect("up", "--json", *options)
    assert result.exit_code == 0, result.stderr
    said: dict[str, Any] = json.loads(result.stdout)
    return str(said["result"])


def config_of(engine: DockerEngine) -> AgentConfig:
    return AgentConfig.from_json(engine.containers["dconnect"]["Config"]["Labels"]["dev.dconnect.config"])


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


def test_the_token_is_long_kept_for_this_user_and_unknown_to_the_engine(engine: DockerEngine, port: int) -> None:
    up("--tun", "--port", port)
    token = passwords.link_token(config_of(engine))
    assert token is not None
    assert len(bytes.fromhex(token)) == 16
    assert token in passwords.token_file().read_text()
    if sys.platform != "win32":
        assert stat.S_IMODE(passwords.token_file().stat().st_mode) == 0o600
    assert token not in json.dumps(engine.containers) + "".join(engine.requests)


def test_it_is_the_same_the_next_time_and_changes_nothing(engine: DockerEngine, port: int) -> None:
    up("--tun", "--port", port)
    first = passwords.link_token(config_of(engine))
    assert up("--tun") == "already running"
    dconnect("down")
    assert up("--tun", "--port", port) == "started"
    assert passwords.link_token(config_of(engine)) == first


def test_without_the_option_there_is_no_tunnel_and_no_right(engine: DockerEngine, port: int) -> None:
    up("--tun", "--port", port)
    assert engine.containers["dconnect"]["HostConfig"]["CapAdd"] == ["NET_ADMIN"]
    assert up() == "replaced"
    assert "CapAdd" not in engine.containers["dconnect"]["HostConfig"]
    assert config_of(engine).tun == ""
    assert passwords.link_token(config_of(engine)) is None


def test_the_password_of_the_front_door_is_another_one(engine: DockerEngine, port: int) -> None:
    up("--tun", "--auth", "--port", port)
    config = config_of(engine)
    entry = passwords.find(config)
    assert entry is not None
    assert entry.password != passwords.link_token(config)
    assert up("--tun", "--auth") == "already running"


def test_an_engine_without_the_device_is_told_in_one_sentence(engine: DockerEngine, port: int) -> None:
    engine.missing_paths = {"/dev/net/tun"}
    result = dconnect("up", "--tun", "--port", port)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "dconnect: The engine DOCKER_HOST has no /dev/net/tun, which --tun needs; load the kernel module tun on its "
        "machine, or leave --tun away."
    )
    assert not engine.containers


def test_an_engine_without_ipv6_is_told_too(engine: DockerEngine, port: int) -> None:
    engine.missing_paths = {"/proc/sys/net/ipv6/conf/all/disable_ipv6"}
    result = dconnect("up", "--tun", "--port", port)
    assert result.exit_code == 1
    assert "without IPv6 (ipv6.disable=1)" in result.stderr.splitlines()[-1]
    assert not engine.containers


def test_a_subnet_that_is_none_is_a_usage_error(engine: DockerEngine) -> None:
    result = dconnect("up", "--tun", "--tun-subnet", "10.213.0.0/33")
    assert result.exit_code == 2
    assert "--tun-subnet" in result.stderr
