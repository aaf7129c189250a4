"""``dconnect nc`` against containers of the real engine."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from bed.dconnect import PROGRAM, Dconnect
from bed.scene import Scene
from bed.session import Bed
from bed.target_server import digest_of

FIFTY_MEGABYTES = 50_000_000


def nc(bed: Bed, *words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command to its end."""
    with bed.host.popen([PROGRAM, "nc", *map(str, words)], stdin=subprocess.PIPE) as process:
        out, errors = process.communicate(stdin, timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def test_eof_is_fin_and_the_answer_still_comes(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    result = nc(bed, "plain", 7, stdin=b"echoed until FIN")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"echoed until FIN", b"")


def test_fifty_megabytes_go_up_intact(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    data = os.urandom(FIFTY_MEGABYTES)
    result = nc(bed, "plain", 9, stdin=data)
    assert (result.returncode, result.stdout.decode()) == (0, hashlib.sha256(data).hexdigest())


def test_fifty_megabytes_come_down_intact(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    result = nc(bed, bed.address_of(scene.plain), 19, stdin=b"%d\n" % FIFTY_MEGABYTES)
    assert result.returncode == 0
    assert hashlib.sha256(result.stdout).hexdigest() == digest_of(FIFTY_MEGABYTES)


def test_an_unknown_name_is_5_and_a_refused_port_1_with_a_sentence_each(
    bed: Bed, scene: Scene, agent: Dconnect
) -> None:
    unknown, refused = nc(bed, "no-such-thing", 80), nc(bed, "plain", 81)
    assert (unknown.returncode, unknown.stdout) == (5, b"")
    assert unknown.stderr.startswith(b"dconnect: No container is called no-such-thing; ")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr == b"dconnect: plain:81 refused the connection: nothing listens on port 81 there.\n"


def test_ssh_speaks_through_it(bed: Bed, scene: Scene, agent: Dconnect, tmp_path: Path) -> None:
    """The echo service is no ssh server, but ssh gets its own banner back, and says so."""
    words = [
        "timeout",
        "5",
        "ssh",
        "-v",
        "-o",
        f"ProxyCommand={PROGRAM} nc %h %p",
        "-o",
        f"UserKnownHostsFile={tmp_path}/known",
    ]
    result = bed.host.run([*words, "-o", "BatchMode=yes", "-p", "7", "plain", "true"], timeout=30)
    assert "Remote protocol version 2.0, remote software version OpenSSH" in result.stderr


@pytest.mark.parametrize("closing", ["| head -c 5 | wc -c", "| true"])
def test_a_reader_that_left_ends_it_quietly(bed: Bed, scene: Scene, agent: Dconnect, closing: str) -> None:
    script = f"printf '100000000\\n' | {PROGRAM} nc plain 19 {closing}"
    result = bed.host.run(["bash", "-c", script], timeout=30)
    assert result.stderr == ""
