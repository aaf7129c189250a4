"""The journal first, then the change: what a host was like is known whatever interrupts us.

Before each step the journal, one file that only root writes, has how it is undone. So everything can be undone from it
after a kill at any point, twice too. What somebody else has changed since is left alone and told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dconnect.cli.host.detect import Manager
from dconnect.cli.host.environment import DRAFT, Environment
from dconnect.cli.host.forwarder import command as forwarder
from dconnect.cli.host.plans import (
    MARK,
    Commands,
    File,
    FirstServer,
    Folder,
    Forward,
    Step,
    Wish,
    first_server,
    plan,
    without_server,
)
from dconnect.core.address import Target
from dconnect.core.errors import DconnectError

Entry = dict[str, Any]
Tell = Callable[[str], None]

_FILE = "host.json"


def folder(platform: str) -> str:
    """The machine's own place for what a system service remembers."""
    return "/var/db/dconnect" if platform == "darwin" else "/var/lib/dconnect"


@dataclass
class Record:
    """What the journal says."""

    wish: Wish
    entries: list[Entry] = field(default_factory=list)
    """How each step is undone, in the order in which they were begun."""
    complete: bool = False
    """Whether all steps were done."""


class Journal:
    """The one place that changes a host."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._folder = folder(env.platform)
        self.path = f"{self._folder}/{_FILE}"

    def read(self) -> Record | None:
        """What is installed, or was begun; None if nothing.

        Raises: DconnectError when it cannot be read.
        """
        data = self._env.read(self.path)
        if data is None:
            return None
        try:
            told = json.loads(data)
            wish = told["wish"]
            dns = Target(str(wish["host"]), int(wish["port"]))
            wished = Wish(Manager(wish["manager"]), tuple(wish["suffixes"]), dns)
            return Record(wished, list(told["entries"]), bool(told["complete"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DconnectError(
                f"The journal {self.path} cannot be read ({error}); what dconnect changed here must be undone by hand."
            ) from error

    def set(self, wish: Wish | None, tell: Tell) -> bool:
        """Make the host as wished, where nothing stays of what was wished before; False if it is so already.

        Raises: DconnectError; what this call began is undone again.
        """
        try:
            with self._env.lock(self._folder):
                return self._set(wish, tell)
        except OSError as error:
            raise DconnectError(f"The journal {self.path} cannot be written: {error.strerror or error}.") from error

    def _set(self, wish: Wish | None, tell: Tell) -> bool:
        record = self.read()
        if record is None:
            self._env.remove(self.path)  # its draft
            if wish is None:
                return False
        else:
            if record.complete and record.wish == wish and not list(self.missing(record)):
                return False
            self._undo(record, tell)
        if wish is not None:
            self._apply(wish, tell)
        return True

    def missing(self, record: Record) -> Iterator[str]:
        """Sentences about what the journal has and the host has no more."""
        for entry in record.entries:
            match entry:
                case {"file": str(path), "wrote": str(wrote)}:
                    if self._text(path) != wrote:
                        yield f"{path} is not as it was written."
                case {"servers": str(path), "address": str(address)}:
                    if f"nameserver {address}\n" not in (self._text(path) or ""):
                        yield f"{path} does not name {address} any more: what manages that file has written it anew."
                case {"process": int(pid), "began": str(began)}:
                    if self._env.began(pid) != began:
                        yield "The forwarder does not run any more."
                case {"makes": str(path)} if path:
                    if not self._env.exists(path):
                        yield f"{path} is gone."

    # -- doing ---------------------------------------------------------------------------------

    def _apply(self, wish: Wish, tell: Tell) -> None:
        steps = plan(wish)
        for step in steps:
            self._refuse_others(step)
        record = Record(wish)
        try:
            for step in steps:
                self._do(step, record)
            record.complete = True
            self._save(record)
        except BaseException as error:
            try:
                self._undo(record, tell)
            except DconnectError as left:
                error.add_note(str(left))
            raise

    def _refuse_others(self, step: Step) -> None:
        """Before anything is changed: nobody else's file or link is taken."""
        if isinstance(step, File):
            there = self._text(step.path)
            if there is not None and not there.startswith(MARK):
                raise DconnectError(
                    f"{step.path} is there already and not ours; move it away, or leave that domain out with --suffix."
                )
        elif isinstance(step, Commands) and step.makes and self._env.exists(step.makes):
            raise DconnectError(
                f"{step.makes} is there already, and no journal says that it is ours; remove it, then try again."
            )

    def _do(self, step: Step, record: Record) -> None:
        env = self._env
        try:
            match step:
                case Folder(path):
                    if not env.exists(path):
                        self._note(record, {"folder": path})
                        env.make_folder(path)
                case File(path, text):
                    self._note(record, {"file": path, "wrote": text})
                    env.write(path, _bytes(text))
                case FirstServer(path, address):
                    real = env.leads_to(path)
                    there = self._text(real)
                    before = None if there is None else without_server(there, address)
                    wrote = first_server(before or "", address)
                    self._note(record, {"servers": real, "address": address, "wrote": wrote, "before": before})
                    env.write(real, _bytes(wrote))
                case Forward(address, to):
                    held = env.hold(forwarder(address, to))  # does nothing yet, and ends with us
                    self._note(record, {"process": held.pid, "began": env.began(held.pid)})
                    held.release()
                case Commands():
                    self._note(record, {"undo": step.undo, "makes": step.makes})
                    self._run(step)
        except OSError as error:
            raise DconnectError(f"Could not {step}: {error.strerror or error}.") from error

    def _run(self, step: Commands) -> None:
        commands = step.do
        if step.instead and self._env.run(commands[0]).code:
            commands = step.instead
        elif step.instead:
            commands = commands[1:]
        for command in commands:
            result = self._env.run(command)
            if result.code and step.needed:
                raise DconnectError(f"`{' '.join(command)}` ended with {result.code}: {result.output}")

    def _note(self, record: Record, entry: Entry) -> None:
        record.entries.append(entry)
        self._save(record)

    def _save(self, record: Record) -> None:
        wish = record.wish
        wished = {
            "manager": wish.manager.value,
            "suffixes": wish.suffixes,
            "host": wish.dns.host,
            "port": wish.dns.port,
        }
        told = {"wish": wished, "entries": record.entries, "complete": record.complete}
        self._env.write(self.path, json.dumps(told, indent=1).encode())

    # -- undoing -------------------------------------------------------------------------------

    def _undo(self, record: Record, tell: Tell) -> None:
        """Undo all that was begun, the last first; the journal goes when nothing is left.

        Raises: DconnectError that says what is left.
        """
        left: list[str] = []
        for entry in reversed(record.entries):
            try:
                self._undo_one(entry, tell)
            except (OSError, DconnectError) as error:
                left.append(str(error))
        if left:
            raise DconnectError(
                f"Not all could be undone: {' '.join(left)} Repair that, then `sudo dconnect dns uninstall`."
            )
        self._env.remove(self.path)

    def _undo_one(self, entry: Entry, tell: Tell) -> None:
        env = self._env
        match entry:
            case {"folder": str(path)}:
                env.remove_folder(path)
            case {"file": str(path), "wrote": str(wrote)}:
                there = self._text(path)
                if there is None or there == wrote:
                    env.remove(path)
                else:
                    env.remove(f"{path}{DRAFT}")
                    tell(f"{path} has been changed by somebody else; it is left as it is.")
            case {"servers": str(path)}:
                self._undo_servers(entry, path, tell)
            case {"process": int(pid), "began": str(began)}:
                env.end(pid, began)
            case {"undo": list() | tuple() as undo, "makes": str(makes)}:
                if makes and not env.exists(makes):
                    return
                results = [env.run(tuple(command)) for command in undo]
                if makes and env.exists(makes):
                    raise DconnectError(f"{makes} is still there: {' '.join(each.output for each in results)}.")
            case _:
                raise DconnectError(f"The journal has something of another version: {entry}.")

    def _undo_servers(self, entry: Entry, path: str, tell: Tell) -> None:
        self._env.remove(f"{path}{DRAFT}")
        there, before = self._text(path), entry["before"]
        if there is None or there == before:
            return
        if there == entry["wrote"] and before is None:
            self._env.remove(path)
        elif there == entry["wrote"]:
            self._env.write(path, _bytes(before))
        elif (rest := without_server(there, entry["address"])) != there:
            self._env.write(path, _bytes(rest))
            tell(f"{path} has been changed by somebody else; only our line was taken out.")

    def _text(self, path: str) -> str | None:
        data = self._env.read(path)
        return None if data is None else data.decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
