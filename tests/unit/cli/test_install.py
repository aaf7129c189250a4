"""``dconnect dns install``, ``uninstall`` and ``status``: what people are told, and what is tried."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnslib import RR, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSServer
from typer.testing import CliRunner

from dconnect.cli import engines, install
from dconnect.cli.host import selftest
from dconnect.cli.host.detect import Manager, detect
from dconnect.cli.host.environment import Result
from dconnect.cli.host.fake import FakeEnvironment
from dconnect.cli.host.journal import Journal
from dconnect.cli.host.plans import Wish
from dconnect.cli.main import app
from dconnect.core.address import Target
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError
from kit.docker_engine import DockerEngine

RECORDS = (
    "dconnect.docker. 1 IN A 172.17.0.2",
    "dconnect.docker. 1 IN AAAA fd00::2",
    "dconnect.x.test. 1 IN A 172.17.0.2",
)


class _Agent(BaseResolver):  # type: ignore[misc]  # dnslib ships no types
    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply = request.reply()
        for line in RECORDS:
            [record] = RR.fromZone(line)
            if (record.rname, record.rtype) == (request.q.qname, request.q.qtype):
                reply.add_answer(record)
        return reply


@pytest.fixture
def port() -> Iterator[int]:
    """The DNS port of an agent that knows its own name."""
    server = DNSServer(_Agent(), address="127.0.0.1", port=0, tcp=True, logger=_Silent())
    server.start_thread()
    try:
        yield server.server.server_address[1]
    finally:
        server.stop()
        server.server.server_close()
        server.thread.join()


class _Silent:
    def __getattr__(self, name: str) -> object:
        return lambda *_: None


def resolves(env: FakeEnvironment, name: str, *addresses: str) -> None:
    """Have this host's resolver find something."""
    words = (sys.executable, "-P", "-c", selftest._LOOK_UP, name)
    said = Result(0, json.dumps(addresses)) if addresses else Result(1, "[Errno -2] Name or service not known")
    env.answers[words] = said


@pytest.fixture
def env() -> FakeEnvironment:
    made = FakeEnvironment("darwin")
    resolves(made, "dconnect.docker", "172.17.0.2", "fd00:0::2")
    return made


def config(port: int, *suffixes: str) -> AgentConfig:
    return AgentConfig(dns_port=port, suffixes=suffixes or ("docker",))


def installed(env: FakeEnvironment, config: AgentConfig) -> None:
    wish = install.install(env, detect(env), config, dry_run=False)
    assert wish is not None
    install.try_out(env, wish)


