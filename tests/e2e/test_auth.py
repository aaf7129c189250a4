"""A front door with a password, on the real engine: who comes in, and where the password must not stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bed.dconnect import PROGRAM, Dconnect
from bed.processes import command_lines
from bed.scene import Scene
from bed.session import Bed

NO_ACCESS = 97
"""curl: "proxy handshake error"."""
HTTP_ERROR = 22


@dataclass(frozen=True, slots=True)
class Locked:
    """An agent that wants a password."""

    dconnect: Dconnect
    user: str
    password: str

    @property
    def pair(self) -> str:
        return f"{self.user}:{self.password}"


@pytest.fixture(scope="module")
def locked(bed: Bed, scene: Scene) -> Iterator[Locked]:
    dconnect = Dconnect(bed)
    said: dict[str, Any] = json.loads(dconnect.up("--auth", "--json"))
    try:
        yield Locked(dconnect, said["user"], said["password"])
    finally:
        dconnect.down()


def curl(bed: Bed, *words: str) -> tuple[int, str]:
    result = bed.host.run(["curl", "-sS", "--max-time", "20", *words])
    return result.returncode, result.stdout.strip()


def test_nothing_in_the_engine_or_the_process_list_tells_the_password(bed: Bed, locked: Locked) -> None:
    """First of all: curl is told the password by its arguments, and runs later."""
    inspected = bed.docker("inspect", "dconnect")
    label = json.loads(inspected)[0]["Config"]["Labels"]["dev.dconnect.config"]
    digest = json.loads(label)["auth"].rpartition(":")[2]
    assert len(digest) == 64
    arguments = "\n".join(map(" ".join, command_lines().values()))
    assert "dconnect.agent.worker" in arguments, "the agent's processes are among them"
    assert digest not in arguments
    image = bed.inspect("dconnect")["Config"]["Image"]
    for text in (inspected, arguments, bed.docker("history", "--no-trunc", image), bed.docker("inspect", image)):
        assert locked.password not in text


@pytest.mark.parametrize("mode", ["SOCKS5", "HTTP", "CONNECT"])
def test_the_right_password_leads_in_and_a_wrong_one_or_none_does_not(
    bed: Bed, scene: Scene, locked: Locked, mode: str
) -> None:
    proxy = locked.dconnect.proxy
    words = {
        "SOCKS5": ["--socks5-hostname", proxy],
        "HTTP": ["--fail", "-x", f"http://{proxy}"],
        "CONNECT": ["--fail", "-p", "-x", f"http://{proxy}"],
    }[mode]
    url = "http://vault.docker/"
    assert curl(bed, *words, "--proxy-user", locked.pair, url) == (0, f"hello from {scene.vault[:12]}")
    refused = NO_ACCESS if mode == "SOCKS5" else HTTP_ERROR
    for wrong in ([], ["--proxy-user", f"{locked.user}:wrong"], ["--proxy-user", f"root:{locked.password}"]):
        assert curl(bed, *words, *wrong, url) == (refused, ""), wrong


def test_a_client_that_asks_first_which_scheme_is_served_on_the_same_connection(
    bed: Bed, scene: Scene, locked: Locked
) -> None:
    words = ["--proxy-anyauth", "--proxy-user", locked.pair, "-x", f"http://{locked.dconnect.proxy}"]
    result = bed.host.run(["curl", "-sSv", *words, "http://vault.docker/"], check=True)
    assert result.stdout.strip() == f"hello from {scene.vault[:12]}"
    assert "HTTP/1.1 407 " in result.stderr
    assert "Re-using existing connection" in result.stderr


def test_socks4_has_no_place_for_a_password(bed: Bed, locked: Locked) -> None:
    assert curl(bed, "--socks4a", locked.dconnect.proxy, "http://vault.docker/")[0] == NO_ACCESS


def test_our_own_pages_want_it_but_for_those_that_browsers_fetch(bed: Bed, locked: Locked) -> None:
    door = f"http://{locked.dconnect.proxy}"
    code = ["-o", "/dev/null", "-w", "%{http_code}"]
    for path in ("/", "/metrics", "/api/v1/status", "/api/v1/connections"):
        assert curl(bed, *code, f"{door}{path}") == (0, "401")
        assert curl(bed, *code, "--user", locked.pair, f"{door}{path}") == (0, "200")
    assert curl(bed, *code, f"{door}/healthz") == (0, "200")
    assert curl(bed, *code, f"{door}/proxy.pac")[1] != "401"


def test_our_own_commands_know_it(bed: Bed, scene: Scene, locked: Locked) -> None:
    dconnect = locked.dconnect
    assert dconnect("dns", "vault").strip() == bed.address_of(scene.vault)
    assert dconnect.status()["version"]
    dconnect("connections")
    assert "is already running" in dconnect.up("--auth")
    script = f'printf "GET / HTTP/1.0\\r\\n\\r\\n" | {PROGRAM} nc vault 80'
    assert f"hello from {scene.vault[:12]}" in bed.host.run(["bash", "-c", script], check=True).stdout
    environment = f'eval "$({PROGRAM} env --shell bash)"; env -u no_proxy -u NO_PROXY curl -sS http://vault.docker/'
    assert bed.host.run(["bash", "-c", environment], check=True).stdout.strip() == f"hello from {scene.vault[:12]}"


def test_another_user_of_the_host_is_told_how_to_come_in(bed: Bed, locked: Locked, tmp_path: Path) -> None:
    elsewhere = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    result = bed.host.run([PROGRAM, "dns"], env=elsewhere)
    assert (result.returncode, result.stdout) == (1, "")
    assert "wants a password that this user does not know" in result.stderr


def test_the_health_check_needs_none(bed: Bed, locked: Locked) -> None:
    bed.docker("exec", "dconnect", "python3", "-m", "dconnect.agent.health")


def test_no_worker_loads_openssl_for_it(bed: Bed, locked: Locked) -> None:
    processes = bed.docker("top", "dconnect", "-eo", "pid,args").splitlines()
    workers = [line.split()[0] for line in processes if "dconnect.agent.worker" in line]
    assert workers
    for pid in workers:
        assert "libcrypto" not in Path(f"/proc/{pid}/maps").read_text()


def test_the_log_tells_who_was_refused_and_never_with_what(bed: Bed, locked: Locked) -> None:
    curl(bed, "--socks5-hostname", locked.dconnect.proxy, "--proxy-user", "mallory:guess-me", "http://vault.docker/")
    curl(bed, "-x", f"http://{locked.dconnect.proxy}", "--proxy-user", "mallory:guess-me", "http://vault.docker/")
    curl(bed, "--user", "mallory:guess-me", f"http://{locked.dconnect.proxy}/metrics")
    text = locked.dconnect("logs")
    refused = [line for line in locked.dconnect.log() if line.get("outcome") == "unauthorized"]
    assert {line["front"] for line in refused} >= {"socks5", "http", "socks4"}
    for secret in (locked.password, "guess-me", "mallory", "Basic "):
        assert secret not in text


def test_a_password_of_a_file_comes_in_its_place(bed: Bed, scene: Scene, locked: Locked, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text("ann:open sesame: ü\n")
    try:
        assert "open sesame" not in locked.dconnect.up("--auth-file", str(file))
        for options in (["--socks5-hostname", locked.dconnect.proxy], ["-x", f"http://{locked.dconnect.proxy}"]):
            words = [*options, "--proxy-user", "ann:open sesame: ü", "http://vault.docker/"]
            assert curl(bed, *words) == (0, f"hello from {scene.vault[:12]}")
        assert "sesame" not in bed.docker("inspect", "dconnect")
        assert locked.dconnect("dns", "vault")
    finally:
        locked.dconnect.up("--auth")
