"""What becomes of a host's trunk when the agent's door is told anew; an agent that speaks golden bytes sees it."""

from __future__ import annotations

import pytest

from dconnect.core.limits import TRUNK_BULK_BYTES
from kit.trunks import (
    ANSWER,
    DATA,
    END,
    GRANTED,
    LEAVE,
    OPEN,
    RESET,
    TO_WEB,
    HostScene,
    Wire,
    number_of,
    run_host,
    said,
    until,
    why,
)

BULK = bytes(range(256)) * (TRUNK_BULK_BYTES // 256)


async def moving(scene: HostScene, up: bytes = BULK) -> tuple[Wire, Wire, Wire]:
    """A stream whose own connection is there: its trunk, its program and that connection."""
    _, wire, program, key = await scene.stream()
    await program.say(up)
    assert await wire.data(1, len(up)) == up
    return wire, program, await scene.own(key)


def test_after_the_door_is_told_anew_the_former_trunk_lives_until_its_last_stream_ends() -> None:
    async def scenario(scene: HostScene) -> None:
        _, former, program, key = await scene.stream()
        scene.trunks.lead_to(scene.door)
        _, other, _, other_key = await scene.stream()
        assert other_key != key
        await program.say(b"up")
        assert await former.frame() == (DATA, 1, b"up")
        await former.say(said(DATA, 1, b"down") + said(END, 1))
        assert await program.rest() == (b"down", "fin")
        assert len(scene.trunks) == 2
        await former.say(said(RESET, 1))
        assert await former.end() == "fin"
        await scene.stream(other)

    run_host(scenario)


@pytest.mark.parametrize("door", [True, False])
def test_a_trunk_without_streams_is_closed_when_the_door_is_told_anew(door: bool) -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        await wire.say(said(ANSWER, await number_of(wire), b"\x05"))
        await why(task)
        scene.trunks.lead_to(scene.door if door else None)
        assert await wire.end() == "fin"

    run_host(scenario)


def test_a_door_that_is_told_while_a_trunk_is_opened_is_for_the_next() -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        former, _ = await scene.knocked()
        scene.trunks.lead_to(scene.door)
        await former.say(GRANTED)
        number = await number_of(former)
        await scene.stream()
        await former.say(said(ANSWER, number, b"\x00"))
        program = scene.carry(await task)
        await former.say(said(DATA, number, b"x"))
        assert await program.get(1) == b"x"

    run_host(scenario)


def test_the_last_stream_of_a_former_trunk_says_that_it_leaves() -> None:
    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moving(scene)
        scene.trunks.lead_to(scene.door)
        await wire.say(said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        assert await wire.end() == "fin"
        await own.say(b"x")
        assert await program.get(1) == b"x"

    run_host(scenario)


def test_the_last_bytes_of_a_former_trunk_are_said() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        scene.trunks.lead_to(scene.door)
        await wire.say(said(END, 1))
        assert await program.end() == "fin"
        await program.say(b"the last")
        program.finish()
        assert await wire.rest() == (said(DATA, 1, b"the last") + said(END, 1), "fin")

    run_host(scenario)


def test_a_former_trunk_whose_last_stream_is_refused_is_closed() -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        assert await wire.frame() == (OPEN, 1, TO_WEB)
        scene.trunks.lead_to(scene.door)
        await wire.say(said(ANSWER, 1, b"\x05"))
        await until(task.done)
        assert task.exception() is not None
        assert await wire.end() == "fin"

    run_host(scenario)


def test_a_former_trunk_that_nobody_waits_for_any_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.cli.transparent.trunks.LINK_CONNECT_SECONDS", 0.3)

    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.knocked()
        task.cancel()
        await until(task.done)
        scene.trunks.lead_to(None)
        await wire.say(b"\x05\x80" + b"\x05\x00\x00\x01" + bytes(6))
        assert await wire.end() == "fin"

    run_host(scenario)


def test_a_former_trunk_is_closed_by_the_agent_first_and_so_loses_nothing_that_it_said() -> None:
    """A socket that is closed with something unread says RST, and what the agent has not read yet is gone."""

    async def scenario(scene: HostScene) -> None:
        stream, wire, program, _ = await scene.stream()
        scene.trunks.lead_to(scene.door)
        await wire.say(said(END, 1))
        assert await program.end() == "fin"
        program.finish()
        assert await wire.rest() == (said(END, 1), "fin")
        assert not stream.trunk.closed
        wire.finish()
        await until(lambda: stream.trunk.closed)

    run_host(scenario)
