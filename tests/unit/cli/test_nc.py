"""``dconnect nc`` at a real front door: what goes through it, how it ends, and what it says when it cannot."""

from __future__ import annotations

import hashlib
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dconnect.cli import nc, passwords
from dconnect.core.address import Target
from dconnect.core.config import AgentConfig
from dconnect.core.credentials import Verifier
from dconnect.core.errors import DconnectError, UsageError
from dconnect.core.failure import Failure
from kit.docker_engine import DockerEngine
from kit.door import DoorThread, exactly, reset, rest
from kit.failing import Failing

PROGRAM = Path(sys.executable).with_name("dconnect")
DEADLINE_S = 20.0
BIG = random.Random(3).randbytes(50_000_000)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DoorThread]:
    with DoorThread(tmp_path) as made:
        yield made


@contextmanager
def running(
    engine: DockerEngine, door: DoorThread, *words: object, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, with an agent whose front door is ``door``."""
    entry = passwords.settle(passwords.default_file(), "E", None)
    auth = passwords.lock("", entry.credentials) if options.pop("locked", False) else ""
    program: Any = options.pop("program", [str(PROGRAM)])
    config = AgentConfig(port=door.address[1], auth=auth)
    labels = {"dev.dconnect.role": "agent", "dev.dconnect.config": config.to_json()}
    engine.containers["dconnect"] = {"Id": "a" * 64, "Config": {"Labels": labels}, "State": {"Running": True}}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [*program, "nc", *map(str, words)],
        **{**pipes, **options},  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    """Exit code, stdout and stderr; stdin is closed."""
    out, errors = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, errors.decode()


# -- what goes through --------------------------------------------------------------------------


def test_eof_on_stdin_is_fin_and_the_reading_goes_on_until_the_target_s(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    with running(engine, door, "web", server.port) as process:
        assert process.stdin is not None
        process.stdin.write(b"question")
        process.stdin.close()
        process.stdin = None
        target = server.accept()
        assert rest(target) == b"question", "FIN came"
        target.sendall(b"answer")
        target.close()
        assert end(process) == (0, b"answer", "")


def test_the_target_s_fin_is_eof_for_our_reader_and_the_sending_goes_on(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    with running(engine, door, "web", server.port) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        target = server.accept()
        target.sendall(b"greeting")
        target.shutdown(socket.SHUT_WR)
        assert process.stdout.read() == b"greeting"
        got: list[bytes] = []
        reading = threading.Thread(target=lambda: got.extend([rest(target)]))
        reading.start()
        out, errors = process.communicate(BIG, timeout=DEADLINE_S)
        reading.join(DEADLINE_S)
        assert (process.returncode, out, errors) == (0, b"", b"")
        assert got == [BIG]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_fifty_megabytes_arrive_intact(engine: DockerEngine, door: DoorThread, direction: str) -> None:
    server = door.server()
    got: list[bytes] = []

    def serve(target: socket.socket) -> None:
        if direction == "up":
            got.append(rest(target))
        else:
            target.sendall(BIG)
        target.close()

    with running(engine, door, "web", server.port) as process:
        serving = threading.Thread(target=serve, args=(server.accept(),))
        serving.start()
        out, errors = process.communicate(BIG if direction == "up" else None, timeout=DEADLINE_S)
        serving.join(DEADLINE_S)
        assert (process.returncode, errors) == (0, b"")
        assert hashlib.sha256(got[0] if direction == "up" else out).digest() == hashlib.sha256(BIG).digest()


def test_what_the_target_says_with_the_connect_is_not_lost(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    with running(engine, door, "web", server.port, stdin=subprocess.DEVNULL) as process:
        target = server.accept()
        target.sendall(b"220 ready\r\n")
        target.close()
        assert end(process) == (0, b"220 ready\r\n", "")


def test_at_a_terminal_the_target_s_fin_is_the_end(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    ours, theirs = pty.openpty()
    try:
        with running(engine, door, "web", server.port, stdin=theirs) as process:
            target = server.accept()
            os.write(ours, b"hello\n")
            assert exactly(target, 6) == b"hello\n"
            target.sendall(b"bye")
            target.close()
            assert end(process) == (0, b"bye", "")
    finally:
        os.close(ours)
        os.close(theirs)


def test_descriptors_that_do_not_block_are_waited_for(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    (stdin, to_stdin), (from_stdout, stdout) = os.pipe(), os.pipe()
    for descriptor in (stdin, stdout):
        os.set_blocking(descriptor, False)
    with running(engine, door, "web", server.port, stdin=stdin, stdout=stdout) as process:
        os.close(stdin)
        os.close(stdout)
        target = server.accept()
        target.sendall(b"x" * 300_000)  # more than a pipe holds
        os.write(to_stdin, b"late")
        os.close(to_stdin)
        assert exactly(target, 4) == b"late"
        target.close()
        with os.fdopen(from_stdout, "rb") as reader:
            assert reader.read() == b"x" * 300_000
        assert end(process)[0] == 0


@pytest.mark.parametrize(
    ("redirection", "code", "errors"),
    [
        ("<&-", 0, ""),
        (">&-", 1, "dconnect: There is no standard output to write to; leave it open.\n"),
        (">/dev/full", 1, "dconnect: Standard output takes no more: No space left on device.\n"),
    ],
)
def test_streams_that_are_not_there_or_full_are_no_fault_of_ours(
    engine: DockerEngine, door: DoorThread, redirection: str, code: int, errors: str
) -> None:
    server = door.server()

    def serve() -> None:
        with suppress(OSError):  # without an output nothing is opened
            target = server.accept()
            target.sendall(b"hi")
            target.close()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    shell = ["bash", "-c", f'exec "$0" "$@" {redirection}', str(PROGRAM)]
    with running(engine, door, "web", server.port, program=shell, stdin=subprocess.DEVNULL) as process:
        out = b"hi" if code == 0 else b""
        assert end(process) == (code, out, errors)


# -- how it ends --------------------------------------------------------------------------------


def test_a_reader_that_left_ends_it_without_a_word(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    with running(engine, door, "web", server.port) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        target = server.accept()
        target.sendall(b"nobody reads this")
        code, _, errors = end(process)
        assert (code, errors) == (1, "")


def test_ctrl_c_ends_it_without_a_word(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    with running(engine, door, "web", server.port) as process:
        target = server.accept()
        target.sendall(b"x")
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x", "it is at work"
        process.send_signal(signal.SIGINT)
        assert end(process) == (130, b"", "")


def test_a_target_that_cuts_is_told(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    with running(engine, door, "web", server.port) as process:
        target = server.accept()
        target.sendall(b"x")
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x", "the connection stands"
        reset(target)
        assert process.wait(DEADLINE_S) == 1
        assert end(process)[2] == f"dconnect: web:{server.port} cut the connection (Connection reset by peer).\n"


# -- what it says when it cannot ----------------------------------------------------------------


def test_a_refused_port_is_one_sentence_and_1(engine: DockerEngine, door: DoorThread) -> None:
    server = door.server()
    port = server.port
    server.listener.close()
    with running(engine, door, "web", port) as process:
        told = f"dconnect: web:{port} refused the connection: nothing listens on port {port} there.\n"
        assert end(process) == (1, b"", told)


def test_an_unknown_name_is_one_sentence_and_5(engine: DockerEngine, door: DoorThread) -> None:
    with running(engine, door, "nobody", 80) as process:
        assert end(process) == (5, b"", "dconnect: No container is called nobody.\n")


@pytest.mark.parametrize("failure", [each for each in Failure if each is not Failure.NAME_UNKNOWN])
def test_every_other_failure_is_the_front_door_s_own_sentence_and_1(
    engine: DockerEngine, tmp_path: Path, failure: Failure
) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure)) as door, running(engine, door, "web", 80) as process:
        assert end(process) == (1, b"", "dconnect: web fails.\n")


def test_without_an_agent_it_ends_with_3(engine: DockerEngine) -> None:
    result = subprocess.run([PROGRAM, "nc", "web", "80"], capture_output=True, timeout=DEADLINE_S, check=False)
    assert (result.returncode, result.stdout) == (3, b"")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 502 Bad\r\n\r\n", b"x" * 100_000])
def test_what_is_no_front_door_is_told(engine: DockerEngine, door: DoorThread, answer: bytes) -> None:
    server = door.server()
    config = AgentConfig(port=server.port)

    def serve() -> None:
        sock = server.accept()
        exactly(sock, 4)
        sock.sendall(answer)
        sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(DconnectError, match=r"is not dconnect|broke off"):
        nc.nc(config, Target("web", 80))
    thread.join(DEADLINE_S)


def test_it_signs_in_where_a_password_is_wanted(engine: DockerEngine, tmp_path: Path) -> None:
    entry = passwords.settle(passwords.default_file(), "E", None)
    accepts = Verifier(passwords.lock("", entry.credentials)).accepts
    with DoorThread(tmp_path, accepts=accepts) as door:
        server = door.server()
        with running(engine, door, "web", server.port, locked=True) as process:
            server.accept().sendall(b"hello")
            assert process.stdout is not None
            assert process.stdout.read(5) == b"hello"
        with running(engine, door, "web", server.port) as process:
            code, _, errors = end(process)
            assert (code, "wants a password that this user does not know" in errors) == (1, True)


@pytest.mark.parametrize(
    ("host", "target"),
    [("Web", Target("web", 80)), ("fd00::1", Target("fd00::1", 80)), ("[fd00::1]", Target("fd00::1", 80))],
)
def test_hosts_as_people_and_ssh_write_them(host: str, target: Target) -> None:
    assert nc.target_of(host, 80) == target


@pytest.mark.parametrize("host", ["", "a b", "jörg", "a/b", "a\r\nX: y", "[", "fd00::x"])
def test_hosts_that_cannot_be_are_refused(host: str) -> None:
    with pytest.raises(UsageError):
        nc.target_of(host, 80)
