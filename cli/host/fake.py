"""A host in memory: a tree of files, links that lead elsewhere, and programs that are recorded.

For tests. Every change is counted, and the host can lose whoever makes it before any of them, as kill -9 would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dconnect.cli.host.environment import DRAFT, NOT_FOUND, Command, Held, Result
from dconnect.core.errors import DconnectError


class Killed(BaseException):
    """Whoever changed the host was killed; each further change says so too, until ``revive``."""


class FakeEnvironment:
    """A host to play with."""

    def __init__(self, platform: str = "linux", files: dict[str, str] | None = None) -> None:
        self.platform = platform
        self.files: dict[str, bytes] = {path: text.encode() for path, text in (files or {}).items()}
        self.folders = {"/etc", "/var/lib", "/var/db", "/sys/class/net"}
        self.links: dict[str, str] = {}
        """Symbolic links and where they lead in the end."""
        self.answers: dict[Command, Result] = {}
        """What programs say that change nothing, or fail; those that are missing here succeed and say nothing."""
        self.missing: set[str] = set()
        """Programs that are not there."""
        self.has_dummy = True
        """Whether the kernel makes dummy links."""
        self.commands: list[Command] = []
        """Those that were run, queries left out."""
        self.processes: dict[int, tuple[str, Command]] = {}
        """PID → when it began, and its command."""
        self.locked = False
        self.lifetime: int | None = None
        """How many changes are made before the one who makes them is killed."""
        self._pid = 100

    def revive(self) -> None:
        """Somebody new comes; the lock and the processes that waited for a word went with the old one."""
        self.lifetime = None
        self.locked = False
        self.processes = {pid: each for pid, each in self.processes.items() if not each[0].startswith("held")}

    def tree(self) -> tuple[dict[str, bytes], set[str], list[Command]]:
        """Everything that a change could have left behind."""
        return dict(self.files), set(self.folders), [each for _, each in self.processes.values()]

    def _change(self) -> None:
        if self.lifetime is not None:
            if not self.lifetime:
                raise Killed
            self.lifetime -= 1

    def _real(self, path: str) -> str:
        return self.links.get(path, path)

    # -- what an environment promises ------------------------------------------------------------

    def read(self, path: str) -> bytes | None:
        return self.files.get(self._real(path))

    def leads_to(self, path: str) -> str:
        return self._real(path)

    def exists(self, path: str) -> bool:
        return self._real(path) in self.files or path in self.folders

    def listed(self, folder: str) -> list[str]:
        inside = (path.removeprefix(f"{folder}/") for path in self.files if path.startswith(f"{folder}/"))
        return sorted(name for name in inside if "/" not in name)

    def run(self, command: Command) -> Result:
        if command[0] in self.missing:
            return Result(NOT_FOUND, f"There is no program {command[0]} here.")
        if command in self.answers:
            return self.answers[command]
        self._change()
        self.commands.append(command)
        match command:
            case ("ip", "link", "add", name, "type", kind, *_):
                if kind == "dummy" and not self.has_dummy:
                    return Result(2, "Error: Unknown device type.")
                self.folders.add(f"/sys/class/net/{name}")
            case ("ip", "link", "delete", name):
                self.folders.discard(f"/sys/class/net/{name}")
            case _:
                pass
        self._change()
        return Result(0, "")

    def write(self, path: str, data: bytes) -> None:
        assert path.rpartition("/")[0] in self.folders, path
        self._change()
        self.files[f"{path}{DRAFT}"] = data[: len(data) // 2]
        self._change()
        del self.files[f"{path}{DRAFT}"]
        self.files[path] = data
        self._change()

    def remove(self, path: str) -> None:
        for each in (f"{path}{DRAFT}", path):
            self._change()
            self.files.pop(each, None)

    def make_folder(self, path: str) -> None:
        self._change()
        self.folders.add(path)

    def remove_folder(self, path: str) -> None:
        self._change()
        if not any(each.startswith(f"{path}/") for each in self.files):
            self.folders.discard(path)

    def hold(self, command: Command) -> Held:
        self._change()
        self._pid += 1
        self.processes[self._pid] = (f"held {self._pid}", command)
        return _Held(self, self._pid)

    def began(self, pid: int) -> str | None:
        return self.processes[pid][0].removeprefix("held ") if pid in self.processes else None

    def end(self, pid: int, began: str) -> None:
        self._change()
        if self.began(pid) == began:
            del self.processes[pid]

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        if self.locked:
            raise DconnectError("Another dconnect is changing this host just now.")
        self.make_folder(folder)
        self.locked = True
        try:
            yield
        finally:
            self.locked = False
            with suppress(Killed):
                self.remove_folder(folder)


class _Held:
    def __init__(self, env: FakeEnvironment, pid: int) -> None:
        self._env = env
        self.pid = pid

    def release(self) -> None:
        self._env._change()  # noqa: SLF001 - a part of it
        began, command = self._env.processes[self.pid]
        self._env.processes[self.pid] = (began.removeprefix("held "), command)
