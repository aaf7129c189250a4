"""What tests with other people's clients share: which are here, and a host that knows containers' names by itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from bed.dconnect import Dconnect
from bed.namespace import check_output
from bed.session import Bed

_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


def needs(package: str, program: str) -> pytest.MarkDecorator:
    """Skip where a program is missing; the reason names its Debian package."""
    reason = f"{program} is not here; Debian's package {package} brings it."
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


def go_program(source: Path, folder: Path) -> Path:
    """A static program, built without a network: it needs Go's standard library only.

    Raises: BedError.
    """
    settings = {"GOCACHE": folder / "cache", "GOPATH": folder, "HOME": folder}
    fixed = {
        "PATH": "/usr/bin:/bin",
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
    }
    program = folder / source.stem
    command = ["go", "build", "-o", str(program), str(source)]
    environment = {**fixed, **{name: str(value) for name, value in settings.items()}}
    check_output(
        command, subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=110)
    )
    return program


def talk(bed: Bed, words: Sequence[str | Path], data: bytes, seconds: float = 30) -> bytes:
    """What a program on the host printed until it ended, given ``data`` and its end; it must succeed.

    Raises: AssertionError with its words, subprocess.TimeoutExpired.
    """
    with bed.host.popen(words, stdin=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(data, timeout=seconds)
        finally:
            process.kill()  # else a hanging one would be waited for
    assert process.returncode == 0, errors
    return output


class Hosts:
    """A hosts(5) file with what the agent's name server says, for clients that look names up themselves."""

    def __init__(self, agent: Dconnect, names: Iterable[str], path: Path) -> None:
        lines = [f"{address} {name}" for name in names for address in agent("dns", name).split()]
        path.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        self._path = path

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs ``command`` where only these names are known."""
        return ["unshare", "--mount", "--", "sh", "-c", _WITH_HOSTS, str(self._path), *map(str, command)]
