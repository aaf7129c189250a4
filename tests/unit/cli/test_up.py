"""``dconnect up`` against an engine's refusals, and Ctrl-C at each of its steps."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dconnect.cli.main import app
from kit.docker_engine import DockerEngine

PROGRAM = Path(sys.executable).with_name("dconnect")
DEADLINE_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def dconnect(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ports(engine: DockerEngine) -> tuple[int, int]:
    bindings = engine.containers["dconnect"]["HostConfig"]["PortBindings"]
    return int(bindings["1080/tcp"][0]["HostPort"]), int(bindings["1053/udp"][0]["HostPort"])


def assert_nothing_of_ours(engine: DockerEngine) -> None:
    assert (engine.containers, engine.volumes, engine.leftovers) == ({}, set(), [])


def count(engine: DockerEngine, line: str) -> int:
    return engine.requests.count(line)


def test_up_says_what_there_is_and_what_to_do_next(engine: DockerEngine) -> None:
    endpoint = {"network": "n", "ipv4": "172.18.0.2", "ipv6": None}
    engine.names = [{"name": "web", "state": "running", "names": [], "endpoints": [endpoint], "ports": ["80/tcp"]}]
    port, dns_port = free_port(), free_port()
    result = dconnect("up", "--port", port, "--dns-port", dns_port)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"dconnect {version('dconnect')} is up on DOCKER_HOST ({engine.url}).",
        "",
        f"  SOCKS5 and HTTP proxy   127.0.0.1:{port}   (in a browser: PAC URL http://127.0.0.1:{port}/proxy.pac)",
        f"  DNS                     127.0.0.1:{dns_port}   (UDP and TCP)",
        "",
        "Next:",
        '  eval "$(dconnect env)"      proxy settings for this shell',
        "  dconnect dns                every name",
        f"  curl --proxy socks5h://127.0.0.1:{port} http://web.docker/",
    ]


def test_progress_is_a_line_for_each_step_where_stderr_is_no_terminal(engine: DockerEngine) -> None:
    port = free_port()
    result = dconnect("up", "--port", port, "--json")
    assert result.stderr.splitlines() == [
        "asking DOCKER_HOST",
        *(f"building the agent image, step {number}/3" for number in (1, 2, 3)),
        "starting the agent",
        f"waiting for the agent at 127.0.0.1:{port}",
    ]
    said = json.loads(result.stdout)
    assert said["result"] == "started"
    assert said["socks5"] == f"socks5h://127.0.0.1:{port}"
    assert (said["port"], said["dns_port"]) == ports(engine)


def test_up_twice_starts_one_agent_and_says_so(engine: DockerEngine) -> None:
    port = free_port()
    dconnect("up", "--port", port)
    result = dconnect("up", "--port", port)
    assert result.exit_code == 0
    assert " is already running on DOCKER_HOST" in result.stdout
    assert (count(engine, "POST build"), count(engine, "POST containers/create")) == (1, 1)
    assert json.loads(dconnect("up", "--json").stdout)["result"] == "already running"


def test_two_at_the_same_moment_make_one_agent(engine: DockerEngine) -> None:
    words = ("up", f"--port={free_port()}", f"--dns-port={free_port()}")
    engine.hold("build")
    with started(engine, *words) as first, started(engine, *words) as second:
        assert second.stderr is not None
        assert second.stderr.readline() == "asking DOCKER_HOST\n"
        assert second.stderr.readline() == "waiting for another `dconnect up` on this engine\n"
        engine.release()
        said = [process.communicate(timeout=DEADLINE_S)[0] for process in (first, second)]
    assert " is up on DOCKER_HOST" in said[0]
    assert " is already running on DOCKER_HOST" in said[1]
    assert (count(engine, "POST build"), count(engine, "POST containers/create")) == (1, 1)


def test_up_with_another_wish_replaces_the_agent(engine: DockerEngine) -> None:
    dconnect("up", "--port", free_port())
    result = dconnect("up", "--egress", "deny")
    assert " was replaced and is up on DOCKER_HOST" in result.stdout
    assert (count(engine, "POST build"), count(engine, "POST containers/create")) == (1, 2)
    assert len(engine.containers) == 1


def test_the_image_of_an_older_agent_goes_with_it(engine: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"")
    dconnect("up", "--port", free_port())
    (older,) = engine.images
    assert dconnect("up", "--wheels", tmp_path).exit_code == 0
    (newer,) = engine.images
    assert newer != older
    assert engine.containers["dconnect"]["Config"]["Image"] == newer


def test_up_replaces_an_agent_that_has_stopped(engine: DockerEngine) -> None:
    port = free_port()
    dconnect("up", "--port", port)
    engine.containers["dconnect"]["State"]["Running"] = False
    assert " was replaced and is up" in dconnect("up").stdout


def test_a_default_port_that_is_taken_gives_way_to_another_which_is_remembered(engine: DockerEngine) -> None:
    engine.foreign_ports = {1080, 1081, 1053}
    assert dconnect("up").exit_code == 0
    chosen = ports(engine)
    assert chosen[0] > 1081
    assert chosen[1] > 1053
    dconnect("down")
    engine.foreign_ports = set()
    assert dconnect("up").exit_code == 0
    assert ports(engine) == chosen


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(engine: DockerEngine) -> None:
    port = free_port()
    engine.foreign_ports = {port}
    result = dconnect("up", "--port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == (
        f"dconnect: Port {port} on 127.0.0.1 is taken; choose another with --port."
    )
    assert_nothing_of_ours(engine)


def test_a_taken_port_does_not_cost_the_agent_that_runs(engine: DockerEngine) -> None:
    port = free_port()
    dconnect("up", "--port", free_port(), "--egress", "deny")
    before = running_agent(engine)
    engine.foreign_ports = {port}
    result = dconnect("up", "--port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-2:] == [
        f"dconnect: Port {port} on 127.0.0.1 is taken; choose another with --port.",
        "dconnect: What was begun is removed, and the agent that ran before runs again.",
    ]
    assert running_agent(engine) == before


def test_an_agent_whose_port_was_taken_meanwhile_is_told_as_lost(engine: DockerEngine) -> None:
    old, new = free_port(), free_port()
    dconnect("up", "--port", old)
    engine.foreign_ports = {old, new}
    last = dconnect("up", "--port", new).stderr.splitlines()[-1]
    assert last.startswith(
        "dconnect: What was begun is removed, but the agent that ran before could not be started again: "
    )
    assert "port is already allocated" in last
    assert_nothing_of_ours(engine)


def test_a_taken_dns_port_is_told_from_the_proxy_port(engine: DockerEngine) -> None:
    port = free_port()
    engine.foreign_ports = {port}
    result = dconnect("up", "--port", free_port(), "--dns-port", port)
    assert f"Port {port} on 127.0.0.1 is taken; choose another with --dns-port." in result.stderr


def test_a_port_that_a_process_listens_on_counts_as_taken(engine: DockerEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = dconnect("up", "--port", port)
    assert result.exit_code == 1
    assert f"Port {port} on 127.0.0.1 is taken" in result.stderr
    assert_nothing_of_ours(engine)


def test_a_corrupt_memory_of_ports_changes_nothing(engine: DockerEngine, home: Path) -> None:
    file = home / ".local" / "state" / "dconnect" / "ports.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"ENGINE": {"port": 99999, "dns_port": 0}}')
    assert dconnect("up").exit_code == 0
    assert ports(engine)[0] >= 1080
    assert json.loads(file.read_text())["ENGINE"]["port"] == ports(engine)[0]


def test_a_state_directory_that_cannot_be_made_is_no_reason_to_fail(engine: DockerEngine, home: Path) -> None:
    (home / ".local").touch()
    assert dconnect("up", "--port", free_port()).exit_code == 0
    assert len(engine.containers) == 1


def test_an_engine_without_a_socket_at_the_usual_place_is_told_the_option(engine: DockerEngine) -> None:
    engine.missing_paths = {"/var/run/docker.sock"}
    result = dconnect("up", "--port", free_port())
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "dconnect: The engine DOCKER_HOST has no Docker socket at /var/run/docker.sock on its own machine; "
        "name it with --docker-socket."
    )
    assert "Traceback" not in result.stderr
    assert_nothing_of_ours(engine)


def test_the_given_socket_is_mounted(engine: DockerEngine) -> None:
    dconnect("up", "--port", free_port(), "--docker-socket", "/run/other.sock")
    assert engine.containers["dconnect"]["HostConfig"]["Mounts"][0]["Source"] == "/run/other.sock"


def test_wheels_that_are_none_are_a_usage_error(engine: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = dconnect("up", "--wheels", tmp_path / "empty")
    assert result.exit_code == 2
    assert "holds no wheel" in result.stderr
    assert dconnect("up", "--wheels", tmp_path / "absent").exit_code == 2
    assert_nothing_of_ours(engine)


# -- Ctrl-C --------------------------------------------------------------------------------------------

NOTHING_CHANGED = "dconnect: interrupted; nothing was changed."
CLEANED_UP = "dconnect: interrupted; what was begun is removed, and no agent runs."
STEPS = [
    ("GET info", "dconnect: interrupted; nothing was changed."),
    ("GET containers/dconnect/json", NOTHING_CHANGED),
    ("GET images/.*", NOTHING_CHANGED),
    ("POST build", NOTHING_CHANGED),
    ("build", NOTHING_CHANGED),
    ("GET volumes", CLEANED_UP),
    ("POST containers/create", CLEANED_UP),
    ("POST containers/.*/start", CLEANED_UP),
    ("the handshake", CLEANED_UP),
]


@contextmanager
def started(engine: DockerEngine, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that has come to the engine's gate."""
    process = subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert engine.reached.wait(DEADLINE_S)
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupt(
    process: subprocess.Popen[str], engine: DockerEngine, number: signal.Signals = signal.SIGINT
) -> tuple[int, str, list[str]]:
    """Ctrl-C, after which the engine goes on; exit code, stdout and the lines of stderr."""
    process.send_signal(number)
    engine.release()
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    return process.returncode, stdout, stderr.splitlines()


