"""The journal: whatever interrupts a change, the host can be made as it was, and nobody else's work is touched."""

from __future__ import annotations

import errno
import json
import os

import pytest

from dconnect.cli.host.detect import Manager
from dconnect.cli.host.environment import Result
from dconnect.cli.host.fake import FakeEnvironment, Killed
from dconnect.cli.host.journal import Journal
from dconnect.cli.host.plans import Wish
from dconnect.core.address import Target
from dconnect.core.errors import DconnectError

RESOLV = "search lan\nnameserver 10.0.0.1\n"
OURS = "# dconnect: the next line goes with `sudo dconnect dns uninstall`\nnameserver 127.0.0.153\n"
MACHINES = {
    "macOS": (Manager.MACOS, "darwin"),
    "resolved": (Manager.RESOLVED, "linux"),
    "old resolved": (Manager.OLD_RESOLVED, "linux"),
    "NetworkManager": (Manager.NETWORK_MANAGER, "linux"),
    "resolv.conf": (Manager.RESOLV_CONF, "linux"),
}


def wish(manager: Manager, *suffixes: str) -> Wish:
    return Wish(manager, suffixes or ("docker", "docker.test"), Target("127.0.0.1", 1053))


def host(platform: str = "linux") -> FakeEnvironment:
    made = FakeEnvironment(platform, {"/etc/resolv.conf": RESOLV})
    made.folders.add("/etc/NetworkManager")
    return made


def set_to(env: FakeEnvironment, wished: Wish | None) -> list[str]:
    """What was told meanwhile."""
    told: list[str] = []
    Journal(env).set(wished, told.append)
    return told


@pytest.fixture(params=list(MACHINES.values()), ids=list(MACHINES))
def kind(request: pytest.FixtureRequest) -> tuple[Manager, str]:
    found: tuple[Manager, str] = request.param
    return found


def test_what_was_installed_goes_and_leaves_nothing(kind: tuple[Manager, str]) -> None:
    manager, platform = kind
    env = host(platform)
    before = env.tree()
    assert set_to(env, wish(manager)) == []
    installed = env.tree()
    assert installed != before
    assert not any(path.endswith("-draft") for path in env.files)
    assert set_to(env, None) == []
    assert env.tree() == before
    count = len(env.commands)
    assert Journal(env).set(None, print) is False  # again
    assert (env.tree(), len(env.commands)) == (before, count)


def test_after_a_kill_at_any_point_the_host_can_be_made_as_it_was(kind: tuple[Manager, str]) -> None:
    manager, platform = kind
    points = 0
    while True:
        env = host(platform)
        env.has_dummy = bool(points % 2)
        before = env.tree()
        env.lifetime = points
        try:
            set_to(env, wish(manager))
        except Killed:
            env.revive()
        else:
            break
        for _ in range(2):
            assert set_to(env, None) == []
            assert env.tree() == before, points
        points += 1
    assert points > 10


def test_after_a_kill_at_any_point_of_undoing_it_can_be_finished(kind: tuple[Manager, str]) -> None:
    manager, platform = kind
    points = 0
    while True:
        env = host(platform)
        before = env.tree()
        set_to(env, wish(manager))
        env.lifetime = points
        try:
            set_to(env, None)
        except Killed:
            env.revive()
        else:
            break
        assert set_to(env, None) == []
        assert env.tree() == before, points
        points += 1
    assert points >= 5


def test_after_a_kill_at_any_point_install_gets_to_the_same_end(kind: tuple[Manager, str]) -> None:
    manager, platform = kind
    wanted = host(platform)
    set_to(wanted, wish(manager))
    expected = {path: data for path, data in wanted.files.items() if path.startswith("/etc")}
    for points in range(0, 60, 3):
        env = host(platform)
        env.lifetime = points
        try:
            set_to(env, wish(manager))
        except Killed:
            env.revive()
        env.lifetime = None
        set_to(env, wish(manager))
        assert {path: data for path, data in env.files.items() if path.startswith("/etc")} == expected, points
        assert len(env.processes) == len(wanted.processes)


