"""In a process of its own: what is given up does not come back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SHOW = "print(*[line.split()[1] for line in open('/proc/self/status') if line[:6] in ('CapInh', 'CapPrm', 'CapEff')])"
_GIVE_UP = "from dconnect.agent import rights; rights.give_up(); "


def _capabilities(program: str) -> list[int]:
    output = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    return [int(word, 16) for word in output.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_process_that_gives_its_rights_up_has_none() -> None:
    assert _capabilities(_GIVE_UP + _SHOW) == [0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root has something to give up")
def test_root_has_some_before() -> None:
    assert _capabilities(_SHOW)[1]
