"""A network namespace to run programs in, and to open sockets in from this very process."""

from __future__ import annotations

import ctypes
import os
import socket as sockets
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

File = int | IO[bytes] | None
T = TypeVar("T")


class BedError(Exception):
    """The bed, or a program that had to succeed in it, failed; the message holds its words."""


def check_output(command: Sequence[str], result: subprocess.CompletedProcess[str]) -> str:
    """The standard output of a program that succeeded.

    Raises: BedError with the program's own words.
    """
    if result.returncode:
        words = (result.stderr or result.stdout or "").strip()
        raise BedError(f"{' '.join(command)} ended with {result.returncode}: {words}")
    return result.stdout


def _setns(descriptor: int, kind: int) -> None:
    """setns(2) for the calling thread; Python has it from 3.12 only."""
    if _libc.setns(descriptor, kind):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass(frozen=True)
class Namespace:
    """One end of the bed: the host that cannot route, or the engine's own network."""

    path: Path
    """The file that names it, /run/netns/…"""
    address: str
    """Its IPv4 address on the wire between the two."""
    environment: Mapping[str, str] = field(repr=False)
    """What programs get when the caller gives no ``env``; DOCKER_HOST is in it."""

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs ``command`` in here.

        ``nsenter``, because ``ip netns exec`` would also hide /sys/fs/cgroup.
        """
        return ["nsenter", f"--net={self.path}", "--", *map(str, command)]

    def run(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; ``env`` is added to the bed's environment, ``timeout`` is seconds.

        Raises: BedError with ``check`` when it fails, subprocess.TimeoutExpired.
        """
        result = subprocess.run(
            self.command(command),
            env={**self.environment, **(env or {})},
            input=stdin,
            timeout=timeout,
            text=True,
            capture_output=True,
            check=False,
        )
        if check:
            check_output([str(word) for word in command], result)
        return result

    def counts(self, protocol: str) -> dict[str, int]:
        """What the kernel has counted in here, by its own names; ``protocol``: Tcp (RFC 4022) or TcpExt, for instance.

        Raises: BedError when it has no such counts.
        """
        command = ["grep", "--no-filename", f"^{protocol}:", "/proc/net/snmp", "/proc/net/netstat"]
        names, values = (line.split()[1:] for line in self.run(command, check=True).stdout.splitlines())
        return dict(zip(names, map(int, values), strict=True))

    def popen(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: File = subprocess.DEVNULL,
        stdout: File = subprocess.PIPE,
        stderr: File = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start a program; what is still running when the bed ends is killed."""
        return subprocess.Popen(
            self.command(command),
            env={**self.environment, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def call(self, work: Callable[[], T]) -> T:
        """Do something in this namespace, within this process; what it raises is raised here."""
        done: list[T] = []
        failed: list[Exception] = []

        def enter() -> None:
            try:
                with self.path.open("rb") as file:
                    _setns(file.fileno(), _CLONE_NEWNET)
                done.append(work())
            except Exception as error:  # noqa: BLE001 - raised again below
                failed.append(error)

        # Only the calling thread changes namespace, and it ends here.
        thread = threading.Thread(target=enter, name="bed-namespace")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    def socket(self, family: int = sockets.AF_INET, kind: int = sockets.SOCK_STREAM) -> sockets.socket:
        """A socket of this namespace for use in this process: it keeps the namespace it was made in."""
        return self.call(lambda: sockets.socket(family, kind))

    def connect(self, address: str, port: int, timeout: float = 5) -> sockets.socket:
        """A TCP connection from this namespace; ``timeout`` (seconds) stays set on the socket.

        Raises: OSError.
        """
        made = self.socket(sockets.AF_INET6 if ":" in address else sockets.AF_INET)
        made.settimeout(timeout)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made
