"""``dconnect`` at the keyboard of the host that cannot route: up, down, Ctrl-C, and what is left on the engine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bed.client import Client
from bed.dconnect import DNS_PORT, PROGRAM, PROXY_PORT
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for

UP_DEADLINE = 180.0
"""A cold build of the image on a busy machine."""
CTRL_C_DEADLINE = 60.0


class User:
    """Somebody with a home of their own, who types ``dconnect`` on the bed's host."""

    def __init__(self, bed: Bed, home: Path) -> None:
        self.bed = bed
        self.environment = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}

    def run(self, *arguments: str | Path, timeout: float = UP_DEADLINE) -> subprocess.CompletedProcess[str]:
        return self.bed.host.run([PROGRAM, *arguments], env=self.environment, timeout=timeout)

    def up(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.up_words(*options))

    def up_words(self, *options: str) -> list[str]:
        image = [f"--base-image={self.bed.base_image}", f"--wheels={self.bed.wheels}"]
        return ["up", f"--bind={self.bed.address}", *image, *options]

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """A script of bash, with ``dconnect`` on its path."""
        path = f"{PROGRAM.parent}:{os.environ['PATH']}"
        return self.bed.host.run(["bash", "-c", script], env={**self.environment, "PATH": path})

    @contextmanager
    def typing(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that is under way."""
        process = self.bed.host.popen([PROGRAM, *arguments], env=self.environment)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def ctrl_c(process: subprocess.Popen[bytes]) -> tuple[int, str, list[str]]:
    """Press it; exit code, stdout, and the lines of stderr that were not yet read."""
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=CTRL_C_DEADLINE)
    return process.returncode, stdout.decode(), stderr.decode().splitlines()


def wait_for_line(process: subprocess.Popen[bytes], begin: str) -> None:
    """Read stderr up to a line that begins so."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.decode().startswith(begin):
            return
    pytest.fail(f"the command ended before it said {begin!r}")


def snapshot(bed: Bed) -> dict[str, set[str]]:
    """Everything that the engine holds; of images also those without a name."""
    return {
        "containers": set(bed.docker("ps", "-a", "--no-trunc", "--format={{.ID}} {{.Names}}").splitlines()),
        "networks": set(bed.docker("network", "ls", "--no-trunc", "--format={{.ID}} {{.Name}}").splitlines()),
        "volumes": set(bed.docker("volume", "ls", "--format={{.Name}}").splitlines()),
        "images": set(bed.docker("images", "-a", "--no-trunc", "--format={{.ID}} {{.Repository}}").splitlines()),
    }


def without_agent_image(bed: Bed, found: dict[str, set[str]]) -> dict[str, set[str]]:
    """The snapshot less the agent's image and the layers it stands on, which may stay."""
    history: set[str] = set()
    for tag in bed.docker("images", "dconnect-agent", "--format={{.Repository}}:{{.Tag}}").splitlines():
        history |= set(bed.docker("history", "--no-trunc", "--format={{.ID}}", tag).splitlines())
    base = {
        line for line in found["images"] if line.startswith(bed.docker("images", "-q", "--no-trunc", bed.base_image))
    }
    kept = {line for line in found["images"] if line.split()[0] not in history}
    return found | {"images": kept | base}


@pytest.fixture
def user(bed: Bed, scene: Scene, tmp_path: Path) -> Iterator[User]:
    """A user on an engine without dconnect; after the test and ``down`` the engine is as it was."""
    assert all((bed.base_image, bed.busybox_image))  # made before the first snapshot
    made = User(bed, tmp_path)
    before = without_agent_image(bed, snapshot(bed))
    yield made
    assert made.run("down").returncode == 0
    assert without_agent_image(bed, snapshot(bed)) == before


@pytest.fixture
def running(user: User) -> User:
    """The same, with an agent that is up."""
    result = user.up()
    assert result.returncode == 0, result.stderr
    return user


def container_id(bed: Bed) -> str:
    return bed.docker("ps", "-q", "--no-trunc", "--filter=name=^dconnect$")


def assert_no_control_sequences(*texts: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", "".join(texts))


# -- up ---------------------------------------------------------------------------------------------


def test_up_twice_is_up_once(user: User, bed: Bed) -> None:
    first = user.up()
    assert first.returncode == 0, first.stderr
    assert f"dconnect {version('dconnect')} is up on DOCKER_HOST ({bed.docker_host})." in first.stdout
    before = container_id(bed)
    second = user.up()
    assert second.returncode == 0
    assert " is already running on DOCKER_HOST" in second.stdout
    assert second.stderr.splitlines() == ["asking DOCKER_HOST"]
    assert container_id(bed) == before
    assert_no_control_sequences(first.stdout, first.stderr, second.stdout)


def test_the_curl_line_that_up_prints_works_as_it_stands(user: User, bed: Bed) -> None:
    lines = user.up().stdout.splitlines()
    (curl,) = [line.strip() for line in lines if line.startswith("  curl ")]
    assert f"--proxy socks5h://{bed.address}:{PROXY_PORT} http://" in curl
    result = user.shell(f"{curl} --silent --show-error --fail")
    assert result.returncode == 0, result.stderr
    assert "hello from" in result.stdout


def test_up_json_is_json_and_progress_is_on_stderr(user: User, bed: Bed) -> None:
    result = user.up("--json")
    said: dict[str, Any] = json.loads(result.stdout)
    assert (said["result"], said["bind"], said["port"]) == ("started", bed.address, PROXY_PORT)
    assert result.stderr.splitlines()[-1] == f"waiting for the agent at {bed.address}:{PROXY_PORT}"
    assert json.loads(user.up("--json").stdout)["result"] == "already running"


def test_a_default_port_that_a_container_has_gives_way_and_the_choice_is_remembered(user: User, bed: Bed) -> None:
    publish = [f"--publish={bed.address}:{PROXY_PORT}:80", f"--publish={bed.address}:{DNS_PORT}:80/udp"]
    bed.target("has_the_ports", options=publish, image=bed.busybox_image)
    try:
        first = json.loads(user.up("--json").stdout)
    finally:
        bed.docker("rm", "--force", "has_the_ports")
    assert first["port"] > PROXY_PORT
    assert first["dns_port"] > DNS_PORT
    user.run("down")
    again = json.loads(user.up("--json").stdout)
    assert (again["port"], again["dns_port"]) == (first["port"], first["dns_port"])


def test_a_default_port_that_a_process_has_gives_way_too(user: User, bed: Bed) -> None:
    with closing(bed.engine_netns.socket()) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((bed.address, PROXY_PORT))
        server.listen()
        result = user.up("--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["port"] > PROXY_PORT


@pytest.mark.parametrize(("option", "protocol"), [("--port", "tcp"), ("--dns-port", "udp")])
def test_a_port_that_was_asked_for_and_is_taken_is_an_error(user: User, bed: Bed, option: str, protocol: str) -> None:
    bed.target("has_the_port", options=[f"--publish={bed.address}:2345:80/{protocol}"], image=bed.busybox_image)
    try:
        result = user.up(f"{option}=2345")
        left = snapshot(bed)
    finally:
        bed.docker("rm", "--force", "has_the_port")
    assert (result.returncode, result.stdout) == (1, "")
    sentence = f"dconnect: Port 2345 on {bed.address} is taken; choose another with {option}."
    assert result.stderr.splitlines()[-1] == sentence
    assert not [line for line in left["containers"] | left["volumes"] if "dconnect" in line]


def test_a_taken_port_does_not_cost_the_agent_that_runs(running: User, bed: Bed) -> None:
    with closing(bed.engine_netns.socket()) as server:
        server.bind((bed.address, 2345))
        server.listen()
        result = running.up("--port=2345")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-2:] == [
        f"dconnect: Port 2345 on {bed.address} is taken; choose another with --port.",
        "dconnect: What was begun is removed, and the agent that ran before runs again.",
    ]
    client = Client(bed.host, bed.address, PROXY_PORT)
    wait_for("the agent serves", lambda: client.own("/healthz") is not None, 10)
    assert client.get("http://plain/").code == 200


def test_a_port_that_this_host_does_not_reach_is_told_apart_from_an_agent_that_is_not_ready(
    user: User, bed: Bed
) -> None:
    result = user.up("--bind=172.17.0.1")
    assert result.returncode == 1
    assert "runs and is healthy" in result.stderr
    assert "172.17.0.1:1080 is not reachable from here" in result.stderr
    assert "--bind" in result.stderr


def test_a_wrong_socket_path_is_refused_and_no_directory_is_made_of_it(user: User, tmp_path: Path) -> None:
    wrong = tmp_path / "no.sock"
    result = user.up(f"--docker-socket={wrong}")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"has no Docker socket at {wrong} on its own machine; name it with --docker-socket." in result.stderr
    assert not wrong.exists()


def test_wheels_that_do_not_suffice_are_told_in_pip_s_words(user: User, bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "nothing-1-py3-none-any.whl").write_bytes(b"")
    result = user.run("up", f"--base-image={bed.base_image}", f"--wheels={tmp_path / 'wheels'}")
    assert (result.returncode, result.stdout) == (1, "")
    start = "dconnect: The agent image could not be built, because pip found no way to install from the wheels"
    assert result.stderr.splitlines()[-1].startswith(start)
    assert "ERROR: No matching distribution found for" in result.stderr
    assert_no_control_sequences(result.stderr)


def test_a_base_image_without_python_is_told(user: User, bed: Bed) -> None:
    result = user.run("up", f"--base-image={bed.busybox_image}", f"--wheels={bed.wheels}")
    assert result.returncode == 1
    assert f"The base image {bed.busybox_image} cannot carry the agent: it has no python3;" in result.stderr


def test_up_without_an_engine_ends_with_4(user: User, tmp_path: Path) -> None:
    result = user.run("up", "--host", f"unix://{tmp_path}/none.sock")
    assert (result.returncode, result.stdout) == (4, "")
    assert "there is no such socket; is the engine running?" in result.stderr


# -- down -------------------------------------------------------------------------------------------


def test_down_with_nothing_up_is_no_error(user: User) -> None:
    result = user.run("down")
    assert (result.returncode, result.stdout, result.stderr) == (0, "dconnect was not running on DOCKER_HOST.\n", "")


def test_down_ends_traffic_that_is_under_way(running: User, bed: Bed) -> None:
    connection, reply = Client(bed.host, bed.address, PROXY_PORT).socks("plain", 19)
    assert reply.code == 0
    with connection:
        connection.sendall(b"1000000000000\n")
        assert connection.recv(1)
        result = running.run("down")
        assert (result.returncode, result.stdout) == (0, "dconnect is down on DOCKER_HOST.\n")
        connection.settimeout(5)
        with suppress(ConnectionResetError):  # an end in order and a reset are both an end, a time-out is none
            while connection.recv(1 << 20):
                pass


def test_down_image_leaves_nothing_at_all(user: User, bed: Bed) -> None:
    user.run("down", "--image")
    before = snapshot(bed)
    assert user.up().returncode == 0
    result = user.run("down", "--image")
    assert result.returncode == 0
    assert re.fullmatch(
        r"dconnect is down on DOCKER_HOST\.\nRemoved the image dconnect-agent:\S+\.\n",
        result.stdout,
    )
    assert snapshot(bed) == before


def test_down_removes_what_a_killed_up_left_of_its_build(user: User, bed: Bed) -> None:
    user.run("down", "--image")
    before = snapshot(bed)
    with user.typing(*user.up_words()) as process:
        wait_for_line(process, "building the agent image, step 9/")
    assert snapshot(bed) != before

    def gone() -> bool:  # the engine finishes its step first
        return user.run("down").returncode == 0 and snapshot(bed) == before

    wait_for("the engine is as it was", gone, 30)


def test_a_newer_image_replaces_the_older_one(running: User, bed: Bed) -> None:
    bed.docker("tag", bed.base_image, "dconnect-bed/other:latest")
    try:
        assert running.run(*running.up_words("--base-image=dconnect-bed/other:latest")).returncode == 0
    finally:
        bed.docker("rmi", "dconnect-bed/other:latest")
    assert len(bed.docker("images", "dconnect-agent", "--format={{.Tag}}").splitlines()) == 1
    assert bed.inspect("dconnect")["Config"]["Image"] in bed.docker("images", "--format={{.Repository}}:{{.Tag}}")


# -- Ctrl-C -----------------------------------------------------------------------------------------

NOTHING_CHANGED = "dconnect: interrupted; nothing was changed."
CLEANED_UP = "dconnect: interrupted; what was begun is removed, and no agent runs."


@pytest.mark.parametrize("step", [1, 3, 5, 9, 11, 13, 18])
def test_ctrl_c_during_the_build_leaves_nothing(user: User, bed: Bed, step: int) -> None:
    user.run("down", "--image")
    before = snapshot(bed)
    with user.typing(*user.up_words()) as process:
        wait_for_line(process, f"building the agent image, step {step}/")
        code, stdout, stderr = ctrl_c(process)
    assert (code, stdout, stderr[-1]) == (130, "", NOTHING_CHANGED)
    assert snapshot(bed) == before


def test_ctrl_c_at_once_leaves_nothing(user: User) -> None:
    with user.typing(*user.up_words()) as process:
        wait_for_line(process, "asking")
        code, stdout, stderr = ctrl_c(process)
    assert (code, stdout, stderr[-1]) == (130, "", NOTHING_CHANGED)


@pytest.mark.parametrize(
    "event",
    [
        "create dconnect",
        "start dconnect",
        "create dconnect-dialer",
        "start dconnect-dialer",
    ],
)
def test_ctrl_c_while_the_agent_starts_leaves_nothing(user: User, bed: Bed, event: str) -> None:
    user.up()
    user.run("down")
    before = snapshot(bed)
    since = bed.docker("info", "--format={{.SystemTime}}")
    words = ["docker", "events", f"--since={since}", "--format={{.Action}} {{.Actor.Attributes.name}}"]
    with user.typing(*user.up_words()) as process:
        events = subprocess.Popen(words, env=bed.environment, stdout=subprocess.PIPE, text=True)
        try:
            assert events.stdout is not None
            assert event in (line.strip() for line in events.stdout)
            code, stdout, stderr = ctrl_c(process)
        finally:
            events.kill()
            events.communicate()
    assert (code, stdout, stderr[-1]) == (130, "", CLEANED_UP)
    assert snapshot(bed) == before


def test_ctrl_c_during_a_rebuild_keeps_the_agent_that_runs(running: User, bed: Bed) -> None:
    before = container_id(bed)
    bed.docker("tag", bed.base_image, "dconnect-bed/other:latest")
    try:
        with running.typing(*running.up_words("--base-image=dconnect-bed/other:latest")) as process:
            wait_for_line(process, "building the agent image, step 9/")
            code, _, stderr = ctrl_c(process)
    finally:
        bed.docker("rmi", "dconnect-bed/other:latest")
    assert (code, stderr[-1]) == (130, NOTHING_CHANGED)
    assert container_id(bed) == before
    assert running.run("status").returncode == 0


def test_ctrl_c_ends_logs_without_a_word(running: User) -> None:
    with running.typing("logs", "--follow") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"{")
        code, _, stderr = ctrl_c(process)
    assert (code, stderr) == (130, [])


# -- the other commands -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "status --json", "connections", "nc web 80", "env", "logs"])
def test_without_an_agent_a_command_that_needs_it_ends_with_3(user: User, command: str) -> None:
    result = user.run(*command.split())
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == "dconnect: dconnect is not running on DOCKER_HOST; start it with `dconnect up`.\n"


def test_the_version_needs_no_engine(user: User) -> None:
    assert user.run("--version").stdout == f"dconnect {version('dconnect')}\n"


def test_a_running_agent_answers_every_command(running: User, bed: Bed) -> None:
    address = bed.address_of("plain")

    status = running.run("status")
    assert status.returncode == 0
    assert "strategy    engine-netns:" in status.stdout
    assert json.loads(running.run("status", "--json").stdout)["strategy"]["name"] == "engine-netns"

    assert running.run("dns", "plain.docker").stdout == f"{address}\n"
    assert json.loads(running.run("dns", "--json", "plain").stdout)[0]["addresses"] == [address]
    unknown = running.run("dns", "plain", "nobody")
    assert (unknown.returncode, unknown.stdout) == (5, f"plain  {address}\n")
    assert "nobody" in unknown.stderr

    table = running.run("dns").stdout
    assert table.split()[:2] == ["CONTAINER", "STATE"]
    assert re.search(rf"^plain +running +\S+ +{re.escape(address)} \(bridge\)", table, re.MULTILINE)
    assert_no_control_sequences(table, status.stdout)
    listed = json.loads(running.run("dns", "--json").stdout)["containers"]
    assert {"plain", "shop_web_1", "vault"} <= {container["name"] for container in listed}

    log = [json.loads(line) for line in running.run("logs").stdout.splitlines()]
    assert "agent starting" in {line["event"] for line in log}


def test_env_evaluated_by_a_shell_brings_curl_to_a_container(running: User) -> None:
    for shell in ("sh", "bash"):
        script = f'eval "$(dconnect env --shell {shell})"; curl --silent --show-error --fail http://plain/'
        result = running.shell(script)
        assert result.returncode == 0, result.stderr
        assert "hello from" in result.stdout


def test_a_pipe_that_closes_early_brings_no_traceback(running: User) -> None:
    for command in ("dns", "dns --json", "status", "logs"):
        result = running.shell(f"dconnect {command} | head -1")
        assert result.returncode == 0
        assert len(result.stdout.splitlines()) == 1
        assert result.stderr == ""
