"""Processes that load no OpenSSL; each in an interpreter of its own, since what was imported stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MAPPED = "print('libssl' in open('/proc/self/maps').read())"


def python(code: str, *path: Path) -> str:
    """What a program prints, with folders that come before all others."""
    program = f"import sys; sys.path[:0] = {[str(each) for each in path]}\n{code}"
    words = [sys.executable, "-P", "-c", program]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_the_event_loop_runs_without_openssl() -> None:
    use = "import asyncio, uvloop; asyncio.Runner(loop_factory=uvloop.new_event_loop).run(asyncio.sleep(0))"
    assert python(f"from dconnect.agent import no_tls; no_tls.pretend()\n{use}\n{MAPPED}") == "False"


def test_the_worker_itself_imports_nothing_that_needs_openssl() -> None:
    load = "import runpy; sys.argv[1:] = ['{}']\ntry: runpy.run_module('dconnect.agent.worker', run_name='__main__')"
    assert python(f"{load}\nexcept KeyError: {MAPPED}") == "False"


def test_a_loop_that_insists_gets_the_real_one(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("import asyncio, ssl\nVERSION = '%s' % ssl.OPENSSL_VERSION_INFO[0]\n")
    use = "import uvloop, asyncio, ssl; print(uvloop.VERSION.isdigit(), asyncio.sslproto.ssl is ssl)"
    assert python(f"from dconnect.agent import no_tls; no_tls.pretend()\n{use}", tmp_path) == "True True"
