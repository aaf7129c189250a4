"""One dockerd with a containerd of its own, in a network and a mount namespace of its own.

The mount namespace does two things. The engine's mounts vanish with its processes, so nothing
is ever left mounted; and it has an empty /run and /etc/docker, so that inside it
/var/run/docker.sock is *this* engine's socket, as it is in the VM of Docker Desktop, and the
engine neither reads the configuration nor takes the identity of a Docker on the machine.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bed.namespace import BedError, Namespace
from bed.remains import BedName

START_DEADLINE = 60.0
STOP_DEADLINE = 30.0
_PRIVATE_FOLDERS = """
set -e
mkdir -p /etc/docker
mount -t tmpfs bed /run
mount -t tmpfs bed /etc/docker
echo ready
exec sleep infinity
"""


class Engine:
    """dockerd as a service that tests may stop, kill and start again."""

    def __init__(
        self, bed: BedName, netns: Namespace, *, userland_proxy: bool, default_socket: bool, flags: Sequence[str]
    ) -> None:
        self.socket_path = bed.root / "docker.sock"
        self.docker_host = f"unix://{self.socket_path}"
        self.log_path = bed.root / "dockerd.log"
        self._bed = bed
        self._netns = netns
        self._process: subprocess.Popen[bytes] | None = None
        # The mount namespace must outlive a restart of the engine: its shims hold on to it.
        name, _, mark = bed.mark.partition("=")
        self._environment = {**os.environ, name: mark}
        self._keeper = subprocess.Popen(
            netns.command(["unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", _PRIVATE_FOLDERS]),
            env=self._environment,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != b"ready\n":
            raise BedError("The engine's mount namespace could not be made; see the lines above.")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._command = [
            "nsenter",
            f"--mount=/proc/{self._keeper.pid}/ns/mnt",
            f"--net={netns.path}",
            "--",
            "prlimit",
            f"--nofile={limit}:{limit}",  # as Debian's unit does; a test runner has a low soft limit
            "dockerd",
            f"--host={self.docker_host}",
            *(["--host=unix:///run/docker.sock"] if default_socket else []),
            f"--data-root={bed.root / 'data'}",
            f"--exec-root={bed.root / 'exec'}",
            f"--pidfile={bed.root / 'pid'}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent={bed.cgroup_parent}",
            f"--userland-proxy={str(userland_proxy).lower()}",
            f"--dns={netns.address}",  # nothing answers there, at once, unless a test does
            *flags,
        ]

    def start(self) -> None:
        """Start dockerd and wait until it answers.

        Raises: BedError with the end of its log.
        """
        (self._bed.root / "pid").unlink(missing_ok=True)  # a killed dockerd leaves it
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the test, which ends the bed in order
            )
        deadline = time.monotonic() + START_DEADLINE
        while not self.is_answering():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self.log_path.read_text(errors="replace")[-2000:]
                raise BedError(f"dockerd did not start; the end of its log:\n{words}")
            time.sleep(0.02)

    def is_answering(self) -> bool:
        """Whether GET /_ping on its socket is answered with 200."""
        try:
            return bool(self.get("/_ping") == "OK")
        except (OSError, ValueError):
            return False

    def get(self, path: str) -> Any:
        """GET from the engine's API: JSON as objects, other bodies as text.

        Raises: OSError, ValueError when the answer is not 200.
        """
        head, body = self._ask("GET", path)
        return json.loads(body) if b"application/json" in head else body.decode()

    def post(self, path: str) -> None:
        """POST without a body: the docker CLI would take ten times as long.

        Raises: OSError, ValueError when the answer is not 200 or 204.
        """
        self._ask("POST", path)

    def _ask(self, method: str, path: str) -> tuple[bytes, bytes]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket_path))
            connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1:2] not in ([b"200"], [b"204"]):
            raise ValueError(f"{method} {path}: {head.splitlines()[:1]} {body!r}")
        return head, body

    def stop(self) -> None:
        """SIGTERM: containers are stopped, as when the machine shuts down."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: containers go on without their engine."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(STOP_DEADLINE)
            self._process = None
        self._forget_containerd()

    def _forget_containerd(self) -> None:
        """Wait for containerd, which dies with dockerd, and remove its pid file.

        dockerd takes a zombie for a living containerd, and on a machine whose PID 1 is slow to
        collect orphans (a CI runner's often never does) it would wait for it in vain.
        """
        path = self._bed.root / "exec" / "containerd" / "containerd.pid"
        deadline = time.monotonic() + STOP_DEADLINE
        while path.exists() and time.monotonic() < deadline:
            try:
                status = Path(f"/proc/{path.read_text()}/stat").read_text()
            except OSError:
                return
            if status.rpartition(") ")[2][0] in "ZX":
                path.unlink()
            time.sleep(0.01)

    def reap(self) -> None:
        """Collect the processes, after the guardian has killed them."""
        for process in (self._process, self._keeper):
            if process is not None:
                process.wait(STOP_DEADLINE)
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would lead a client to another engine or through a proxy."""
    unwanted = ("docker_", "dconnect_", "http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy")
    kept = {name: value for name, value in os.environ.items() if not name.lower().startswith(unwanted)}
    return {**kept, **extra}
