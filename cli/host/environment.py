"""The host's files, programs and processes, as far as this package touches them."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from dconnect.core.errors import DconnectError

Command: TypeAlias = tuple[str, ...]

DEADLINE_S = 10.0
"""For a command; the slowest, a restart of NetworkManager's dnsmasq, takes one second."""
ENDING_S = 3.0
DRAFT = ".dconnect-draft"
"""Ends the name under which a file is written before it takes its place."""
NOT_FOUND = 127
_TRIES = 100
"""To get hold of a folder that others make and remove."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    output: str
    """What it printed, errors too, stripped."""


class Held(Protocol):
    """A process that waits for our word, and ends without it when we end."""

    pid: int

    def release(self) -> None:
        """Give the word."""


class Environment(Protocol):
    """A host; paths are absolute. What fails raises OSError, unless said otherwise."""

    platform: str
    """As ``sys.platform``."""

    def read(self, path: str) -> bytes | None:
        """A file's content; None if it cannot be read."""

    def leads_to(self, path: str) -> str:
        """Where a path ends after all its links, whether anything is there or not."""

    def exists(self, path: str) -> bool:
        """Whether anything is there."""

    def listed(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if it cannot be read."""

    def run(self, command: Command) -> Result:
        """Run a command to its end; it never raises: one that is missing or hangs has a code and a sentence too."""

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file, or nothing; one that is there keeps its mode and owner, a new one is for all to read."""

    def remove(self, path: str) -> None:
        """Remove a file and its draft, if they are there."""

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, unless they are there."""

    def remove_folder(self, path: str) -> None:
        """Remove a folder if it is empty."""

    def hold(self, command: Command) -> Held:
        """Start a process that is detached from us, and wait until it is ready for our word.

        Raises: DconnectError with the process's own words when it does not get so far.
        """

    def began(self, pid: int) -> str | None:
        """What tells a process from all others that ever had its number; None if none has it now."""

    def end(self, pid: int, began: str) -> None:
        """End that very process, if it lives, and wait until it is gone."""

    def lock(self, folder: str) -> AbstractContextManager[None]:
        """Within the block nobody else has that folder's lock; the folder is made, and removed once it is empty.

        Raises: DconnectError at once when somebody has it.
        """


class RealEnvironment:
    """This host."""

    platform = sys.platform

    def read(self, path: str) -> bytes | None:
        try:
            return Path(path).read_bytes()
        except OSError:
            return None

    def leads_to(self, path: str) -> str:
        return os.path.realpath(path)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def listed(self, folder: str) -> list[str]:
        try:
            return sorted(each.name for each in Path(folder).iterdir())
        except OSError:
            return []

    def run(self, command: Command) -> Result:
        program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
        if program is None:
            return Result(NOT_FOUND, f"There is no program {command[0]} here.")
        try:
            done = subprocess.run(  # noqa: S603 - plans make them, nobody else
                (program, *command[1:]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=DEADLINE_S,
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            return Result(NOT_FOUND, f"{command[0]} did not end within {DEADLINE_S:.0f} s.")
        except OSError as error:
            return Result(NOT_FOUND, f"{command[0]} could not be started: {error.strerror}.")
        return Result(done.returncode, done.stdout.decode(errors="replace").strip())

    def write(self, path: str, data: bytes) -> None:
        place, draft = Path(path), Path(f"{path}{DRAFT}")
        with draft.open("wb") as file:
            file.write(data)
            mode = 0o644
            with contextlib.suppress(FileNotFoundError):
                kept = place.stat()
                os.fchown(file.fileno(), kept.st_uid, kept.st_gid)
                mode = stat.S_IMODE(kept.st_mode)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        try:
            draft.replace(place)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            place.write_bytes(data)  # mounted there, as /etc/resolv.conf is in a container: only its content is ours
            draft.unlink()
        self._sync(place.parent)

    @staticmethod
    def _sync(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        for each in (f"{path}{DRAFT}", path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                Path(each).unlink()

    def make_folder(self, path: str) -> None:
        Path(path).mkdir(0o755, parents=True, exist_ok=True)

    def remove_folder(self, path: str) -> None:
        with contextlib.suppress(OSError):
            Path(path).rmdir()

    def hold(self, command: Command) -> Held:
        process = subprocess.Popen(  # noqa: S603 - as above
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        held = _Held(process)
        said = b""
        if select.select([process.stdout], [], [], DEADLINE_S)[0]:
            said = process.stdout.readline()
        if said != b"ready\n":
            process.kill()
            _ = process.communicate()
            words = said.decode(errors="replace").strip() or f"no word within {DEADLINE_S:.0f} s"
            raise DconnectError(f"The forwarder could not be started: {words}")
        return held

    def began(self, pid: int) -> str | None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"  # proc(5): state, starttime

    def end(self, pid: int, began: str) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if self.began(pid) != began:  # asked while we hold the process: its number cannot go to another now
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(descriptor, number)
                if select.select([descriptor], [], [], ENDING_S)[0]:
                    return
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        import fcntl  # noqa: PLC0415 - Windows has none, and nothing here runs there

        busy = DconnectError(
            "Another dconnect is changing this host just now; wait until it has ended, then try again."
        )
        for _ in range(_TRIES):
            try:
                self.make_folder(folder)
                descriptor = os.open(folder, os.O_RDONLY)
            except (FileExistsError, FileNotFoundError):  # removed just now by who had the lock
                continue
            try:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise busy from None
                if not self._same(descriptor, folder):  # as above, but later
                    continue
                try:
                    yield
                finally:
                    self.remove_folder(folder)
                return
            finally:
                os.close(descriptor)
        raise busy

    @staticmethod
    def _same(descriptor: int, folder: str) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), Path(folder).stat())
        except OSError:
            return False


class _Held:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def release(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.returncode = 0  # it goes on when we end, and init reaps it
