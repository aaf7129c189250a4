"""``up --auth`` and what follows from it, at the keyboard: who is told the password, and where it never stands."""

from __future__ import annotations

import json
import re
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dconnect.cli import passwords
from dconnect.cli.main import app
from dconnect.cli.passwords import Entry
from dconnect.core.config import AgentConfig
from dconnect.core.credentials import Credentials, Verifier
from dconnect.core.errors import UsageError
from kit.docker_engine import DockerEngine


def dconnect(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def up(*options: object) -> dict[str, Any]:
    result = dconnect("up", "--json", *options)
    assert result.exit_code == 0, result.stderr
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def config_of(engine: DockerEngine) -> AgentConfig:
    return AgentConfig.from_json(engine.containers["dconnect"]["Config"]["Labels"]["dev.dconnect.config"])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("ann:open sesame: now\n", encoding="utf-8")
    return file


# -- what is made and what is kept --------------------------------------------------------------


def test_a_generated_password_is_long_told_by_up_and_opens_the_agent(engine: DockerEngine) -> None:
    said = up("--auth", "--port", free_port())
    assert said["user"] == "dconnect"
    assert re.fullmatch("[0-9a-f]{32}", said["password"])
    assert Verifier(config_of(engine).auth).accepts(b"dconnect", said["password"].encode())


def test_the_engine_gets_nothing_from_which_it_could_be_read(engine: DockerEngine) -> None:
    said = up("--auth", "--port", free_port())
    assert said["password"] not in json.dumps(engine.containers)
    assert said["password"] not in "".join(engine.requests)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps it in the user's own folder.")
def test_it_is_kept_for_this_user_alone(engine: DockerEngine) -> None:
    said = up("--auth", "--port", free_port())
    file = passwords.default_file()
    assert said["password"] in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_is_the_same_after_down_and_up(engine: DockerEngine) -> None:
    port = free_port()
    first = up("--auth", "--port", port)
    assert up("--auth")["result"] == "already running"
    dconnect("down")
    again = up("--auth", "--port", port)
    assert (again["result"], again["password"]) == ("started", first["password"])


def test_up_without_it_takes_the_lock_off_and_with_it_puts_it_on_again(engine: DockerEngine) -> None:
    first = up("--auth", "--port", free_port())
    bare = up()
    assert (bare["result"], bare["password"], config_of(engine).auth) == ("replaced", None, "")
    assert up("--auth")["password"] == first["password"]


def test_a_password_of_a_file_replaces_a_generated_one_and_is_known_again(engine: DockerEngine, secret: Path) -> None:
    up("--auth", "--port", free_port())
    said = up("--auth-file", secret)
    assert (said["result"], said["user"]) == ("replaced", "ann")
    assert Verifier(config_of(engine).auth).accepts(b"ann", b"open sesame: now")
    passwords.default_file().unlink()  # another user of the same engine
    assert up("--auth-file", secret)["result"] == "already running"
    assert dconnect("status").exit_code == 0


def test_of_an_engine_only_the_password_in_force_is_kept(engine: DockerEngine, secret: Path) -> None:
    first = up("--auth", "--port", free_port())
    up("--auth-file", secret)
    assert first["password"] not in passwords.default_file().read_text()


def test_up_that_fails_leaves_the_password_of_the_agent_that_runs_on(engine: DockerEngine, secret: Path) -> None:
    port = free_port()
    up("--auth", "--port", port)
    engine.foreign_ports = {taken := free_port()}
    assert dconnect("up", "--auth-file", secret, "--port", taken).exit_code == 1
    assert dconnect("status").exit_code == 0


def test_where_it_cannot_be_kept_nothing_is_started(engine: DockerEngine) -> None:
    file = passwords.default_file()
    file.mkdir(parents=True)
    result = dconnect("up", "--auth", "--port", free_port())
    assert result.exit_code == 1
    assert "The password cannot be kept in" in result.stderr
    assert engine.containers == {}


# -- who is told --------------------------------------------------------------------------------


def test_up_tells_a_generated_password_and_not_one_that_was_given(engine: DockerEngine, secret: Path) -> None:
    engine.names = [
        {"name": "web", "state": "running", "names": [], "endpoints": [{"network": "n"}], "ports": ["80/tcp"]}
    ]
    text = dconnect("up", "--auth", "--port", free_port()).stdout
    kept = json.loads(passwords.default_file().read_text())[-1]["password"]
    assert f"  user                    dconnect, password {kept} " in text
    assert "  curl http://web.docker/      in that shell" in text
    text = dconnect("up", "--auth-file", secret).stdout
    assert "  user                    ann, with the password that you gave" in text
    assert "sesame" not in text


def test_status_says_where_it_stands_and_not_what_it_is(engine: DockerEngine) -> None:
    said = up("--auth", "--port", free_port())
    for words in (["status"], ["status", "--json"], ["dns"], ["connections"], ["logs"]):
        assert said["password"] not in dconnect(*words).stdout
    assert f"password    in {passwords.default_file()}, for user dconnect" in dconnect("status").stdout
    up()
    assert "password" not in dconnect("status").stdout


@pytest.mark.parametrize("command", ["status", "dns", "dns web", "connections"])
def test_our_own_commands_go_on_working(engine: DockerEngine, secret: Path, command: str) -> None:
    endpoint = {"network": "n", "ipv4": "172.18.0.2", "ipv6": None}
    engine.names = [{"name": "web", "state": "running", "names": ["web"], "endpoints": [endpoint], "ports": []}]
    up("--auth-file", secret, "--port", free_port())
    assert dconnect(*command.split()).exit_code == 0


@pytest.mark.parametrize("command", ["status", "dns", "connections", "env"])
def test_whoever_does_not_know_it_is_told_how_to(engine: DockerEngine, command: str) -> None:
    up("--auth", "--port", free_port())
    passwords.default_file().unlink()
    result = dconnect(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "wants a password that this user does not know; `dconnect up --auth-file FILE`" in result.stderr


def test_env_writes_it_into_the_urls_with_what_urls_reserve_escaped(engine: DockerEngine, secret: Path) -> None:
    port = free_port()
    up("--auth-file", secret, "--port", port)
    text = dconnect("env", "--shell", "sh").stdout
    assert f"export ALL_PROXY=socks5h://ann:open%20sesame%3A%20now@127.0.0.1:{port}\n" in text
    assert f"export http_proxy=http://ann:open%20sesame%3A%20now@127.0.0.1:{port}\n" in text


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ann",
        b":x",
        b"ann:",
        b"ann:a\nbob:b",
        b"ann:\x07bell",
        b"ann:" + b"x" * 256,
        b"a" * 256 + b":x",
        b"ann:\xff",
    ],
)
def test_a_file_without_one_usable_pair_is_refused_and_not_told(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(data)
    with pytest.raises(UsageError) as refusal:
        passwords.read(file)
    assert "bell" not in str(refusal.value)
    assert "bob" not in str(refusal.value)


@pytest.mark.usefixtures("home")
def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    result = dconnect("up", "--auth-file", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be read: No such file or directory" in result.stderr


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_colons_spaces_and_umlauts_belong_to_the_password(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(("jörg: a:b ü " + ending).encode())
    assert passwords.read(file) == Credentials("jörg", " a:b ü ")


@pytest.mark.parametrize("text", ["", "{}", "3", "[3]", '[{"user": 1}]', '[{"user": "a", "password": "b"}]', "{"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "passwords.json"
    file.write_text(text)
    entry = passwords.settle(file, "E", None)
    assert passwords.find(AgentConfig(auth=passwords.lock("", entry.credentials)), file) == entry


def test_the_file_is_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    file = tmp_path / "state" / "passwords.json"
    for number in range(passwords.MAX_ENTRIES + 2):
        passwords.settle(file, f"E{number}", None)
    kept = [Entry(**each).engine for each in json.loads(file.read_text())]
    assert (len(kept), kept[0]) == (passwords.MAX_ENTRIES, "E2")
