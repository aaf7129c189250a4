"""What is expensive to make and the same for every bed: the base image and the wheels.

Kept in ``$XDG_CACHE_HOME/dconnect-bed`` (``~/.cache/…``), not in the checkout, so that a fresh
clone on the same machine is warm. Each entry is named by a hash of what it was made from, is
made under a file lock, and appears by one rename: a reader sees a whole entry or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bed.namespace import BedError, check_output

PROJECT = Path(__file__).resolve().parents[2]
BUSYBOX = Path("/bin/busybox")
BASE_PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
_UNUSED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
# Like the official python images: ``python`` exists, and pip may install into the system.
_CUSTOMIZE = 'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED; ln -s python3 "$1"/usr/bin/python'
_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
_PYTHON_OF_SUITE = {"bookworm": "3.11", "trixie": "3.13"}
# PID 1 ignores signals that it has no handler for, and httpd has none for SIGTERM; this shell has.
_BUSYBOX_SERVES = "trap exit TERM; hostname > /www/index.html; httpd -f -p 80 -h /www & wait"
BUSYBOX_CHANGES = (f'CMD ["sh", "-c", "{_BUSYBOX_SERVES}"]', "EXPOSE 80")


def folder() -> Path:
    """The cache's folder, made when it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "dconnect-bed"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, among processes and threads alike."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def entry(kind: str, made_from: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The cached file or folder for ``made_from``; ``make`` writes it to the path that it is given."""
    digest = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    path = folder() / f"{kind}-{digest}{suffix}"
    if path.exists():
        return path
    with lock(folder() / f"{kind}.lock"):
        if not path.exists():
            work = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=folder()))
            try:
                make(work / "made")
                (work / "made").rename(path)
            finally:
                shutil.rmtree(work)
    return path


def suite() -> str:
    """The code name of this machine's Debian release; empty on other systems."""
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""


def _run(command: list[str], deadline: float) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=deadline)
    check_output(command, result)


def debian_tar(kind: str, variant: str, packages: Sequence[str], hook: str) -> Path:
    """A root file system of this machine's Debian release, nothing from a registry.

    ``variant`` is mmdebstrap's, ``hook`` one of its options for hooks.
    """
    options = [
        "--quiet",
        "--mode=root",
        "--format=tar",
        f"--variant={variant}",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt=path-exclude={path}" for path in _UNUSED),
        hook,
    ]
    # The machine's own mirrors are known to answer from here; with none, mmdebstrap takes Debian's.
    sources = [str(path) for path in _SOURCES if path.exists() and path.stat().st_size]

    def make(path: Path) -> None:
        _run(["mmdebstrap", *options, suite(), str(path), *sources], 900)

    return entry(kind, f"{suite()} {platform.machine()} {options}", ".tar", make)


def base_tar() -> Path:
    """The root file system of the base image: Debian with Python and pip."""
    return debian_tar("base", "minbase", BASE_PACKAGES, f"--customize-hook={_CUSTOMIZE}")


def busybox_tar() -> Path:
    """A root file system of Debian's static busybox and its applets."""

    def make(path: Path) -> None:
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
        with tarfile.open(path, "w") as tar:
            for name in ("bin", "etc", "proc", "sys", "tmp", "www"):
                member = tarfile.TarInfo(name)
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            tar.add(BUSYBOX, "bin/busybox")
            for applet in applets:
                member = tarfile.TarInfo(f"bin/{applet}")
                member.type, member.linkname = tarfile.SYMTYPE, "busybox"
                if applet != "busybox":
                    tar.addfile(member)

    return entry("busybox", hashlib.sha256(BUSYBOX.read_bytes()).hexdigest(), ".tar", make)


def tar_of(*files: tuple[Path, str]) -> bytes:
    """A tar archive of files, each with the name that it gets there; links are followed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for path, name in files:
            tar.add(path, name)
    return buffer.getvalue()


def wheels() -> Path:
    """A folder with the project's dependencies as wheels for the base image's Python.

    Raises: BedError when pip cannot get them.
    """
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    version = _PYTHON_OF_SUITE.get(suite())
    if version is None:
        raise BedError(f"No Python version is known for Debian {suite()!r}; add it to tests/bed/cache.py.")
    tags = [f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in range(36, 16, -1)]
    wanted = [
        "--quiet",
        "--only-binary=:all:",
        f"--python-version={version}",
        "--implementation=cp",
        *tags,
        f"--platform=manylinux2014_{platform.machine()}",
        *sorted(project["dependencies"]),
    ]

    def make(path: Path) -> None:
        with _pip() as pip:
            _run([*pip, "download", f"--dest={path}", *wanted], 600)

    return entry("wheels", str(wanted), "", make)


@contextmanager
def _pip() -> Iterator[list[str]]:
    """A command that is pip: this interpreter's, or one in a virtual environment made for the purpose."""
    if importlib.util.find_spec("pip"):
        yield [sys.executable, "-m", "pip"]
        return
    with tempfile.TemporaryDirectory() as scratch:
        _run([sys.executable, "-m", "venv", scratch], 120)
        yield [f"{scratch}/bin/python", "-m", "pip"]
