"""Each command at the keyboard: what stands on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dconnect.cli.main import app
from kit.docker_engine import DockerEngine

PROGRAM = Path(sys.executable).with_name("dconnect")


def dconnect(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def container(name: str, address: str = "172.18.0.2", **others: Any) -> dict[str, Any]:
    endpoint = {"network": "shop_front", "ipv4": address, "ipv6": None}
    names = [name, f"{name}.docker"]
    return {"name": name, "state": "running", "names": names, "endpoints": [endpoint], "ports": ["80/tcp"], **others}


@pytest.fixture
def agent(engine: DockerEngine) -> DockerEngine:
    """The engine with an agent on it."""
    engine.names = [container("web"), container("db", "172.18.0.3", ports=["5432/tcp"])]
    result = dconnect("up", "--port", free_port(), "--dns-port", free_port())
    assert result.exit_code == 0, result.stderr
    return engine


def port_of(engine: DockerEngine) -> str:
    text: str = engine.containers["dconnect"]["HostConfig"]["PortBindings"]["1080/tcp"][0]["HostPort"]
    return text


# -- without an engine or an agent --------------------------------------------------------------


def test_the_version_is_the_installed_package_s() -> None:
    result = dconnect("--version")
    assert (result.exit_code, result.stdout) == (0, f"dconnect {version('dconnect')}\n")


@pytest.mark.parametrize(
    "words",
    [
        "--nonsense",
        "up --nonsense",
        "nonsense",
        "up --port 0",
        "up --port 65536",
        "up --port x",
        "up --egress maybe",
        "up --bind localhost",
        "up --suffix -x-",
        "up --port 2000 --dns-port 2000",
        "env --shell tcsh",
        "logs --tail -1",
        "status --context a --host b",
        "status --context nowhere",
        "status --host npipe:////./pipe/docker_engine",
        "status --host gopher://x",
    ],
)
@pytest.mark.usefixtures("home")
def test_what_cannot_be_carried_out_as_written_ends_with_2_even_without_an_engine(words: str) -> None:
    result = dconnect(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


@pytest.mark.parametrize("command", ["up", "down", "status", "connections", "dns", "dns web", "env", "logs"])
def test_no_engine_ends_with_4_and_the_reason(command: str, home: Path) -> None:
    result = dconnect("--host", f"unix://{home}/none.sock", *command.split())
    assert (result.exit_code, result.stdout) == (4, "")
    expected = f"No Docker engine answers at unix://{home}/none.sock: there is no such socket; is the engine running?"
    assert result.stderr.splitlines()[-1] == f"dconnect: {expected}"


@pytest.mark.skipif(sys.platform != "linux", reason="Elsewhere no engine will do.")
@pytest.mark.parametrize(("url", "means"), [("ssh://me@there", "ssh"), ("tcp://there:2376", "TLS")])
@pytest.mark.usefixtures("home")
def test_the_agent_in_the_foreground_refuses_an_engine_that_it_could_not_open(
    url: str, means: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")  # counts for tcp:// only
    result = dconnect("agent", "--host", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"The engine --host ({url}) is reached by {means}, and" in result.stderr


def test_an_engine_that_has_gone_leaves_a_socket_where_nothing_listens(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(home / "old.sock"))
    result = dconnect("down", "--host", f"unix://{home}/old.sock")
    assert result.exit_code == 4
    assert "nothing listens there" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can become somebody who may not use the socket.")
def test_a_socket_without_permission_ends_with_4_and_names_the_group(engine: DockerEngine) -> None:
    engine.socket.chmod(0o600)
    assert dconnect("status").exit_code == 3  # loads all that it loads late, which nobody else might read
    os.seteuid(65534)
    try:
        result = dconnect("status")
    finally:
        os.seteuid(0)
    assert result.exit_code == 4
    why = "permission denied; may this user use Docker (group docker)?"
    assert result.stderr == f"dconnect: No Docker engine answers at {engine.url}: {why}\n"


@pytest.mark.parametrize("command", ["status", "status --json", "connections", "nc web 80", "env", "logs"])
def test_without_an_agent_a_command_that_needs_it_ends_with_3(command: str, engine: DockerEngine) -> None:
    result = dconnect(*command.split())
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "dconnect: dconnect is not running on DOCKER_HOST; start it with `dconnect up`.\n"
    assert engine.containers == {}


def test_a_container_of_our_name_that_is_not_ours_is_left_alone(engine: DockerEngine) -> None:
    theirs = {"Id": "ab" * 32, "Config": {"Image": "x", "Labels": None}, "State": {"Running": True}}
    engine.containers["dconnect"] = theirs
    for command in ("up", "status"):
        result = dconnect(command)
        assert result.exit_code == 1
        assert "A container named dconnect on DOCKER_HOST is not ours; rename or remove it" in result.stderr
    assert engine.containers == {"dconnect": theirs}


def test_down_with_nothing_up_is_no_error(engine: DockerEngine) -> None:
    result = dconnect("down")
    assert (result.exit_code, result.stdout) == (0, "dconnect was not running on DOCKER_HOST.\n")
    assert not [line for line in engine.requests if not line.startswith("GET ")]


def test_the_engine_s_options_stand_before_or_after_the_command(engine: DockerEngine, home: Path) -> None:
    wrong = f"unix://{home}/none.sock"
    assert dconnect("--host", engine.url, "down").stdout.startswith("dconnect was not running on --host")
    assert dconnect("down", "-H", engine.url).exit_code == 0
    assert dconnect("-H", wrong, "down", "-H", engine.url).exit_code == 0


# -- with an agent ---------------------------------------------------------------------------------


def test_status_tells_each_matter_on_a_line(agent: DockerEngine) -> None:
    result = dconnect("status")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"agent       0.1.0 on DOCKER_HOST ({agent.url})",
        "engine      20.10.24, API 1.41, connected",
        f"front door  127.0.0.1:{port_of(agent)} (SOCKS5, HTTP proxy)",
        f"DNS         127.0.0.1:{recalled_dns_port(agent)} for docker, docker.test",
        "egress      allow",
        "strategy    engine-netns: Sockets reach.",
        "dialer      running",
        "inventory   2 containers on 3 networks, confirmed 2 s ago",
        "connections 1 open",
        "worker      pid 7: 1 open, 20 accepted, 3 failed",
    ]


REFUSAL = "No Docker engine answers at unix:///var/run/docker.sock: permission denied"


@pytest.mark.parametrize(
    ("known", "error", "line"),
    [
        ({}, None, "engine      NOT CONNECTED: no answer yet"),
        ({}, REFUSAL, f"engine      NOT CONNECTED: {REFUSAL}"),
        (
            {"name": "x", "version": "20.10.24", "api_version": "1.41"},
            REFUSAL,
            f"engine      20.10.24, API 1.41, NOT CONNECTED: {REFUSAL}",
        ),
    ],
)
def test_status_says_why_the_agent_has_no_engine(
    agent: DockerEngine, known: dict[str, str], error: str | None, line: str
) -> None:
    agent.status["engine"] = {**known, "connected": False, "error": error}
    result = dconnect("status")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1] == line


def test_an_agent_that_outlives_its_engine_still_tells_its_status_and_names(agent: DockerEngine) -> None:
    assert dconnect("status").exit_code == 0
    agent.status["engine"] |= {"connected": False, "error": REFUSAL}
    agent.status["inventory"] |= {"age_s": 90.2, "stale": True}
    lose_engine(agent)
    result = dconnect("status")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[1] == f"engine      20.10.24, API 1.41, NOT CONNECTED: {REFUSAL}"
    words = "2 containers on 3 networks, confirmed 90 s ago; NOT UP TO DATE: names are answered as they were then"
    assert f"inventory   {words}" in lines
    assert json.loads(dconnect("status", "--json").stdout)["inventory"]["stale"] is True
    assert dconnect("dns", "web").stdout == "172.18.0.2\n"


def test_an_engine_that_is_away_with_its_agent_is_the_engine_s_failure(agent: DockerEngine, home: Path) -> None:
    assert dconnect("status").exit_code == 0
    lose_engine(agent)
    file = home / ".local/state/dconnect/agents.json"
    file.write_text(file.read_text().replace(port_of(agent), free_port()))  # nobody answers there
    for command in ("status", "dns"):
        result = dconnect(command)
        assert (result.exit_code, result.stdout) == (4, "")
        assert agent.url in result.stderr


def lose_engine(agent: DockerEngine) -> None:
    """Its socket is gone; what it has started goes on."""
    Path(agent.url.removeprefix("unix://")).unlink()


def recalled_dns_port(engine: DockerEngine) -> str:
    text: str = engine.containers["dconnect"]["HostConfig"]["PortBindings"]["1053/udp"][0]["HostPort"]
    return text


def test_status_json_is_json_and_nothing_else(agent: DockerEngine) -> None:
    result = dconnect("status", "--json")
    assert result.stderr == ""
    endpoint = json.loads(result.stdout)["endpoint"]
    assert (endpoint["host"], endpoint["url"], endpoint["port"]) == ("DOCKER_HOST", agent.url, int(port_of(agent)))


def connection(**others: Any) -> dict[str, Any]:
    row = {"peer": "10.0.0.1:5", "front": "socks5", "target": "web:80", "address": "172.18.0.2", "state": "relaying"}
    return {**row, "bytes_up": 78, "bytes_down": 2_500_000, "age_s": 3.7, "worker": 1, **others}


def test_connections_are_a_row_each(agent: DockerEngine) -> None:
    agent.connections |= {"total": 2, "connections": [connection(), connection(age_s=93784.0, worker=0)]}
    result = dconnect("connections")
    assert (result.exit_code, result.stderr) == (0, "")
    common = ["10.0.0.1:5", "socks5", "web:80", "172.18.0.2", "relaying", "78", "bytes", "2.5", "MB"]
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["CLIENT", "FRONT", "TARGET", "ADDRESS", "STATE", "UP", "DOWN", "AGE", "WORKER"],
        [*common, "3s", "1"],
        [*common, "1d", "2h", "0"],
    ]


def test_connections_json_is_what_the_agent_said(agent: DockerEngine) -> None:
    agent.connections |= {"total": 1, "connections": [connection()]}
    result = dconnect("connections", "--json")
    assert (json.loads(result.stdout), result.stderr) == (agent.connections, "")


def test_what_a_client_named_cannot_steer_the_terminal(agent: DockerEngine) -> None:
    agent.connections["connections"] = [connection(target="dconnect/\x1b[2J[red]:bed:")]
    assert "dconnect/\N{REPLACEMENT CHARACTER}[2J[red]:bed:" in dconnect("connections").stdout


def test_what_connections_leaves_out_is_told_on_stderr(agent: DockerEngine) -> None:
    assert dconnect("connections").stderr == "dconnect: nobody is connected.\n"
    agent.connections |= {"total": 5000, "connections": [connection()], "silent_workers": 1}
    lines = dconnect("connections").stderr.splitlines()
    assert lines == [
        "dconnect: a worker did not answer in time; its connections are missing here.",
        "dconnect: these are the newest 1 of 5000 connections.",
    ]


@pytest.mark.usefixtures("agent")
def test_dns_with_one_name_prints_its_addresses_alone() -> None:
    result = dconnect("dns", "web.docker")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "172.18.0.2\n", "")


@pytest.mark.usefixtures("agent")
def test_dns_with_several_names_prints_each_with_its_addresses() -> None:
    assert dconnect("dns", "web", "db").stdout == "web  172.18.0.2\ndb  172.18.0.3\n"


@pytest.mark.usefixtures("agent")
def test_dns_with_an_unknown_name_ends_with_5_after_the_known_ones() -> None:
    result = dconnect("dns", "nope", "web", "neither")
    assert (result.exit_code, result.stdout) == (5, "web  172.18.0.2\n")
    assert result.stderr == "dconnect: No container is called nope.\ndconnect: No container is called neither.\n"
    assert dconnect("dns", "nope").exit_code == 5


@pytest.mark.usefixtures("agent")
def test_dns_json_is_json_and_nothing_else_also_when_a_name_is_unknown() -> None:
    result = dconnect("dns", "--json", "web", "nope")
    assert result.exit_code == 5
    assert json.loads(result.stdout) == [{"name": "web", "addresses": ["172.18.0.2"], "containers": ["web"]}]
    table = dconnect("dns", "--json")
    assert [each["name"] for each in json.loads(table.stdout)["containers"]] == ["web", "db"]
    assert table.stderr == ""


def test_dns_without_a_command_looks_names_up(agent: DockerEngine) -> None:
    agent.names.append(container("lookup", "172.18.0.9"))
    agent.names.append(container("status", "172.18.0.8"))
    for words in (("web",), ("--json", "web"), ("web", "--type", "nonsense"), ("nope",), ("--watch", "web"), ()):
        short, long = dconnect("dns", *words), dconnect("dns", "lookup", *words)
        assert (short.exit_code, short.stdout, short.stderr) == (long.exit_code, long.stdout, long.stderr)
    assert dconnect("dns", "lookup", "status").stdout == "172.18.0.8\n"
    assert dconnect("dns", "lookup", "lookup").stdout == "172.18.0.9\n"


def complete(words: str) -> list[str]:
    """What the shell offers behind words."""
    asked = {"COMP_WORDS": f"dconnect {words}", "COMP_CWORD": str(len(f"{words}…".split()))}
    environ = {**os.environ, **asked, "_DCONNECT_COMPLETE": "complete_bash"}
    return subprocess.run([PROGRAM], env=environ, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("words", ["dns", "dns lookup", "dns web --json", "nc"])
def test_the_shell_completes_names_after_dns_with_and_without_its_command(words: str) -> None:
    assert complete(f"{words} d") == ["db", "db.docker"]


@pytest.mark.usefixtures("agent")
def test_the_shell_completes_the_words_that_may_follow_dns_too() -> None:
    assert complete("dns i") == ["install"]
    assert complete("dns w") == ["web", "web.docker"]
    assert {"install", "uninstall", "status", "db", "web"} < set(complete("dns "))
    assert "install" not in complete("dns web i")


def test_the_shell_completes_names_of_the_engine_that_is_named_before_or_after_the_command(
    agent: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert complete("dns d") == []
    assert complete(f"--host {agent.url} dns d") == ["db", "db.docker"]
    assert complete(f"dns --host {agent.url} d") == ["db", "db.docker"]


@pytest.mark.usefixtures("agent")
def test_the_table_has_no_control_sequences_where_stdout_is_no_terminal() -> None:
    result = dconnect("dns")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["CONTAINER", "STATE", "NAMES", "ADDRESSES", "PORTS"],
        ["db", "running", "db", "172.18.0.3", "(shop_front)", "5432/tcp"],
        ["db.docker"],
        ["web", "running", "web", "172.18.0.2", "(shop_front)", "80/tcp"],
        ["web.docker"],
    ]
    assert "\x1b" not in result.stdout


def test_addresses_and_names_are_printed_as_they_are(agent: DockerEngine) -> None:
    endpoint = {"network": "[red]net", "ipv4": None, "ipv6": "fd00:a:bed::b:1"}  # :a: and :bed: are emoji to rich
    agent.names = [container("odd", endpoints=[endpoint], ports=[])]
    assert "fd00:a:bed::b:1 ([red]net)" in dconnect("dns").stdout


def test_a_long_row_is_not_folded_where_stdout_is_no_terminal(agent: DockerEngine) -> None:
    agent.names = [container("n" * 120, ports=[f"{port}/tcp" for port in range(9000, 9030)])]
    rows = dconnect("dns").stdout.splitlines()
    assert len(rows) == 3
    assert "9000/tcp" in rows[1]
    assert "9029/tcp" in rows[1]


def test_an_engine_without_containers_is_told_on_stderr(agent: DockerEngine) -> None:
    agent.names = []
    result = dconnect("dns")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "dconnect: there are no containers on this engine.\n"


@pytest.mark.usefixtures("agent")
def test_env_is_the_shell_s_own_language(agent: DockerEngine) -> None:
    door = f"127.0.0.1:{port_of(agent)}"
    assert f"export ALL_PROXY=socks5h://{door}\n" in dconnect("env", "--shell", "sh").stdout
    assert f"set HTTP_PROXY=http://{door}\n" in dconnect("env", "--shell", "cmd").stdout


def test_logs_are_printed_as_they_are(agent: DockerEngine) -> None:
    agent.log = "eins\nzwei ü [bold]\n".encode()
    result = dconnect("logs")
    assert (result.exit_code, result.stdout) == (0, "eins\nzwei ü [bold]\n")


def test_an_agent_that_does_not_answer_is_told_with_what_to_do(agent: DockerEngine) -> None:
    agent.containers["dconnect"]["Config"]["Labels"]["dev.dconnect.config"] = json.dumps({"port": int(free_port())})
    result = dconnect("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The agent runs, but does not answer at http://127.0.0.1:" in result.stderr
    assert "see `dconnect logs`" in result.stderr


def test_down_removes_containers_and_volume_and_leaves_the_image(agent: DockerEngine) -> None:
    result = dconnect("down")
    assert (result.exit_code, result.stdout) == (0, "dconnect is down on DOCKER_HOST.\n")
    assert (agent.containers, agent.volumes, agent.leftovers) == ({}, set(), [])
    assert len(agent.images) == 1


def test_down_leaves_a_container_that_carries_our_label_under_another_name(agent: DockerEngine) -> None:
    stranger = {"Id": "f" * 64, "Mounts": [], "State": {"Running": True}}  # with a label that came from its image
    agent.containers["theirs"] = agent.containers["dconnect"] | stranger
    result = dconnect("down")
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(agent.containers) == ["theirs"]


def test_down_image_removes_the_image_too(agent: DockerEngine) -> None:
    (tag,) = agent.images
    result = dconnect("down", "--image")
    assert result.stdout == f"dconnect is down on DOCKER_HOST.\nRemoved the image {tag}.\n"
    assert agent.images == {}


def test_down_removes_what_an_interrupted_build_left(engine: DockerEngine) -> None:
    engine.leftovers.append("sha256:build")
    result = dconnect("down")
    assert result.stdout == "dconnect was not running on DOCKER_HOST.\nRemoved what a build had left behind.\n"
    assert engine.leftovers == []


# -- pipes and signals -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["dns", "dns --json", "connections --json", "status", "env", "logs"])
def test_a_reader_that_has_what_it_wants_is_no_reason_for_a_traceback(command: str, agent: DockerEngine) -> None:
    agent.log = b"x" * 1000
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as stdout:
        result = subprocess.run([PROGRAM, *command.split()], stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (1, b"")


def test_the_command_line_loads_without_what_only_unix_has() -> None:
    missing = ("resource", "fcntl", "pwd", "grp", "termios", "uvloop")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); import dconnect.cli.main"
    subprocess.run([sys.executable, "-c", code], check=True)
