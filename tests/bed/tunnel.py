"""A link to the agent from the host that cannot route, by the simplest program that can have one."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bed.namespace import BedError, Namespace
from bed.session import Bed

PROGRAM = Path(__file__).parents[1] / "e2e" / "programs" / "tunnel_host.py"
_PATIENCE = 20.0


class Tunnel:
    """A running program; a context manager that ends it, and with it the host's device and routes."""

    def __init__(
        self,
        bed: Bed,
        port: int,
        mtu: int = 65_535,
        token: str | None = None,
        address: str = "",
        host: Namespace | None = None,
    ) -> None:
        """Start it; ``address`` is what the host says to have had, ``host`` where it runs, if not on the bed's."""
        token = token if token is not None else read_token(bed)
        words: list[str | Path] = [sys.executable, "-P", PROGRAM, bed.address, str(port), token, str(mtu), address]
        self._process = (host or bed.host).popen(words, stdin=subprocess.PIPE)
        self._configs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="tunnel")
        self._reader.start()
        self.refusal = ""
        """What it said when it ended."""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._configs.put(json.loads(line))
        self._configs.put({})

    def config(self) -> dict[str, Any]:
        """The next config, whose addresses and routes are there.

        Raises: BedError when the link ended.
        """
        found = self._configs.get(timeout=_PATIENCE)
        if not found:
            raise BedError(self.end())
        return found

    def end(self) -> str:
        """End it; what it said on standard error."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
            said = self._process.stderr.read().decode()
            self._process.wait(_PATIENCE)
            self._reader.join(_PATIENCE)
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
            self.refusal = said.strip()
        return self.refusal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def read_token(bed: Bed) -> str:
    """The token that ``up --tun`` has kept for the user."""
    file = Path(bed.environment["XDG_STATE_HOME"]) / "dconnect" / "tokens.json"
    return str(json.loads(file.read_text())[-1]["password"])
