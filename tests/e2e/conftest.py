"""The real engine for the tests in this folder, or the sentence that says why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bed.client import Client
from bed.dconnect import PROXY_PORT, Dconnect
from bed.scene import Scene, set_scene
from bed.session import Bed, why_not

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := why_not():
        for item in items:
            if _HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """One engine for all tests of a session; a test that stops or breaks it makes its own."""
    with Bed.start() as made:
        yield made


@pytest.fixture(scope="session")
def scene(bed: Bed) -> Scene:
    """The standard networks and containers."""
    return set_scene(bed)


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, bed: Bed, scene: Scene) -> Iterator[Dconnect]:
    """The agent, up with the module's ``UP`` options before its tests and down after them."""
    dconnect = Dconnect(bed)
    dconnect.up(*getattr(request.module, "UP", ()))
    try:
        yield dconnect
    finally:
        dconnect.down()


@pytest.fixture(scope="module")
def client(bed: Bed, agent: Dconnect) -> Client:
    """A client on the host that cannot route, at the agent's front door."""
    return Client(bed.host, bed.address, PROXY_PORT)