@pytest.mark.parametrize(("step", "sentence"), STEPS)
def test_ctrl_c_leaves_nothing_and_says_so(step: str, sentence: str, engine: DockerEngine) -> None:
    engine.ready = False  # so that up is not done before the signal arrives
    engine.hold(step)
    with started(engine, "up", "--port", str(free_port()), "--dns-port", str(free_port())) as process:
        code, stdout, stderr = interrupt(process, engine)
    assert (code, stdout, stderr[-1]) == (130, "", sentence)
    assert not [line for line in stderr if "Traceback" in line or "rror" in line]
    assert_nothing_of_ours(engine)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("step", "sentence"), [("build", NOTHING_CHANGED), ("the handshake", CLEANED_UP)])
def test_a_signal_to_end_cleans_up_as_ctrl_c_does(
    step: str, sentence: str, number: signal.Signals, engine: DockerEngine
) -> None:
    engine.ready = False
    engine.hold(step)
    with started(engine, "up", "--port", str(free_port()), "--dns-port", str(free_port())) as process:
        code, stdout, stderr = interrupt(process, engine, number)
    assert (code, stdout, stderr[-1]) == (128 + number, "", sentence)
    assert_nothing_of_ours(engine)


def test_a_terminal_that_is_closed_leaves_nothing(engine: DockerEngine) -> None:
    engine.ready = False
    engine.hold("the handshake")
    own_terminal = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    own_terminal += "os.execv(sys.argv[1], sys.argv[1:])"
    master, slave = os.openpty()
    with os.fdopen(master, "rb") as window:
        words = [sys.executable, "-c", own_terminal, str(PROGRAM), "up", f"--port={free_port()}"]
        process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        try:
            assert engine.reached.wait(DEADLINE_S)
            window.close()
            assert process.wait(DEADLINE_S) == 128 + signal.SIGHUP
        finally:
            process.kill()
            process.wait()
    assert_nothing_of_ours(engine)