def test_the_journal_has_what_a_file_was_before_it_is_changed() -> None:
    env = host()
    set_to(env, wish(Manager.RESOLV_CONF))
    told = json.loads(env.files["/var/lib/dconnect/host.json"])
    assert told["complete"] is True
    assert told["wish"]["suffixes"] == ["docker", "docker.test"]
    process, servers = told["entries"]
    assert process == {"process": 101, "began": "101"}
    assert (servers["servers"], servers["before"]) == ("/etc/resolv.conf", RESOLV)
    assert servers["wrote"] == env.files["/etc/resolv.conf"].decode() == f"search lan\n{OURS}nameserver 10.0.0.1\n"


def test_a_link_is_followed_to_the_file_that_libc_reads() -> None:
    env = host()
    env.links["/etc/resolv.conf"] = "/etc/NetworkManager/resolv.conf"
    env.files["/etc/NetworkManager/resolv.conf"] = env.files.pop("/etc/resolv.conf")
    before = env.tree()
    set_to(env, wish(Manager.RESOLV_CONF))
    assert OURS in env.files["/etc/NetworkManager/resolv.conf"].decode()
    assert "/etc/resolv.conf" not in env.files
    set_to(env, None)
    assert env.tree() == before


def test_bytes_that_are_no_utf_8_come_back() -> None:
    env = host()
    env.files["/etc/resolv.conf"] = b"# caf\xe9\nnameserver 10.0.0.1\n"
    set_to(env, wish(Manager.RESOLV_CONF))
    set_to(env, None)
    assert env.files["/etc/resolv.conf"] == b"# caf\xe9\nnameserver 10.0.0.1\n"


# -- other people's work ---------------------------------------------------------------------------


def test_a_file_of_somebody_else_is_never_taken() -> None:
    env = host("darwin")
    env.folders.add("/etc/resolver")
    env.files["/etc/resolver/docker.test"] = b"nameserver 10.9.9.9\n"
    before = env.tree()
    with pytest.raises(DconnectError, match="/etc/resolver/docker\\.test is there already and not ours"):
        set_to(env, wish(Manager.MACOS))
    assert env.tree() == before
    assert env.commands == []


def test_a_link_of_our_name_that_no_journal_knows_is_never_taken() -> None:
    env = host()
    env.folders.add("/sys/class/net/dconnect-dns")
    with pytest.raises(DconnectError, match="no journal says that it is ours"):
        set_to(env, wish(Manager.RESOLVED))
    assert "/sys/class/net/dconnect-dns" in env.folders


def test_a_file_of_ours_that_was_changed_meanwhile_is_left_and_told() -> None:
    env = host("darwin")
    set_to(env, wish(Manager.MACOS))
    env.files["/etc/resolver/docker"] = b"# dconnect\nnameserver 10.9.9.9\n"
    told = set_to(env, None)
    assert told == ["/etc/resolver/docker has been changed by somebody else; it is left as it is."]
    assert env.files["/etc/resolver/docker"] == b"# dconnect\nnameserver 10.9.9.9\n"
    assert "/etc/resolver" in env.folders  # something is in it
    assert set(env.files) == {"/etc/resolv.conf", "/etc/resolver/docker"}


def test_of_a_resolv_conf_that_was_changed_meanwhile_only_our_line_is_taken() -> None:
    env = host()
    set_to(env, wish(Manager.RESOLV_CONF))
    env.files["/etc/resolv.conf"] += b"# by hand\n"
    told = set_to(env, None)
    assert told == ["/etc/resolv.conf has been changed by somebody else; only our line was taken out."]
    assert env.files["/etc/resolv.conf"] == f"{RESOLV}# by hand\n".encode()


def test_a_resolv_conf_that_was_written_anew_stays_so() -> None:
    env = host()
    set_to(env, wish(Manager.RESOLV_CONF))
    record = Journal(env).read()
    assert record is not None
    env.files["/etc/resolv.conf"] = b"nameserver 192.168.1.1\n"
    assert [text for text in Journal(env).missing(record) if "written it anew" in text]
    assert set_to(env, None) == []
    assert env.files["/etc/resolv.conf"] == b"nameserver 192.168.1.1\n"


def test_another_process_with_the_forwarder_s_number_is_not_ended() -> None:
    env = host()
    set_to(env, wish(Manager.RESOLV_CONF))
    [(pid, (_, command))] = env.processes.items()
    assert command[-4:] == ("dconnect.cli.host.forwarder", "127.0.0.153", "127.0.0.1", "1053")
    env.processes[pid] = ("later", ("somebody", "else"))
    record = Journal(env).read()
    assert record is not None
    assert list(Journal(env).missing(record)) == ["The forwarder does not run any more."]
    set_to(env, None)
    assert env.processes == {pid: ("later", ("somebody", "else"))}


