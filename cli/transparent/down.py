"""``dconnect tun down`` and ``dconnect cleanup``: the end of a tunnel, and the proof of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from dconnect.cli.output import say
from dconnect.cli.transparent import helper, status
from dconnect.cli.transparent.rundir import Held, RunDir
from dconnect.core.errors import DconnectError

DEADLINE_S = helper.END_SECONDS + 3.0
_POLL_S = 0.02


def down() -> None:
    """End the tunnel that is up; its user may, root's rights are not needed.

    Raises: NotRunning; DconnectError when it does not end.
    """
    rundir = RunDir()
    pid = status.ask(rundir)["pid"]  # the pump's; its helper undoes the rest and ends with it
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise DconnectError("The transparent mode is up for another user; use sudo.") from None
    if not _wait(lambda: not rundir.remains()):
        raise DconnectError("The tunnel does not end; `sudo dconnect cleanup` ends it by force.")
    say("The tunnel is down.")


def cleanup() -> None:
    """End whatever is there, remove what is left, and look again. Does nothing where nothing is.

    Raises: DconnectError when something stays.
    """
    rundir = RunDir()
    host = helper.host_network()
    try:
        devices = host.devices(helper.DEVICE)
        if not devices and not rundir.remains():
            say("Nothing of dconnect's transparent mode is left on this host.")
            return
        removed = [*devices, *rundir.remains()]
        if os.geteuid():
            raise DconnectError(f"{', '.join(removed)} can be removed by root only: sudo dconnect cleanup")
        with _taken(rundir):
            for device in host.devices(helper.DEVICE):
                host.delete(device)
            rundir.forget()
        if not _wait(lambda: not host.devices(helper.DEVICE)):
            raise DconnectError(f"These devices stay: {', '.join(host.devices(helper.DEVICE))}; end who holds them.")
    finally:
        host.close()
    say(f"Removed: {', '.join(removed)}. Nothing of dconnect's transparent mode is left on this host.")


def _taken(rundir: RunDir) -> BinaryIO:
    """The lock, from whoever has it.

    Raises: DconnectError.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(Held):
            return rundir.take()
        entry = rundir.read()
        if entry is not None:  # the lock is held, so this is its holder
            with suppress(ProcessLookupError):
                os.kill(entry.pid, number)
        _wait(lambda: not rundir.remains())
    return rundir.take()


def _wait(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE_S
    while not (found := done()) and time.monotonic() < end:
        time.sleep(_POLL_S)
    return found
