"""The real host, as far as a folder of a test's own is one."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from dconnect.cli.host.environment import NOT_FOUND, RealEnvironment
from dconnect.core.errors import DconnectError

_WAITS = "import sys; print('ready', flush=True); sys.stdin.readline() or sys.exit(); import time; time.sleep(60)"


@pytest.fixture
def env() -> RealEnvironment:
    return RealEnvironment()


def test_a_file_is_written_whole_and_keeps_its_mode(env: RealEnvironment, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    env.write(str(file), b"new\n")
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"new\n", 0o644)
    file.chmod(0o755)
    number = file.stat().st_ino
    env.write(str(file), b"other\n")
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"other\n", 0o755)
    assert file.stat().st_ino != number  # a reader of the old one still has all of it
    assert env.listed(str(tmp_path)) == ["resolv.conf"]


def test_what_is_removed_takes_its_draft_along(env: RealEnvironment, tmp_path: Path) -> None:
    for name in ("x", "x.dconnect-draft"):
        (tmp_path / name).touch()
    env.remove(str(tmp_path / "x"))
    env.remove(str(tmp_path / "x"))
    assert env.listed(str(tmp_path)) == []


def test_a_folder_goes_only_when_it_is_empty(env: RealEnvironment, tmp_path: Path) -> None:
    env.make_folder(str(tmp_path / "a"))
    (tmp_path / "a" / "x").touch()
    env.remove_folder(str(tmp_path / "a"))
    assert env.exists(str(tmp_path / "a" / "x"))
    env.remove(str(tmp_path / "a" / "x"))
    env.remove_folder(str(tmp_path / "a"))
    assert not env.exists(str(tmp_path / "a"))


def test_a_command_has_a_code_and_its_words_whatever_becomes_of_it(env: RealEnvironment) -> None:
    result = env.run((sys.executable, "-c", "import sys; print('out'); sys.exit('err')"))
    assert (result.code, set(result.output.split())) == (1, {"out", "err"})
    assert env.run(("no-such-program",)).code == NOT_FOUND
    assert "no-such-program" in env.run(("no-such-program",)).output


def test_a_process_waits_for_our_word_and_that_very_one_is_ended(env: RealEnvironment) -> None:
    held = env.hold((sys.executable, "-c", _WAITS))
    began = env.began(held.pid)
    assert began
    held.release()
    env.end(held.pid, f"{began}0")  # another one, of the same number
    assert env.began(held.pid) == began
    env.end(held.pid, began)
    assert env.began(held.pid) is None
    os.waitpid(held.pid, 0)
    env.end(held.pid, began)


def test_a_process_that_is_not_ready_is_told_in_its_own_words(env: RealEnvironment) -> None:
    with pytest.raises(DconnectError, match=r"could not be started: 127\.0\.0\.153 port 53: Address already in use"):
        env.hold((sys.executable, "-c", "print('127.0.0.153 port 53: Address already in use')"))


def test_a_lock_is_had_by_one_and_its_folder_goes(env: RealEnvironment, tmp_path: Path) -> None:
    folder = tmp_path / "lib" / "dconnect"
    with env.lock(str(folder)):
        with pytest.raises(DconnectError, match="Another dconnect is changing this host"), env.lock(str(folder)):
            pass
        assert folder.is_dir()
    assert not folder.exists()
    with env.lock(str(folder)):
        (folder / "host.json").touch()
    assert env.listed(str(folder)) == ["host.json"]


def test_a_lock_on_a_folder_that_was_removed_meanwhile_is_none(
    env: RealEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "dconnect"
    flock = fcntl.flock

    def flock_late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        folder.rmdir()  # who had the lock ends here, and the next one comes
        folder.mkdir()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with env.lock(str(folder)), pytest.raises(DconnectError, match="Another dconnect"), env.lock(str(folder)):
        pass


def test_of_many_who_lock_and_remove_a_folder_none_fails(env: RealEnvironment, tmp_path: Path) -> None:
    folder = tmp_path / "dconnect"
    wrong: list[Exception] = []

    def change() -> None:
        for _ in range(200):
            try:
                with suppress(DconnectError), env.lock(str(folder)):
                    assert folder.exists()
            except (OSError, AssertionError) as error:
                wrong.append(error)

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not folder.exists()
