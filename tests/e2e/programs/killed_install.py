"""Install as ``dconnect dns install`` does, and be killed by SIGKILL before a given one of the host's changes.

killed_install.py MANAGER SUFFIX HOST PORT CHANGE
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dconnect.cli.host.detect import Manager
from dconnect.cli.host.environment import RealEnvironment
from dconnect.cli.host.journal import Journal
from dconnect.cli.host.plans import Wish
from dconnect.core.address import Target

_CHANGES = ("run", "write", "remove", "make_folder", "hold")


class _Deadly(RealEnvironment):
    def __init__(self, change: int) -> None:
        self._left = change

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._counted(found) if name in _CHANGES else found

    def _counted(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments)

        return counted


if __name__ == "__main__":
    manager, suffix, host, port, change = sys.argv[1:]
    wish = Wish(Manager(manager), (suffix,), Target(host, int(port)))
    Journal(_Deadly(int(change))).set(wish, print)
