"""When the process that carries rests; its clock is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from dconnect.proxy.relay import carrying
from kit.door import PATIENCE
from kit.pairs import give_carrier

FAST = 0.01
RECORD_BYTES, TOLD = 28, 5


@pytest.mark.parametrize(("relays", "rests"), [(1, False), (2, True)])
def test_it_rests_between_turns_while_several_relays_are_busy(
    monkeypatch: pytest.MonkeyPatch, relays: int, *, rests: bool
) -> None:
    rested: list[float] = []
    monkeypatch.setattr("dconnect.proxy.relay.carrying.time.sleep", rested.append)
    monkeypatch.setattr(carrying, "CARRIER_TELLS_SECONDS", FAST)

    async def carried() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as held:
            held.enter_context(ours)
            for each in (ours, theirs):
                each.setblocking(False)
            process = loop.create_task(carrying.Carrying(theirs).run())
            users = []
            for number in range(relays):
                pair = give_carrier(ours, number)
                for each in pair:
                    held.enter_context(each).setblocking(False)
                users.append(pair)
            moving = loop.create_task(move(users))
            told = 0
            while told < TOLD * relays:  # it has counted them all a few times, and they went on meanwhile
                told += len(await loop.sock_recv(ours, 65536)) // RECORD_BYTES
            moving.cancel()
            ours.close()
            await asyncio.wait_for(process, PATIENCE)
            theirs.close()

    asyncio.run(asyncio.wait_for(carried(), PATIENCE))
    assert set(rested) == ({carrying.REST_SECONDS} if rests else set())


async def move(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    """A byte through each relay, over and over."""
    loop = asyncio.get_running_loop()
    while True:
        for user, service in pairs:
            await loop.sock_sendall(user, b"x")
            await loop.sock_recv(service, 1)
