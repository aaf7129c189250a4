"""A whole Debian machine's files, on the bed's host: its own /etc, /run and /var, and the host's network."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bed import cache
from bed.namespace import Namespace, check_output
from bed.session import Bed
from bed.waiting import wait_for

_PACKAGES = (
    *("bind9-dnsutils", "busybox-static", "dbus-daemon", "dnsmasq-base", "iproute2", "libffi8", "libnss-resolve"),
    *("libssl3", "python3", "systemd-resolved"),
)
_WATCHED = ("etc", "run", "var/lib", "var/db")
_MOUNT = """
set -e
for each in proc sysfs; do mount -t $each $each "$1/${each%fs}"; done
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
root=$1; shift
for each; do mkdir -p "$root$each"; mount --rbind "$each" "$root$each"; done
exec chroot "$root" sh -c 'echo ready; exec sleep infinity'
"""


@dataclass(frozen=True)
class Machine(Namespace):
    """Commands run with the machine's files and the host's network."""

    pid: int = 0
    """A process that has both."""

    def command(self, command: Sequence[str | Path]) -> list[str]:
        entering = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--root", "--wd", "--"]
        return [*entering, *map(str, command)]

    @property
    def root(self) -> Path:
        """Its files, seen from here."""
        return Path(f"/proc/{self.pid}/root")

    def snapshot(self) -> dict[str, str]:
        """Below /etc, /run and /var/lib: path → kind, mode, content; the network's links; what runs."""
        found: dict[str, str] = {}
        for top in _WATCHED:
            for folder, folders, files in os.walk(self.root / top):
                for name in (*folders, *files):
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):  # removed meanwhile
                        found["/" + str(path.relative_to(self.root))] = _kind(path)
        found["links"] = self.run(["ip", "-o", "-d", "address"], check=True).stdout
        space = Path(f"/proc/{self.pid}/ns/mnt").readlink()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile
                if (entry / "ns" / "mnt").readlink() == space:
                    found[f"process {entry.name}"] = (entry / "cmdline").read_bytes().decode()
        return found


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    if path.is_symlink():
        return f"{mode:o} -> {path.readlink()}"
    return f"{mode:o} {hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''}"


@contextmanager
def machine(bed: Bed) -> Iterator[Machine]:
    """A machine as it stands after Debian's installation; what still runs in it is killed with the bed."""
    root = Path(tempfile.mkdtemp(prefix="machine-", dir=bed.root))
    root.chmod(0o755)
    tar = cache.debian_tar("machine", "minbase", _PACKAGES, "--customize-hook=true")
    subprocess.run(["tar", "--extract", f"--file={tar}", f"--directory={root}"], check=True)
    shared = {str(cache.PROJECT), str(bed.root), str(Path(sys.prefix).resolve()), sys.base_prefix} - {"/usr"}
    begin = ["unshare", "--mount", "--propagation=private", "sh", "-c", _MOUNT, "sh", str(root), *sorted(shared)]
    with bed.host.popen(begin) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", process.communicate()
            yield Machine(bed.host.path, bed.host.address, bed.environment, pid=process.pid)
        finally:
            process.kill()
    subprocess.run(["rm", "--recursive", "--force", "--one-file-system", root], check=True)


@contextmanager
def resolved(on: Machine, server: str) -> Iterator[None]:
    """Within the block systemd-resolved serves names, and asks ``server`` by the host's link to the engine."""
    for folder, owner in (("run/dbus", "root"), ("run/systemd/resolve", "systemd-resolve")):
        on.run(["install", "-d", f"--owner={owner}", f"/{folder}"], check=True)
    on.run(["chown", "systemd-resolve:systemd-resolve", "/run/systemd/resolve"], check=True)
    with ExitStack() as running:
        for command in (
            ["dbus-daemon", "--system", "--nofork", "--nopidfile"],
            ["/lib/systemd/systemd-resolved"],
        ):
            process = running.enter_context(on.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            running.callback(process.kill)
            if command[0] == "dbus-daemon":
                wait_for("the system bus", (on.root / "run/dbus/system_bus_socket").exists, 10)
        wait_for("systemd-resolved", lambda: on.run(["resolvectl", "dns"]).returncode == 0, 10)
        for words in (["dns", "vm0", server], ["default-route", "vm0", "yes"], ["llmnr", "vm0", "no"]):
            command = ["resolvectl", *words]
            check_output(command, on.run(command))
        yield
