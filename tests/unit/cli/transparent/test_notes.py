"""Root's notes, and whose tunnel it is."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import threading
from pathlib import Path

import pytest

from dconnect.cli.transparent.invoker import Invoker
from dconnect.cli.transparent.rundir import Entry, Held, RunDir
from dconnect.cli.transparent.status import ask, rows
from dconnect.core.errors import DconnectError, NotRunning

NOBODY = pwd.getpwnam("nobody")


def test_one_helper_has_the_lock(tmp_path: Path) -> None:
    notes = RunDir(tmp_path / "run")
    with notes.take(), pytest.raises(Held, match="up already"):
        notes.take()
    notes.take().close()


def test_a_lock_whose_file_was_removed_holds_nobody_up(tmp_path: Path) -> None:
    notes = RunDir(tmp_path / "run")
    with notes.take():
        notes.forget()
        with notes.take():
            assert notes.remains() == [str(tmp_path / "run" / "tun.lock")]


def test_what_is_noted_is_read_and_forgotten(tmp_path: Path) -> None:
    notes = RunDir(tmp_path / "run")
    with notes.take():
        notes.write(Entry(7, 501, "dconnect0"))
        assert notes.read() == Entry(7, 501, "dconnect0")
        notes.listen(os.getuid(), os.getgid()).close()
        assert len(notes.remains()) == 3
        notes.forget()
    assert notes.remains() == []
    assert notes.read() is None
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', "\xff"])
def test_notes_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "tun.json").write_text(text, encoding="latin-1")
    assert RunDir(tmp_path).read() is None


def test_the_status_socket_is_its_users_alone(tmp_path: Path) -> None:
    notes = RunDir(tmp_path)
    with notes.listen(os.getuid(), os.getgid()):
        assert stat.S_IMODE(notes.status.stat().st_mode) == 0o600


def test_without_a_tunnel_the_status_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="`sudo dconnect tun up` starts it"):
        ask(RunDir(tmp_path))
    RunDir(tmp_path).listen(os.getuid(), os.getgid()).close()  # as a killed helper leaves it
    with pytest.raises(NotRunning):
        ask(RunDir(tmp_path))


def test_a_pump_that_answers_nonsense_is_an_error(tmp_path: Path) -> None:
    notes = RunDir(tmp_path)
    with notes.listen(os.getuid(), os.getgid()) as listener:
        thread = threading.Thread(target=_answer, args=(listener, b"{"))
        thread.start()
        with pytest.raises(DconnectError, match="does not answer"):
            ask(notes)
        thread.join()


def _answer(listener: socket.socket, text: bytes) -> None:
    asking, _ = listener.accept()
    with asking:
        asking.sendall(text)


STATUS = {
    "device": "dconnect0",
    "mtu": 65535,
    "addresses": ["10.213.0.2/24"],
    "subnets": ["172.17.0.0/16", "172.18.0.0/16"],
    "refused": [{"subnet": "172.19.0.0/16", "reason": "this host has the route 172.16.0.0/12 on wg0"}],
    "started": 0.0,
    "dns": ["10.213.0.1"],
    "link": {"up": True, "door": "127.0.0.1:1080", "since": 0.0, "rtt_ms": 0.214, "error": None, "opened": 1},
    "trouble": None,
    "sent": {"packets": 1200, "bytes": 2_500_000, "bits_per_s": 1_000_000},
    "received": {"packets": 0, "bytes": 0, "bits_per_s": 0},
}


def test_people_are_told_what_is_routed_what_is_not_and_how_it_goes() -> None:
    told = rows(STATUS)
    assert ("subnets", "172.17.0.0/16, 172.18.0.0/16") in told
    assert ("not routed", "172.19.0.0/16: this host has the route 172.16.0.0/12 on wg0") in told
    assert ("sent", "2.5 MB, 1,200 packets, 1.0 Mbit/s now") in told
    assert dict(told)["link"].endswith(", round trip 0.21 ms")
    down = {**STATUS, "link": {**STATUS["link"], "up": False, "error": "Nothing listens."}}  # type: ignore[dict-item]
    assert dict(rows(down))["link"].startswith("DOWN since ")
    assert dict(rows(down))["link"].endswith(": Nothing listens.")


def test_under_sudo_it_is_the_users_who_typed_it() -> None:
    told = {"SUDO_UID": str(NOBODY.pw_uid), "HOME": "/root"}
    assert Invoker.of(told, 0) == Invoker(NOBODY.pw_uid, NOBODY.pw_gid, "nobody", NOBODY.pw_dir)


@pytest.mark.parametrize("told", [{}, {"SUDO_UID": ""}, {"SUDO_UID": "x"}, {"SUDO_UID": "-1"}])
def test_without_sudo_it_is_roots(told: dict[str, str]) -> None:
    assert Invoker.of(told, 0).uid == 0


def test_only_root_may_act_for_somebody_else() -> None:
    assert Invoker.of({"SUDO_UID": "0"}, NOBODY.pw_uid).uid == NOBODY.pw_uid


def test_the_pump_sees_its_users_home_and_no_variable_that_it_need_not() -> None:
    nobody = Invoker(NOBODY.pw_uid, NOBODY.pw_gid, "nobody", NOBODY.pw_dir)
    seen = nobody.environment(
        {"HOME": "/root", "DOCKER_HOST": "tcp://x", "SECRET": "s", "LD_PRELOAD": "x", "PATH": "/p"}
    )
    assert seen["HOME"] == NOBODY.pw_dir
    assert (seen["DOCKER_HOST"], seen["USER"], seen["PATH"]) == ("tcp://x", "nobody", "/p")
    assert not {"SECRET", "LD_PRELOAD"} & set(seen)
