"""``dconnect agent``: the same thing in the foreground, on a machine that reaches containers itself."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bed.client import Client
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

PORT, DNS_PORT = 2080, 2053
OPTIONS = (f"--port={PORT}", f"--dns-port={DNS_PORT}")


@contextmanager
def foreground(bed: Bed, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    process = bed.engine_netns.popen(Dconnect(bed).command("agent", *OPTIONS, *options))
    try:
        deadline = time.monotonic() + 10
        while bed.engine_netns.run(["curl", "-sf", f"http://127.0.0.1:{PORT}/healthz"]).returncode:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the agent is not ready"
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=15)


def test_it_serves_proxy_and_names_and_starts_no_container(bed: Bed, scene: Scene) -> None:
    before = bed.docker("ps", "--all", "--quiet")
    with foreground(bed):
        for options in (["--socks5-hostname", f"127.0.0.1:{PORT}"], ["-x", f"http://127.0.0.1:{PORT}"]):
            page = bed.engine_netns.run(["curl", "-sS", *options, "http://vault.docker/"], check=True).stdout
            assert page == f"hello from {scene.vault[:12]}\n"
        words = ["dig", "+short", "-p", str(DNS_PORT), "@127.0.0.1", "vault.docker"]
        assert bed.engine_netns.run(words, check=True).stdout.strip() == bed.address_of(scene.vault)
        assert bed.docker("ps", "--all", "--quiet") == before


def test_it_wants_the_password_of_a_file_which_no_process_has_in_its_arguments(
    bed: Bed, scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("ann:open sesame")
    with foreground(bed, f"--auth-file={tmp_path}/secret") as process:
        words = ["curl", "-sS", "--socks5-hostname", f"127.0.0.1:{PORT}", "http://vault.docker/"]
        assert bed.engine_netns.run(words).returncode == 97
        told = bed.engine_netns.run([*words, "--proxy-user", "ann:open sesame"], check=True)
        assert told.stdout == f"hello from {scene.vault[:12]}\n"
        shown = bed.host.run(["ps", "--ppid", str(process.pid), "-o", "args="], check=True).stdout
        assert "dconnect.agent.worker" in shown
        assert "auth" not in shown
        process.terminate()
        _, errors = process.communicate(timeout=15)
        assert b"the user is ann" in errors
        assert b"sesame" not in errors


def test_it_leads_to_nothing_of_the_machines_own_either(bed: Bed, scene: Scene) -> None:
    with foreground(bed):
        client = Client(bed.engine_netns, "127.0.0.1", PORT)
        for address in ("127.0.0.1", "::1", bed.address, "172.17.0.1", "0.0.0.0"):
            assert client.socks_code(address, PORT) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_once_and_wholly(bed: Bed, scene: Scene, number: signal.Signals) -> None:
    with foreground(bed) as process:
        children = bed.host.run(["pgrep", "--parent", str(process.pid)], check=True).stdout.split()
        assert len(children) >= 2
        process.send_signal(number)
        _, errors = process.communicate(timeout=8)
        assert process.returncode == 0
        assert b"Traceback" not in errors, errors.decode()
        assert not bed.host.run(["ps", "--pid", ",".join(children), "--no-headers"]).stdout
        with pytest.raises(ConnectionRefusedError):
            bed.engine_netns.connect("127.0.0.1", PORT)


def test_a_taken_port_is_told_in_one_sentence(bed: Bed, scene: Scene) -> None:
    with foreground(bed):
        second = bed.engine_netns.run(Dconnect(bed).command("agent", *OPTIONS))
        assert second.returncode == 1
        assert f"Port {PORT} on 127.0.0.1 cannot be used" in second.stderr
        assert "Traceback" not in second.stderr
