"""Images of other people's programs, as Debian packages them."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

from bed import cache

_VERSIONS = "./versions"


def peers_tar(kind: str, packages: Sequence[str], *others: str) -> Path:
    """A root file system with some packages and what they need; ``kind`` is its name in the bed's cache.

    Only unpacked: there are no users but two, and ``others`` are packages whose versions nobody asks for.
    """
    hook = (
        '--extract-hook=printf "root:x:0:0::/:/\\nnobody:x:65534:65534::/:/\\n" > "$1"/etc/passwd;'
        f' apt-cache --no-all-versions show {" ".join(packages)} | grep ^Version > "$1"/{_VERSIONS}'
    )
    return cache.debian_tar(kind, "extract", (*packages, *others), hook)


def versions_in(tar: Path, packages: Sequence[str]) -> dict[str, str]:
    """Package → version, of an image made with these."""
    with tarfile.open(tar) as archive:
        file = archive.extractfile(_VERSIONS)
        assert file is not None
        lines = file.read().decode().splitlines()
    return dict(zip(packages, (line.partition(": ")[2] for line in lines), strict=True))
