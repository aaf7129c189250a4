"""The supervisor: PID 1 of the agent. It owns the listening sockets and keeps its children alive.

Because the sockets are here, no child's death closes a port: connections wait in the backlog
until the next worker takes them. Standard library only, and as little of it as possible, because
nobody restarts the supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dconnect.agent import labels, stderr
from dconnect.agent.lent import Lent
from dconnect.core.backoff import backoff
from dconnect.core.config import AgentConfig
from dconnect.core.congestion import unpace
from dconnect.core.errors import DconnectError
from dconnect.core.keepalive import watch_peer
from dconnect.core.limits import DRAIN_SECONDS, LISTEN_BACKLOG

MAX_WORKERS = 4
"""More gain nothing: the kernel moves the bytes, Python only decides."""
_TUNSETIFF = 0x400454CA
_IFREQ = struct.Struct("16sH22x")
_TUN_FLAGS = 0x0001 | 0x0100 | 0x1000
"""IFF_TUN, IFF_MULTI_QUEUE, IFF_NO_PI."""
_STEADY_SECONDS = 10.0
"""A child that lived this long is restarted at once, as if for the first time."""
_STOP_SECONDS = DRAIN_SECONDS + 2.0
"""Docker kills ten seconds after SIGTERM; we are gone before."""


@dataclass(slots=True)
class Child:
    """One process that must be there."""

    name: str
    module: str
    lent: Lent
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = 0.0
    """Monotonic time of the next start; meaningful while pid is 0."""


class Supervisor:
    """Starts control and the workers, restarts what dies, ends them all on SIGTERM."""

    def __init__(self, children: list[Child]) -> None:
        self._children = children
        self._asked: list[int] = []
        """Signals to end that came; only the main loop acts on them, so that it cannot miss a child just started."""
        self._stopping = False
        self._deadline = 0.0
        self._wakeup, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Supervise until told to stop; the exit code."""
        handlers = {
            number: signal.signal(number, lambda number, _: self._asked.append(number))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            while not self._stopping or any(child.pid for child in self._children):
                self._start_due()
                self._wait()
                self._reap()
                self._stop_if_asked()
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(self._wakeup)
            os.close(self._wake)
        log("agent stopped")
        return 0

    def _stop_if_asked(self) -> None:
        now = time.monotonic()
        if self._asked and not self._stopping:
            log("agent stopping", signal=signal.Signals(self._asked[0]).name)
            self._stopping = True
            self._deadline = now + _STOP_SECONDS
            self._signal_all(signal.SIGTERM)
        if self._stopping and (len(self._asked) > 1 or now > self._deadline):  # asked twice: no more patience
            self._asked = self._asked[:1]
            self._deadline = now + 1.0  # a process in the kernel's hands may outlive even this
            self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)

    def _start_due(self) -> None:
        for child in self._children:
            if not child.pid and not self._stopping and child.due <= time.monotonic():
                argv = [sys.executable, "-P", "-m", child.module, str(child.lent.index)]  # the number is for ps
                environ = {**os.environ, labels.ENV_LENT: child.lent.to_json()}
                child.started = time.monotonic()
                try:
                    # Own process groups: Ctrl-C in a terminal reaches the supervisor alone.
                    child.pid = os.posix_spawn(sys.executable, argv, environ, setpgroup=0)
                except OSError as error:  # no memory or no more processes, for the moment
                    self._again(child, "process cannot be started", reason=error.strerror)

    def _wait(self) -> None:
        times = [child.due for child in self._children if not child.pid and not self._stopping]
        if self._stopping:
            times.append(self._deadline)
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        select.select([self._wakeup], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for child in self._children:
                if child.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._again(child, "process died and is restarted", exit_code=code)

    def _again(self, child: Child, event: str, **fields: Any) -> None:
        now = time.monotonic()
        child.pid = 0
        child.failures = 0 if now - child.started > _STEADY_SECONDS else child.failures + 1
        delay = backoff(child.failures - 1, most=5.0) if child.failures else 0.0
        child.due = now + delay
        if not self._stopping:
            log(event, "warning", process=child.name, **fields, delay_s=delay)


def run(config: AgentConfig, engine: str, *, address: str, front_port: int, dns_port: int) -> int:
    """Run the agent in the foreground until SIGTERM or SIGINT; the exit code.

    Args:
        config: what the agent is told.
        engine: Docker endpoint URL.
        address: where to listen.
        front_port: TCP port of the front door, and UDP port of its associations.
        dns_port: UDP and TCP port of the DNS server.

    Raises: DconnectError when a port is taken.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = tempfile.mkdtemp(prefix="dconnect-")
    lifeline, hold = os.pipe2(os.O_CLOEXEC)
    try:
        with contextlib.ExitStack() as stack:
            tun = config.tun != ""
            front = stack.enter_context(_listen(address, front_port, socket.SOCK_STREAM, shared=tun))
            # Inherited: what we answer in a handshake carries the ACKs. Listening forgets it, so it comes after that.
            front.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            count = min(MAX_WORKERS, len(os.sched_getaffinity(0)))
            lent = Lent(
                config=config,
                engine=engine,
                front=front.fileno(),
                front_udp=stack.enter_context(_listen(address, front_port, socket.SOCK_DGRAM)).fileno(),
                dns_udp=stack.enter_context(_listen(address, dns_port, socket.SOCK_DGRAM)).fileno(),
                dns_tcp=stack.enter_context(_listen(address, dns_port, socket.SOCK_STREAM, shared=tun)).fileno(),
                bus=stack.enter_context(_listen_unix(directory, "bus.sock")).fileno(),
                api=stack.enter_context(_listen_unix(directory, "api.sock")).fileno(),
                lifeline=lifeline,
                directory=directory,
                workers=count,
                tun=_tunnel(stack) if tun else (),
            )
            for descriptor in lent.descriptors():
                os.set_inheritable(descriptor, True)
            children = [Child("control", "dconnect.agent.control", lent)]
            children += [
                Child(f"worker {index}", "dconnect.agent.worker", replace(lent, index=index)) for index in range(count)
            ]
            if tun:
                children.append(Child("gateway", "dconnect.agent.gateway", replace(lent, index=count)))
            log("agent starting", address=address, port=front_port, dns_port=dns_port, workers=count, engine=engine)
            return Supervisor(children).run()
    finally:
        os.close(hold)
        os.close(lifeline)
        shutil.rmtree(directory, ignore_errors=True)


def _tunnel(stack: contextlib.ExitStack) -> tuple[int, ...]:
    """The tunnel's device, as long as the agent runs: the gateway may die, its connections do not. Its two queues.

    Raises: DconnectError.
    """
    descriptors: list[int] = []
    try:
        for _ in range(2):  # the second adds a queue
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(labels.TUN_NAME.encode(), _TUN_FLAGS))
            descriptors.append(descriptor)
    except OSError as error:
        raise DconnectError(
            f"The agent cannot have a TUN device ({error.strerror}); `dconnect up` without --tun needs none."
        ) from error
    return tuple(descriptors)


def _listen(address: str, port: int, kind: socket.SocketKind, *, shared: bool = False) -> socket.socket:
    """``shared``: the tunnel may listen there too, on its own device."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
            watch_peer(sock)
            unpace(sock)
            # Clients speak first, here and in DNS: told together with its first bytes, a connection costs one
            # wake-up instead of two. A silent one is told a second later.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        raise DconnectError(
            f"Port {port} on {address} cannot be used: {error.strerror}; choose another one."
        ) from error
    return sock


def _listen_unix(directory: str, name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.bind(str(Path(directory) / name))
    sock.listen(LISTEN_BACKLOG)
    return sock


def log(event: str, level: str = "info", **fields: Any) -> None:
    """One line in the form that structlog gives the other processes."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"event": event, "level": level, "process": "supervisor", "timestamp": stamp, **fields})
    with stderr.opened(sys.stderr.fileno()) as fd:
        stderr.write(fd, line.encode() + b"\n")  # what is not taken is lost
