"""This machine's programs as files for a container of the same Debian release."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

_LIBC = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|nss_\w+))\.so\.\d+")
"""What must be of one make; the container has its own."""


def with_libraries(programs: Iterable[Path]) -> list[tuple[Path, str]]:
    """The programs and the libraries that they load, each with its path in a container's root."""
    files = {}
    for program in programs:
        files[program] = str(program.parent.resolve() / program.name)
        listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for found in re.findall(r"=> (/\S+)", listing):
            library = Path(found)
            if not _LIBC.fullmatch(library.name):
                files[library] = str(library.parent.resolve() / library.name)
    return [(path, name.lstrip("/")) for path, name in files.items()]
