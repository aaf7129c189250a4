"""``dconnect tun`` as the user of a bed's host types it, and what the host's network looks like."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bed.dconnect import PROGRAM
from bed.namespace import BedError, Namespace, check_output
from bed.processes import Usage, descendants, usage
from bed.session import Bed
from bed.waiting import wait_for

RESOLVER_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
_SYSTEM_PYTHON = Path("/usr/bin/python3")
_ENTRY = "import sys; sys.argv[0] = 'dconnect'; from dconnect.cli.entry import main; main()"


def installed() -> str:
    """PYTHONPATH with which another interpreter finds what this one has, wherever it is linked to."""
    site = Path(sysconfig.get_path("purelib"))
    root = Path(__file__).resolve().parents[2]
    return os.pathsep.join([*map(str, root.glob("build/__editable__.*")), str(site)])


class Tun:
    """The command, with notes of its own: the machine has one /run for all namespaces."""

    def __init__(
        self,
        bed: Bed,
        *,
        host: Namespace | None = None,
        environment: dict[str, str] | None = None,
        system_python: bool = False,
    ) -> None:
        """Prepare; ``host`` is another one than the bed's."""
        self._host = host or bed.host
        self.notes = bed.root / ("run" if host is None else "run-elsewhere")
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

    def processes(self) -> list[int]:
        """The helper, the pump, and what that has started, in this order."""
        return descendants(self.helper())

    def usage(self) -> Usage:
        """Of the pump, and of what it has started."""
        _, pump, *others = self.processes()
        return sum(map(usage, others), usage(pump))

    def private(self) -> Namespace:
        """The private network, by the descriptor that the helper has of it."""
        own = Path(f"/proc/{self.helper()}/ns/net").readlink()
        for file in Path(f"/proc/{self.helper()}/fd").iterdir():
            if str(link := file.readlink()).startswith("net:[") and link != own:
                return Namespace(file, "", {})
        raise BedError("The helper has no private network.")

    def address(self) -> str:
        """The device's, of IPv4."""
        return str(self.status()["addresses"][0]).partition("/")[0]

    def routes(self) -> set[str]:
        """What leads into the device, by its routes."""
        lines = [
            line
            for family in ("-4", "-6")
            for line in self._host.run(["ip", family, "route", "show", "dev", "dconnect0"]).stdout.splitlines()
        ]
        return {line.split()[0] for line in lines if "kernel" not in line}

    def is_settled(self) -> bool:
        """Whether no address of the host is being tried."""
        return "tentative" not in self._host.run(["ip", "addr"], check=True).stdout

    def network(self) -> list[str]:
        """Addresses, routes, rules, filters and resolver files of the host, without what changes by itself."""
        commands: Sequence[str] = (
            "ip -o addr",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "ip -4 rule",
            "ip -6 rule",
            "iptables-save",
            "ip6tables-save",
            f"cat {' '.join(RESOLVER_FILES)}",
        )
        text = "".join(self._host.run(words.split(), check=True).stdout for words in commands)
        lines = (re.sub(r" tentative|\[\d+:\d+\]", "", line) for line in text.splitlines())
        return sorted(line for line in lines if not line.startswith("#"))


@contextmanager
def tunnel_of(bed: Bed, host: Namespace | None = None) -> Iterator[Tun]:
    """The command; what is left of it at the end is removed, and that the host is as before is shown."""
    made = Tun(bed, host=host)
    wait_for("the host's own addresses are settled", made.is_settled, 10)
    before = made.network()
    try:
        yield made
    finally:
        made.run("cleanup")
    wait_for("the host's own addresses are settled", made.is_settled, 10)
    assert made.network() == before
    assert not list(made.notes.glob("*"))


def another_user() -> pwd.struct_passwd:
    """A user without rights that every Debian has."""
    return pwd.getpwnam("nobody")
