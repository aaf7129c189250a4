"""The load generator, load.c, as a program to call."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bed.namespace import BedError, Namespace

HERE = Path(__file__).parent
OPEN_SECONDS = 60.0
"""Within this all connections that are held must have begun."""
_COMPILER = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra")


def compile_c(source: str, program: Path, *options: str) -> None:
    """Compile one of this folder's programs.

    Raises: BedError.
    """
    words = [*_COMPILER, *options, "-o", str(program), str(HERE / source)]
    try:
        result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise BedError("gcc is missing; run: sh tests/bed/prerequisites.sh gcc libc6-dev") from None
    if result.returncode:
        raise BedError(f"{source} was not compiled: {result.stderr}")


@dataclass(frozen=True, slots=True)
class Way:
    """How the load generator reaches the target."""

    namespace: Namespace
    """Where it runs."""
    via: str
    """Its first argument: socks5, http or direct."""
    address: str
    port: int
    containers: tuple[str, ...] = ()
    """What the program runs in."""
    target: str = ""
    """Where the target is, if the program finds it at another address than the others do."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the load generator prints; ``load.c`` says more."""

    total: int
    failures: int
    per_second: float = 0
    """Bytes, connections or messages."""
    p50: float = 0
    """Microseconds."""
    p99: float = 0
    open: int = 0
    """Connections that are held."""


class Held:
    """Connections that are there until they are let go."""

    def __init__(self, process: subprocess.Popen[bytes], test: str) -> None:
        self._process = process
        self._test = test
        self.begun = self._read(OPEN_SECONDS)
        """What was true when all had begun."""

    def _read(self, seconds: float) -> Reading:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            assert self._process.stderr is not None
            words = self._process.stderr.read().decode() if ready else f"not all began within {seconds:.0f} s"
            raise BedError(f"load {self._test}: {words.strip()}")
        return Reading(**json.loads(line))

    def let_go(self) -> Reading:
        """End them, idle ones after one more echo; what is true at the end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._read(OPEN_SECONDS)


class Load:
    """The compiled program and the target that it asks for."""

    def __init__(self, program: Path, target: str, port: int) -> None:
        self._program = program
        self.target = target
        self._port = port
        compile_c("load.c", program)

    def _words(self, way: Way, test: str, clients: int, seconds: float) -> list[str]:
        target = way.target or self.target
        words = (self._program, way.via, way.address, way.port, target, self._port, test, clients, seconds)
        return [str(word) for word in words]

    def measure(self, way: Way, test: str, clients: int, seconds: float) -> Reading:
        """One test that ends by itself.

        Raises: BedError in the load generator's words.
        """
        words = self._words(way, test, clients, seconds)
        return Reading(**json.loads(way.namespace.run(words, check=True, timeout=seconds + 60).stdout))

    @contextlib.contextmanager
    def hold(self, way: Way, test: str, clients: int) -> Iterator[Held]:
        """Connections, ``idle`` or ``drip``, that are there within the block.

        Raises: BedError in the load generator's words.
        """
        process = way.namespace.popen(self._words(way, test, clients, 0), stdin=subprocess.PIPE)
        try:
            yield Held(process, test)
        finally:
            process.kill()
            process.wait()
            for file in filter(None, (process.stdin, process.stdout, process.stderr)):
                file.close()