def test_ctrl_c_during_the_build_keeps_the_agent_that_runs(engine: DockerEngine, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "x.whl").write_bytes(b"")
    dconnect("up", "--port", free_port())
    before = engine.containers["dconnect"]["Id"]
    engine.reached.clear()
    engine.hold("build")
    with started(engine, "up", "--wheels", str(wheels)) as process:
        code, _, stderr = interrupt(process, engine)
    assert (code, stderr[-1]) == (130, NOTHING_CHANGED)
    assert engine.containers["dconnect"]["Id"] == before
    assert engine.leftovers == []


def running_agent(engine: DockerEngine) -> dict[str, object]:
    """What an agent is made of."""
    agent = engine.containers["dconnect"]
    assert agent["State"]["Running"]
    return {"Config": agent["Config"], "HostConfig": agent["HostConfig"]}


@pytest.mark.parametrize("step", ["POST containers/.*/stop", "POST containers/create", "the handshake"])
def test_ctrl_c_during_a_replacement_brings_the_old_agent_back(step: str, engine: DockerEngine) -> None:
    dconnect("up", "--port", free_port())
    before = running_agent(engine)
    engine.ready = False
    engine.reached.clear()
    engine.hold(step)
    with started(engine, "up", "--port", str(free_port())) as process:
        code, _, stderr = interrupt(process, engine)
    sentence = "dconnect: interrupted; what was begun is removed, and the agent that ran before runs again."
    assert (code, stderr[-1]) == (130, sentence)
    assert running_agent(engine) == before
    assert len(engine.containers) == 1


def test_ctrl_c_ends_logs_without_a_word(engine: DockerEngine) -> None:
    dconnect("up", "--port", free_port())
    engine.log = b"line\n"
    engine.reached.clear()
    with started(engine, "logs", "--follow") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line\n"
        assert interrupt(process, engine) == (130, "", [])


def test_ctrl_c_during_down_says_how_to_finish(engine: DockerEngine) -> None:
    dconnect("up", "--port", free_port())
    engine.reached.clear()
    engine.hold("POST containers/.*/stop")
    with started(engine, "down") as process:
        code, _, stderr = interrupt(process, engine)
    assert (code, stderr[-1]) == (130, "dconnect: interrupted; call it again to finish.")
    assert dconnect("down").exit_code == 0
    assert_nothing_of_ours(engine)


# -- the agent does not come up ---------------------------------------------------------------------------


def test_an_agent_that_dies_is_removed_and_its_last_words_are_told(engine: DockerEngine) -> None:
    engine.ready = False
    engine.log = b"ImportError: no module named dnslib\n"
    engine.hold("GET containers/[0-9a-f]{64}/json")  # the handshake asks how the container is
    with started(engine, "up", "--port", str(free_port())) as process:
        engine.containers["dconnect"]["State"] |= {"Running": False, "ExitCode": 1}
        engine.release()
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.splitlines()[-1] == (
        "dconnect: The agent ended with exit code 1 as it started: ImportError: no module named dnslib"
    )
    assert_nothing_of_ours(engine)
