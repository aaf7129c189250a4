"""The command line on a machine of its own: an empty home and an engine that is a few lines of Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.docker_engine import DockerEngine


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, and no word about Docker, proxies or terminals in the environment."""
    folder = tmp_path / "home"
    folder.mkdir()
    docker = ("HOST", "CONTEXT", "CONFIG", "TLS", "TLS_VERIFY", "CERT_PATH")
    xdg = ("RUNTIME_DIR", "CONFIG_HOME", "STATE_HOME")
    unwanted = [*(f"DOCKER_{name}" for name in docker), *(f"XDG_{name}" for name in xdg)]
    unwanted += ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "DCONNECT_DEBUG"]
    for name in unwanted:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    """The engine that DOCKER_HOST names."""
    with DockerEngine(home.parent) as made:
        monkeypatch.setenv("DOCKER_HOST", made.url)
        yield made
