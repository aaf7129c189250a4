"""``dconnect run --netns``: one command whose only network is the tunnel. Needs no root (user_namespaces(7), Linux).

The pump stays in the host's network. This process goes into namespaces of its own, where it has the rights that the
helper has on a host, makes the device there, and starts the command, which loses them by being started. With the last
of its processes the kernel removes it all.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_interface
from pathlib import Path
from types import FrameType
from typing import Any, Self

from dconnect.cli.transparent.helper import Helper, Order, Pumping
from dconnect.cli.transparent.invoker import Invoker
from dconnect.core.errors import DconnectError, UsageError
from dconnect.tunnel.host_linux import LinuxHost

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_LOOPBACK = (ip_interface("127.0.0.1/8"), ip_interface("::1/128"))


def run(order: Order, command: Sequence[str]) -> int:
    """Run a command with the tunnel as its network; its exit code, as shells have it.

    Raises: UsageError when there is no such command; DconnectError.
    """
    if shutil.which(command[0]) is None:
        raise UsageError(f"There is no command {command[0]!r}.")
    uid, gid = os.getuid(), os.getgid()
    with ExitStack() as held:
        listener = held.enter_context(socket.socket(socket.AF_UNIX))  # for a status that nobody asks for
        listener.bind("")
        listener.listen()
        pump = held.enter_context(Pumping(order, Invoker.of({}, uid), listener))
        _enter(uid, gid)
        host = LinuxHost()
        held.callback(host.close)
        host.set_up("lo", _LOOPBACK, 65_536)
        Path("/proc/sys/net/ipv4/ping_group_range").write_text(
            f"{gid} {gid}"
        )  # the command has no right to raw sockets
        started = held.enter_context(_Command(command))
        helper = Helper(order, host, started.start)
        held.callback(helper.close)
        helper.serve(pump.channel, started.ended)
        return started.code()


class _Command:
    """The command's process, started once there is a network."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self.ended, self._ending = socket.socketpair()
        """Readable when it has ended."""
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:  # its network is gone
            self._process.terminate()
            self._process.wait()
        self._held.close()
        self.ended.close()
        self._ending.close()

    def start(self, report: dict[str, Any]) -> None:
        """There is a network: start."""
        self._held.enter_context(_name_servers(report["dns"]))
        self._held.enter_context(_handled(signal.SIGCHLD, self._child_ended))
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            self._held.enter_context(_handled(number, self._pass_on))
        self._process = subprocess.Popen(self._command)  # noqa: S603 - what the user typed
        self._child_ended()

    def _child_ended(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is not None:
            with suppress(OSError):
                self._ending.send(b"\0")

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        # The terminal's own signals go to the command as well as to us.
        if self._process is not None and number not in (signal.SIGINT, signal.SIGQUIT):
            self._process.send_signal(number)

    def code(self) -> int:
        """How it ended.

        Raises: DconnectError when the tunnel ended before it.
        """
        code = self._process.poll() if self._process is not None else None
        if code is None:
            raise DconnectError("The tunnel ended before the command; it is terminated.")
        return code if code >= 0 else 128 - code


@contextmanager
def _handled(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _enter(uid: int, gid: int) -> None:
    """Go into new namespaces of users, networks and mounts, and stay the same user there.

    Raises: DconnectError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWNS):
        reason = os.strerror(ctypes.get_errno())
        raise DconnectError(
            f"This system does not let users have namespaces of their own ({reason}); use `sudo dconnect tun up`."
        )
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(text)
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise DconnectError(f"The mounts cannot be made the command's own: {os.strerror(ctypes.get_errno())}.")


@contextmanager
def _name_servers(addresses: Sequence[str]) -> Iterator[None]:
    """In this mount namespace /etc/resolv.conf names the tunnel's own servers."""
    with tempfile.NamedTemporaryFile("w", prefix="dconnect-", suffix=".conf") as file:
        file.write("# Of dconnect run --netns, for this command alone.\n")
        file.writelines(f"nameserver {address}\n" for address in addresses)
        file.flush()
        Path(file.name).chmod(0o644)
        there = os.path.realpath("/etc/resolv.conf")
        libc = ctypes.CDLL(None, use_errno=True)
        if Path(there).exists() and libc.mount(file.name.encode(), there.encode(), None, _MS_BIND, None):
            raise DconnectError(f"{there} cannot be the command's own: {os.strerror(ctypes.get_errno())}.")
        yield
