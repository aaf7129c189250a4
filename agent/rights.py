"""Linux's capabilities (capabilities(7)), which Python's standard library cannot give up."""

from __future__ import annotations

import ctypes
import os
from typing import ClassVar

_VERSION_3 = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two words of 32 capabilities each."""


class _Header(ctypes.Structure):
    _fields_: ClassVar = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Word(ctypes.Structure):
    _fields_: ClassVar = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def give_up() -> None:
    """Have no capability any more, in this thread and in whatever it starts where "no new privileges" is set.

    Raises: OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref((_Word * 2)())):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
