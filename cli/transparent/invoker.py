"""Whose tunnel it is: under sudo the user who typed it, whose Docker context and token count."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_KEPT = ("DOCKER_", "XDG_", "DCONNECT_", "COLIMA_", "LC_", "LANG", "PYTHON")
"""Beginnings of the variables that the pump may see; sudo has judged them before."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Invoker:
    """A user of this machine."""

    uid: int
    gid: int
    name: str
    home: str

    @classmethod
    def of(cls, environ: Mapping[str, str], uid: int) -> Invoker:
        """The user behind sudo, or the one whom a process runs as."""
        told = environ.get("SUDO_UID", "")
        if uid == 0 and told.isascii() and told.isdigit():
            uid = int(told)
        try:
            entry = pwd.getpwuid(uid)
        except (KeyError, OverflowError):  # a container's user may have no name
            return cls(uid, uid, str(uid), environ.get("HOME") or "/")
        return cls(uid, entry.pw_gid, entry.pw_name, entry.pw_dir)

    @classmethod
    def here(cls) -> Invoker:
        """Of this process."""
        return cls.of(os.environ, os.geteuid())

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What a process of this user gets."""
        kept = {key: value for key, value in environ.items() if key.startswith(_KEPT)}
        runtime = f"/run/user/{self.uid}"
        if "XDG_RUNTIME_DIR" not in kept and Path(runtime).is_dir():
            kept["XDG_RUNTIME_DIR"] = runtime
        home = environ.get("HOME", self.home) if self.uid == os.getuid() else self.home
        return kept | {"HOME": home, "USER": self.name, "LOGNAME": self.name, "PATH": environ.get("PATH", _PATH)}

    def groups(self) -> list[int]:
        """The groups of this user: the Docker socket's may be among them."""
        return os.getgrouplist(self.name, self.gid)