def test_install_tells_the_manager_what_is_done_that_it_works_and_who_goes_past(
    env: FakeEnvironment, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(env, config(port))
    assert capsys.readouterr().out == (
        "Names on this host are served by macOS /etc/resolver:\n"
        "  macOS asks the servers in /etc/resolver/<domain> for a domain.\n"
        "What is done about it:\n"
        "  make the folder /etc/resolver, unless it is there\n"
        "  write /etc/resolver/docker\n"
        "  run dscacheutil -flushcache\n"
        "  run killall -HUP mDNSResponder\n"
        f"This host asks 127.0.0.1:{port} for names under docker; `sudo dconnect dns uninstall` undoes it.\n"
        "Tried it: dconnect.docker is found as by any program.\n"
        "dig, nslookup and host do not read /etc/resolver, nor do Go programs that were built without cgo.\n"
        "Browsers that use DNS over HTTPS do not ask this host; switch that off for these domains.\n"
    )
    installed(env, config(port))
    assert "names under docker, as before;" in capsys.readouterr().out


def test_a_dry_run_changes_nothing(env: FakeEnvironment, capsys: pytest.CaptureFixture[str]) -> None:
    before = env.tree()
    assert install.install(env, detect(env), config(1053), dry_run=True) is None
    assert "  write /etc/resolver/docker\n" in capsys.readouterr().out
    assert (env.tree(), env.commands) == (before, [])


@pytest.mark.parametrize(
    ("addresses", "says"),
    [
        (("172.17.0.2",), "172.17.0.2 by this host's resolver"),
        (("6.6.6.6", "fd00::2"), "172.17.0.2, fd00::2 by the agent's name server, and 6.6.6.6, fd00::2 by this host"),
        ((), "nothing ([Errno -2] Name or service not known) by this host's resolver"),
    ],
)
def test_what_does_not_work_is_told_with_both_answers_and_how_to_undo(
    env: FakeEnvironment, port: int, addresses: tuple[str, ...], says: str
) -> None:
    resolves(env, "dconnect.docker", *addresses)
    wish = Wish(Manager.MACOS, ("docker",), Target("127.0.0.1", port))
    [problem] = selftest.check(env, wish, patience_s=0)
    assert says in problem


def test_every_suffix_is_tried(env: FakeEnvironment, port: int) -> None:
    wish = Wish(Manager.MACOS, ("docker", "x.test"), Target("127.0.0.1", port))
    resolves(env, "dconnect.x.test")
    [problem] = selftest.check(env, wish, patience_s=0)
    assert problem.startswith("dconnect.x.test is 172.17.0.2 by the agent's name server")


def test_an_agent_that_does_not_answer_fails_the_installation_which_stays(env: FakeEnvironment) -> None:
    with pytest.raises(
        DconnectError, match=r"does not answer at 127\.0\.0\.1:1; .* Nothing was undone; `sudo dconnect"
    ):
        installed(env, config(1))
    assert "/etc/resolver/docker" in env.files


def test_status_tells_what_is_installed_and_whether_it_works(
    env: FakeEnvironment, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install.status(env, as_json=False) is True
    assert capsys.readouterr().out.splitlines()[-1].startswith("Nothing is installed on this host; `sudo dconnect dns")
    assert install.status(env, as_json=True) is True
    told = json.loads(capsys.readouterr().out)
    assert (told["installed"], told["works"], told["problems"]) == (None, None, [])
    installed(env, config(port))
    assert install.status(env, as_json=False) is True
    assert capsys.readouterr().out.splitlines()[-1] == "It works."
    env.files["/etc/resolver/docker"] = b"# by hand\n"
    assert install.status(env, as_json=True) is False
    told = json.loads(capsys.readouterr().out)
    assert told["installed"] == {"manager": "macOS /etc/resolver", "suffixes": ["docker"], "dns": f"127.0.0.1:{port}"}
    assert (told["works"], told["problems"]) == (False, ["/etc/resolver/docker is not as it was written."])


def test_uninstall_says_whether_there_was_anything(
    env: FakeEnvironment, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = env.tree()
    installed(env, config(port))
    capsys.readouterr()
    for says in ("This host's resolver is as it was before.\n", "Nothing was installed on this host.\n"):
        install.uninstall(env)
        assert capsys.readouterr().out == says
        assert env.tree() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may undo, and become somebody who may not.")
def test_down_undoes_what_leads_to_the_agent_that_went_and_only_that(
    env: FakeEnvironment, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(env, config(port))
    capsys.readouterr()
    install.after_down(env, Target("127.0.0.1", port + 1))
    assert capsys.readouterr().out == ""
    os.seteuid(65534)
    try:
        install.after_down(env, Target("127.0.0.1", port))
    finally:
        os.seteuid(0)
    assert "for names under docker; `sudo dconnect dns uninstall` undoes it." in capsys.readouterr().err
    assert Journal(env).read() is not None
    install.after_down(env, Target("127.0.0.1", port))
    assert capsys.readouterr().out == "This host's resolver is as it was before.\n"
    assert Journal(env).read() is None


@pytest.mark.parametrize("manager", list(Manager))
def test_somebody_goes_past_every_resolver(manager: Manager) -> None:
    assert all(sentence.endswith(".") for sentence in install.bypasses(manager))
    assert "DNS over HTTPS" in install.bypasses(manager)[-1]


# -- at the keyboard -------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can become somebody who is not.")
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_without_root_one_sentence_says_to_use_sudo(command: str, engine: DockerEngine) -> None:
    assert CliRunner().invoke(app, ["status"]).exit_code == 3  # loads what is loaded late, which nobody may read
    asked = list(engine.requests)
    os.seteuid(65534)
    try:
        result = CliRunner().invoke(app, ["dns", command])
    finally:
        os.seteuid(0)
    says = f"dconnect: Only root may change this host's resolver; run `sudo dconnect dns {command}`.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", says)
    assert engine.requests == asked


def test_install_without_an_agent_ends_with_3(engine: DockerEngine) -> None:
    result = CliRunner().invoke(app, ["dns", "install", "--dry-run"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert "dconnect is not running on DOCKER_HOST" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="sudo makes root of somebody.")
def test_under_sudo_the_engine_is_chosen_as_for_whoever_typed_the_command() -> None:
    root = Path("/root")
    environ, home = engines.invoker({"SUDO_UID": "65534", "DOCKER_HOST": "tcp://x"}, root)
    assert home == Path("/nonexistent")  # nobody's, by Debian's base-passwd
    assert environ == {"SUDO_UID": "65534", "DOCKER_HOST": "tcp://x", "XDG_RUNTIME_DIR": "/run/user/65534"}
    for uid in ("", "0", "x", "4000000000", "99999999999999999999"):
        assert engines.invoker({"SUDO_UID": uid}, root) == ({"SUDO_UID": uid}, root)
