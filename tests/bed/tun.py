"""``dconnect tun`` as the user of a bed's host types it, and what the host's network looks like."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bed.dconnect import PROGRAM
from bed.namespace import check_output
from bed.session import Bed

_SYSTEM_PYTHON = Path("/usr/bin/python3")
_ENTRY = "import sys; sys.argv[0] = 'dconnect'; from dconnect.cli.entry import main; main()"


def installed() -> str:
    """PYTHONPATH with which another interpreter finds what this one has, wherever it is linked to."""
    site = Path(sysconfig.get_path("purelib"))
    root = Path(__file__).resolve().parents[2]
    return os.pathsep.join([*map(str, root.glob("build/__editable__.*")), str(site)])


class Tun:
    """The command, with notes of its own: the machine has one /run for all namespaces."""

    def __init__(self, bed: Bed, *, environment: dict[str, str] | None = None, system_python: bool = False) -> None:
        self._host = bed.host
        self.notes = bed.root / "run"
        self._environment = {"DCONNECT_RUN_DIR": str(self.notes), **(environment or {})}
        self._program = [str(PROGRAM)]
        if system_python:  # one that every user may run
            self._program = [str(_SYSTEM_PYTHON), "-P", "-c", _ENTRY]
            self._environment["PYTHONPATH"] = installed()

    def command(self, *words: str) -> list[str]:
        return [*self._program, *words]

    @property
    def environment(self) -> dict[str, str]:
        return dict(self._environment)

    def run(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``dconnect`` with those words to its end."""
        return self._host.run(self.command(*words), env=self._environment, timeout=timeout)

    def __call__(self, *words: str) -> str:
        """The standard output of a command that must succeed.

        Raises: BedError.
        """
        return check_output(["dconnect", *words], self.run(*words))

    def up(self, *options: str) -> str:
        return self("tun", "up", *options)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("tun", "status", "--json"))
        return found

    def helper(self) -> int:
        """The helper's pid."""
        return int(json.loads((self.notes / "tun.json").read_text())["pid"])

    def routes(self) -> set[str]:
        """What leads into the device, by its routes."""
        lines = [
            line
            for family in ("-4", "-6")
            for line in self._host.run(["ip", family, "route", "show", "dev", "dconnect0"]).stdout.splitlines()
        ]
        return {line.split()[0] for line in lines if "kernel" not in line}

    def network(self) -> list[str]:
        """Addresses, routes and rules of the host, both families, without what changes by itself."""
        commands: Sequence[str] = (
            "-o addr",
            "-4 route show table all",
            "-6 route show table all",
            "-4 rule",
            "-6 rule",
        )
        text = "".join(self._host.run(["ip", *words.split()], check=True).stdout for words in commands)
        return sorted(line.replace(" tentative", "") for line in text.splitlines())


def another_user() -> pwd.struct_passwd:
    """A user without rights that every Debian has."""
    return pwd.getpwnam("nobody")
