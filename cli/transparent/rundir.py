"""Root's notes while a tunnel is up: who keeps it, and where the pump tells its status.

    tun.lock   held by the helper as long as it lives; the system lets go of it, however that ends
    tun.json   the journal, written before anything is changed: the helper's pid, the user, the device's name
    tun.sock   the pump's, its user's alone: whoever connects is told the status, one JSON object

In a folder of the system's that is empty after a restart, as the network is. Not the user's state directory: under
sudo that is anybody's guess.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from dconnect.core.errors import DconnectError

VARIABLE = "DCONNECT_RUN_DIR"
"""Environment variable that names another folder: for tests, of which several run on one machine."""

_NAMES = ("tun.json", "tun.sock", "tun.lock")
"""In the order in which they are removed: without the lock's file nobody is there."""


class Held(DconnectError):
    """A helper lives."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The journal's one entry."""

    pid: int
    """The helper's."""
    uid: int
    device: str
    """The name it is to have; empty where the system chooses."""


class RunDir:
    """The folder."""

    def __init__(self, path: Path | None = None) -> None:
        default = "/var/run/dconnect" if sys.platform == "darwin" else "/run/dconnect"
        self.path = path or Path(os.environ.get(VARIABLE) or default)

    @property
    def status(self) -> Path:
        """The pump's socket."""
        return self.path / "tun.sock"

    def take(self) -> BinaryIO:
        """The lock, held until it is closed.

        Raises: DconnectError when a helper lives, or the folder cannot be used.
        """
        path = self.path / "tun.lock"
        try:
            while True:
                self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
                file = path.open("ab")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is(file, path):
                        return file
                except BlockingIOError:
                    file.close()
                    raise Held("The transparent mode is up already; `dconnect tun status` tells more.") from None
                file.close()  # the one before us removed it in between
        except OSError as error:
            raise DconnectError(f"{self.path} cannot be used ({error.strerror}); is this root?") from error

    def write(self, entry: Entry) -> None:
        """Note what is about to be made."""
        draft = self.path / f"tun.{os.getpid()}"
        draft.write_text(json.dumps(asdict(entry)), encoding="utf-8")
        draft.replace(self.path / "tun.json")

    def read(self) -> Entry | None:
        """What was noted last, if it can be read."""
        try:
            return Entry(**json.loads((self.path / "tun.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def listen(self, uid: int, gid: int) -> socket.socket:
        """The status socket, its user's alone."""
        self.status.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # never anybody else's, not for a moment
        try:
            listener.bind(str(self.status))
        finally:
            os.umask(before)
        os.chown(self.status, uid, gid)
        listener.listen(8)
        return listener

    def remains(self) -> list[str]:
        """Which of our files are there."""
        return [str(path) for name in _NAMES if (path := self.path / name).exists()]

    def forget(self) -> None:
        """Remove them, by whoever holds the lock."""
        for name in _NAMES:
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody else has something there
            self.path.rmdir()


def _is(file: BinaryIO, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
