"""Where links are opened, and how often the engine is asked about it."""

from __future__ import annotations

import socket

import pytest

from dconnect.cli.transparent.pumping import Finder
from dconnect.core.errors import NotRunning
from dconnect.core.limits import LINK_FIND_SECONDS
from dconnect.tunnel.dial import Connection, Door

OLD, NEW = Door("127.0.0.1", 1080, "t"), Door("127.0.0.1", 1081, "t")


class Scene:
    """An engine that names a door, and doors that are open or not."""

    def __init__(self) -> None:
        self.named = OLD
        self.open = {OLD}
        self.asked = 0
        self.now = 100.0
        self.finder = Finder(self._find, self._connect, lambda: self.now)
        self.sockets: list[socket.socket] = []

    def _find(self) -> Door:
        self.asked += 1
        return self.named

    def _connect(self, door: Door) -> Connection:
        if door not in self.open:
            raise NotRunning("Nothing listens.")
        self.sockets.append(socket.socket())
        return Connection(self.sockets[-1], b"", door)

    def door(self) -> Door | None:
        """Where a link was opened; None where it failed."""
        try:
            return self.finder().door
        except NotRunning:
            return None
        finally:
            for each in self.sockets:
                each.close()


def test_a_door_that_serves_is_not_asked_for_again() -> None:
    scene = Scene()
    assert [scene.door() for _ in range(3)] == [OLD, OLD, OLD]
    assert scene.asked == 1


def test_an_agent_that_comes_back_where_it_was_is_found_without_the_engine() -> None:
    scene = Scene()
    scene.door()
    scene.open.clear()
    assert scene.door() is None
    scene.open.add(OLD)
    assert scene.door() == OLD
    assert scene.asked == 1


def test_an_agent_that_moved_is_found_after_a_while() -> None:
    scene = Scene()
    scene.door()
    scene.named, scene.open = NEW, {NEW}
    assert scene.door() is None
    scene.now += LINK_FIND_SECONDS
    assert scene.door() == NEW


def test_while_nothing_is_there_the_engine_is_left_in_peace() -> None:
    scene = Scene()
    scene.door()
    scene.open.clear()
    for _ in range(100):
        scene.now += LINK_FIND_SECONDS / 10
        assert scene.door() is None
    assert scene.asked <= 11


def test_the_first_failure_is_told() -> None:
    scene = Scene()
    scene.open.clear()
    with pytest.raises(NotRunning):
        scene.finder()
