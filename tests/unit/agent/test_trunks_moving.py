"""Streams leave the agent's trunks for connections of their own, as a host that speaks golden bytes sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dconnect.core.events import Session
from dconnect.core.limits import TRUNK_STREAM_BYTES
from kit.trunks import (
    ANSWER,
    DATA,
    END,
    KEY,
    LEAVE,
    OPEN,
    PEER,
    RESET,
    TO_WEB,
    AgentScene,
    Wire,
    run_agent,
    said,
    until,
)

FULL = b"\x05\x80" + b"\x05\x01\x00\x01" + bytes(6)
OTHER = bytes(range(12, 24))


async def moved_in_vain(scene: AgentScene) -> tuple[Wire, Wire]:
    """A stream that waits for a worker, none of which has room: its destination and its own connection."""
    scene.ways.takes_relays = False
    host = await scene.trunk()
    far = await scene.stream(host)
    own = scene.move()
    assert await host.frame() == (LEAVE, 1, b"")
    await host.say(said(LEAVE, 1))
    await until(lambda: bool(scene.trunks._leaving))
    return far, own


@pytest.mark.parametrize(("number", "key"), [(1, OTHER), (2, KEY), (3, KEY)])
def test_a_move_of_what_is_not_there_is_cut(number: int, key: bytes) -> None:
    """Of another trunk, of a stream that was never opened, of one that is not dialed yet."""

    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        scene.ways.gate.clear()
        await host.say(said(OPEN, 3, TO_WEB))
        await until(lambda: len(scene.ways.asked) == 2)
        own = scene.move(number, key)
        assert await own.end() == "rst"
        scene.ways.gate.set()
        assert await host.frame() == (ANSWER, 3, b"\x00")
        await far.say(b"on")
        assert await host.frame() == (DATA, 1, b"on")

    run_agent(scenario)


def test_a_stream_moves_once_and_nothing_of_it_is_lost() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        await far.say(b"before")
        assert await host.frame() == (DATA, 1, b"before")
        own = scene.move()
        assert await host.get(8) == bytes.fromhex("06 000000 00000001")
        assert await scene.move().end() == "rst"
        await far.say(b" and after")
        await host.say(said(DATA, 1, b"by the trunk, "))
        await host.say(said(LEAVE, 1))
        await own.say(b"by its own")
        await until(lambda: bool(scene.ways.relayed))
        ((client, upstream, session),) = scene.ways.relayed
        assert upstream.fileno() not in scene.poller._handlers, "what happens to it is the worker's to hear"
        assert session == replace(Session(PEER, "tunnel"), target="172.18.0.3:80", address="172.18.0.3",
            outcome="relaying", bytes_up=14, bytes_down=6, started=session.started)  # fmt: skip
        assert await Wire(client).get(10) == b"by its own"
        assert await Wire(upstream).get(10) == b" and after"
        assert await far.get(14) == b"by the trunk, "
        assert scene.sessions.counters.open == 0, "it is the worker's from now on"
        await scene.told(0)
        await host.say(said(RESET, 1))
        await scene.stream(host, 1)
        await Wire(upstream).say(b"!")
        assert await far.get(1) == b"!"

    run_agent(scenario)


def test_a_move_with_bytes_that_come_too_early_is_cut() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        assert await scene.move(early=b"x").end() == "rst"
        await far.say(b"on")
        assert await host.frame() == (DATA, 1, b"on")

    run_agent(scenario)


def test_ends_that_were_said_before_a_move_are_still_to_be_read_after_it() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        far.finish()
        assert await host.frame() == (END, 1, b"")
        scene.move()
        assert await host.frame() == (LEAVE, 1, b"")
        await host.say(said(LEAVE, 1))
        await until(lambda: bool(scene.ways.relayed))
        assert await Wire(scene.ways.relayed[0][1]).end() == "fin"

    run_agent(scenario)


def test_when_no_worker_takes_a_stream_both_its_connections_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.agent.trunks.HANDOVER_ATTEMPTS", 3)
    monkeypatch.setattr("dconnect.agent.trunks.HANDOVER_SECONDS", 0.01)

    async def scenario(scene: AgentScene) -> None:
        scene.ways.takes_relays = False
        host = await scene.trunk()
        far = await scene.stream(host)
        own = scene.move()
        assert await host.frame() == (LEAVE, 1, b"")
        await host.say(said(DATA, 1, b"abc") + said(LEAVE, 1))
        assert await own.end() == "rst"
        assert (await far.rest())[1] == "rst"
        (told,) = await scene.told(1)
        assert (told["outcome"], told["bytes_up"]) == ("not_ready", 3)
        assert scene.sessions.counters.open == 0

    run_agent(scenario)


def test_a_stream_that_leaves_for_nowhere_is_cut() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        await host.say(said(LEAVE, 1))
        assert await far.end() == "rst"
        assert await host.frame() == (LEAVE, 1, b"")
        (told,) = await scene.told(1)
        assert told["outcome"] == "not_ready"
        await scene.answers_next(host)

    run_agent(scenario)


def test_a_stream_that_ends_before_it_has_moved_takes_its_own_connection_along() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        own = scene.move()
        assert await host.frame() == (LEAVE, 1, b"")
        await host.say(said(RESET, 1))
        assert await own.end() == "rst"
        assert await far.end() == "rst"
        (told,) = await scene.told(1)
        assert told["outcome"] == "reset"

    run_agent(scenario)


def test_no_more_is_said_of_a_stream_than_it_may_carry_and_the_rest_moves() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        sent = bytes(range(256)) * (TRUNK_STREAM_BYTES // 256) + b"the rest"
        await far.say(sent)
        assert await host.data(1, TRUNK_STREAM_BYTES) == sent[:-8]
        await scene.answers_next(host)
        scene.move()
        assert await host.frame() == (LEAVE, 1, b"")
        await host.say(said(LEAVE, 1))
        await until(lambda: bool(scene.ways.relayed))
        assert await Wire(scene.ways.relayed[0][1]).get(8) == b"the rest"

    run_agent(scenario)


@pytest.mark.parametrize("closes", [False, True], ids=["and waits", "and the agent stops"])
def test_a_move_to_a_slow_destination_ends_well_though_the_host_ends_the_trunk_behind_it(closes: bool) -> None:
    async def scenario(scene: AgentScene) -> None:
        scene.ways.slow = True
        host = await scene.trunk()
        far = await scene.stream(host)
        sent = bytes(range(256)) * (TRUNK_STREAM_BYTES // 256)
        await host.say(said(DATA, 1, sent[:16384]) + said(DATA, 1, sent[16384:]))
        scene.move()
        assert await host.frame() == (LEAVE, 1, b"")
        await host.say(said(LEAVE, 1))
        host.finish()
        assert await host.end() == "fin"
        assert [session.front for session in scene.trunks.sessions()] == ["trunk", "tunnel"]
        if closes:
            scene.trunks.close()
            assert (await far.rest())[0] != sent
            assert not scene.ways.relayed
        else:
            assert await far.get(len(sent)) == sent
            await until(lambda: bool(scene.ways.relayed))
        assert scene.sessions.counters.open == 0
        assert not list(scene.trunks.sessions())
        await scene.told(1, "trunk")

    run_agent(scenario)


def test_while_no_worker_has_room_a_stream_waits_and_nothing_of_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.agent.trunks.HANDOVER_SECONDS", 0.01)

    async def scenario(scene: AgentScene) -> None:
        far, own = await moved_in_vain(scene)
        await own.say(b"by its own")
        scene.ways.takes_relays = True
        await until(lambda: bool(scene.ways.relayed))
        ((client, upstream, _),) = scene.ways.relayed
        assert await Wire(client).get(10) == b"by its own"
        await far.say(b"!")
        assert await Wire(upstream).get(1) == b"!"
        assert scene.sessions.counters.open == 0

    run_agent(scenario)


def test_what_waits_for_a_worker_is_cut_when_the_agent_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.agent.trunks.HANDOVER_SECONDS", 999.0)

    async def scenario(scene: AgentScene) -> None:
        far, own = await moved_in_vain(scene)
        scene.trunks.close()
        assert [await far.end(), await own.end()] == ["rst", "rst"]
        assert scene.sessions.counters.open == 0

    run_agent(scenario)


@pytest.mark.parametrize("how", ["the stream's reset", "the trunk's"])
def test_a_stream_that_was_half_said_is_cut_amid_its_move(how: str) -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        await host.say(said(END, 1))
        assert await far.end() == "fin"
        own = scene.move()
        assert await host.frame() == (LEAVE, 1, b"")
        if how == "the trunk's":
            host.reset()
        else:
            await host.say(said(RESET, 1))
        assert await own.end() == "rst"
        await until(lambda: scene.sessions.counters.open == 0)
        with pytest.raises(OSError):  # noqa: PT012, PT011 - which of the two, and when, is the kernel's to say
            while True:
                await far.say(b"x")

    run_agent(scenario)
