"""Who goes first, where the host's TCP ends."""

from __future__ import annotations

import asyncio
import socket

import pytest

from dconnect.cli.transparent.terminal import Courteous


def test_what_others_do_while_they_go_first_is_found_in_the_same_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    (near, far), (other_near, other_far) = socket.socketpair(), socket.socketpair()
    found: list[str] = []
    yielded: list[None] = []

    def let_them() -> None:
        yielded.append(None)
        other_far.send(b"x")

    monkeypatch.setattr("dconnect.cli.transparent.terminal.os.sched_yield", let_them)

    async def turn() -> None:
        poller = Courteous()
        both = asyncio.Event()

        def second(_: int) -> None:
            found.append("second")
            both.set()

        poller.add(near.fileno(), lambda _: found.append("first"))
        poller.add(other_near.fileno(), second)
        far.send(b"x")
        async with asyncio.timeout(10):
            await both.wait()
        poller.close()

    with near, far, other_near, other_far:
        asyncio.run(turn())
    assert found == ["first", "second"]
    assert len(yielded) == 1
