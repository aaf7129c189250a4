"""An empty ``ssl`` for processes that speak no TLS.

asyncio and uvloop load OpenSSL as they are imported, used or not: 4.5 MiB of memory in each process. So does hashlib,
which has all that we need by itself.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


class _Empty(types.ModuleType):
    """Whatever is looked up at import time is there, and of no use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.startswith("SSL_ERROR_") else type(name, (Exception,), {})


def pretend() -> None:
    """Keep OpenSSL out of this process, if uvloop can be loaded so; call it before asyncio is imported."""
    sys.modules["ssl"] = _Empty("ssl")
    sys.modules["_hashlib"] = None  # type: ignore[assignment]  # "not there"
    try:
        importlib.import_module("uvloop")
    except Exception:  # noqa: BLE001 - another release that wants more of it: begin again, with the real one
        before = {"ssl", "_hashlib", *(name for name in sys.modules if name.partition(".")[0] in ("asyncio", "uvloop"))}
        for name in before:
            sys.modules.pop(name, None)