# -- failures --------------------------------------------------------------------------------------


def test_a_command_that_fails_is_told_and_all_before_it_undone() -> None:
    env = host()
    before = env.tree()
    env.answers["resolvectl", "domain", "dconnect-dns", "~docker", "~docker.test"] = Result(1, "Access denied")
    with pytest.raises(DconnectError, match=r"`resolvectl domain .*` ended with 1: Access denied"):
        set_to(env, wish(Manager.OLD_RESOLVED))
    assert env.tree() == before


def test_a_cache_that_cannot_be_emptied_is_no_failure() -> None:
    env = host("darwin")
    env.missing = {"dscacheutil", "killall"}
    set_to(env, wish(Manager.MACOS))
    assert "/etc/resolver/docker" in env.files


def test_what_cannot_be_undone_stays_in_the_journal_and_is_told() -> None:
    env = host()
    set_to(env, wish(Manager.RESOLVED))
    env.answers["ip", "link", "delete", "dconnect-dns"] = Result(2, "Operation not permitted")
    with pytest.raises(DconnectError, match="dconnect-dns is still there: Operation not permitted"):
        set_to(env, None)
    assert "/var/lib/dconnect/host.json" in env.files
    env.answers.clear()
    set_to(env, None)
    assert "/sys/class/net/dconnect-dns" not in env.folders


def test_without_dummy_links_a_pair_of_others_does() -> None:
    env = host()
    env.has_dummy = False
    set_to(env, wish(Manager.RESOLVED))
    added = [" ".join(command) for command in env.commands if command[:3] == ("ip", "link", "add")]
    assert added == [
        "ip link add dconnect-dns type dummy",
        "ip link add dconnect-dns type veth peer name dconnect-dns-1",
    ]
    assert ("ip", "link", "set", "dconnect-dns-1", "up") in env.commands


def test_a_journal_that_cannot_be_read_is_told_and_nothing_is_changed() -> None:
    env = host()
    env.folders.add("/var/lib/dconnect")
    env.files["/var/lib/dconnect/host.json"] = b"{"
    before = env.tree()
    for wished in (None, wish(Manager.RESOLVED)):
        with pytest.raises(DconnectError, match="undone by hand"):
            set_to(env, wished)
        assert env.tree() == before


def test_a_journal_that_cannot_be_written_is_told_and_nothing_is_changed() -> None:
    class ReadOnly(FakeEnvironment):
        def make_folder(self, path: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    env = ReadOnly(files={"/etc/resolv.conf": RESOLV})
    before = env.tree()
    says = r"The journal /var/lib/dconnect/host\.json cannot be written: Read-only file system\."
    with pytest.raises(DconnectError, match=says):
        set_to(env, wish(Manager.RESOLV_CONF))
    assert env.tree() == before


def test_two_at_once_are_refused() -> None:
    env = host()
    env.locked = True
    with pytest.raises(DconnectError, match="Another dconnect"):
        set_to(env, wish(Manager.RESOLVED))
    assert env.commands == []


# -- another wish ----------------------------------------------------------------------------------


def test_the_same_wish_changes_nothing_while_all_of_it_is_there() -> None:
    env = host()
    set_to(env, wish(Manager.RESOLV_CONF))
    before = env.tree()
    assert Journal(env).set(wish(Manager.RESOLV_CONF), print) is False
    assert env.tree() == before
    env.processes.clear()
    assert Journal(env).set(wish(Manager.RESOLV_CONF), print) is True
    assert len(env.processes) == 1


def test_another_wish_takes_the_place_of_the_one_before() -> None:
    env = host("darwin")
    set_to(env, wish(Manager.MACOS, "docker", "old.test"))
    set_to(env, wish(Manager.MACOS, "docker", "new.test"))
    assert sorted(path for path in env.files if path.startswith("/etc/resolver/")) == [
        "/etc/resolver/docker",
        "/etc/resolver/new.test",
    ]
    set_to(env, None)
    assert set(env.files) == {"/etc/resolv.conf"}
