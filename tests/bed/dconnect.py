"""The ``dconnect`` command as a user of the bed's host types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bed.namespace import BedError, Namespace, check_output
from bed.session import Bed
from bed.waiting import wait_for

PROGRAM = Path(sys.executable).with_name("dconnect")
PROXY_PORT = 1080
DNS_PORT = 1053


class Dconnect:
    """The command line in one namespace of a bed, by default the host that cannot route."""

    def __init__(self, bed: Bed, namespace: Namespace | None = None) -> None:
        self._bed = bed
        self.namespace = namespace or bed.host

    @property
    def proxy(self) -> str:
        """Address and port of the front door of an agent that was started by ``up``."""
        return f"{self._bed.address}:{PROXY_PORT}"

    def command(self, *arguments: str | Path) -> list[str]:
        """The words after which nothing is needed but the namespace."""
        return [str(PROGRAM), *map(str, arguments)]

    def run(self, *arguments: str | Path, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit code."""
        return self.namespace.run(self.command(*arguments), timeout=timeout)

    def __call__(self, *arguments: str | Path) -> str:
        """The standard output of a command that must succeed.

        Raises: BedError.
        """
        return check_output(self.command(*arguments), self.run(*arguments))

    def up(self, *options: str) -> str:
        """``dconnect up``, with what a machine without a registry needs."""
        return self("up", f"--bind={self._bed.address}", *self.image_options(), *options)

    def image_options(self) -> list[str]:
        return [f"--base-image={self._bed.base_image}", f"--wheels={self._bed.wheels}"]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json"))
        return found

    def log(self) -> list[dict[str, Any]]:
        """The agent's log so far, from the engine: ``dconnect logs`` has its own tests, and takes a second to start."""
        words = ["docker", "logs", "dconnect"]
        result = subprocess.run(words, env=self._bed.environment, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in (result.stdout + result.stderr).splitlines() if line.startswith("{")]

    def wait_session(self, target: str, peer: str = "") -> dict[str, Any]:
        """The newest line about a target, from that client; lines are written a moment late, in batches.

        Raises: AssertionError when there is none in time.
        """

        def found() -> list[dict[str, Any]]:
            return [line for line in self.sessions(target) if line["peer"].startswith(peer)]

        wait_for(f"a line about {target}", lambda: bool(found()), 5)
        return found()[-1]

    def sessions(self, target: str) -> list[dict[str, Any]]:
        """The log's lines about sessions with a target, ``host:port``."""
        return [line for line in self.log() if line["event"] == "session" and line.get("target") == target]

    def down(self) -> None:
        """``dconnect down``; an engine that is away has nothing of ours to remove."""
        result = self.run("down")
        if result.returncode:
            raise BedError(f"dconnect down ended with {result.returncode}: {result.stderr}")
