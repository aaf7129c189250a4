"""The agent's end of the trunks, as a host that speaks golden bytes sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dconnect.core.failure import Failure
from kit.trunks import (
    ANSWER,
    DATA,
    END,
    LEAVE,
    OPEN,
    PEER,
    RESET,
    TO_WEB,
    WEB6,
    AgentScene,
    Wire,
    run_agent,
    said,
    until,
)

FULL = b"\x05\x80" + b"\x05\x01\x00\x01" + bytes(6)
OTHER = bytes(range(12, 24))


def test_a_trunk_is_granted_as_a_socks_server_grants_and_nothing_more_is_said() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = scene.knock()
        assert await host.get(12) == bytes.fromhex("0580 05000001 00000000 0000")
        await scene.answers_next(host)

    run_agent(scenario)


@pytest.mark.parametrize(
    ("opens", "asked"),
    [
        ("01 000006 00000001 0050 ac120003", ("172.18.0.3", 80)),
        ("01 000012 00000001 1f90 fd0000dc000000000000000000000003", ("fd00:dc::3", 8080)),
    ],
)
def test_what_is_opened_is_dialed_and_bytes_go_both_ways(opens: str, asked: tuple[str, int]) -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        await host.say(bytes.fromhex(opens))
        assert await host.get(9) == bytes.fromhex("02 000001 00000001 00")
        assert scene.ways.asked == [asked]
        far = Wire(scene.ways.far[0])
        await host.say(bytes.fromhex("03 000005 00000001") + b"hello")
        assert await far.get(5) == b"hello"
        await far.say(b"welcome")
        assert await host.get(15) == bytes.fromhex("03 000007 00000001") + b"welcome"

    run_agent(scenario)


def test_what_came_right_behind_the_request_is_heard() -> None:
    async def scenario(scene: AgentScene) -> None:
        opens = said(OPEN, 7, TO_WEB)
        host = await scene.trunk(early=opens[:5])
        await host.say(opens[5:])
        assert await host.frame() == (ANSWER, 7, b"\x00")
        other = await scene.trunk(OTHER, opens + opens[:5])
        assert await other.frame() == (ANSWER, 7, b"\x00")

    run_agent(scenario)


@pytest.mark.parametrize("failure", list(Failure))
def test_a_refusal_is_told_as_socks_tells_it_and_its_number_is_free_again(failure: Failure) -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        scene.ways.refusals[81] = failure
        await host.say(said(OPEN, 1, b"\x00\x51" + TO_WEB[2:]))
        assert await host.frame() == (ANSWER, 1, bytes((failure.value.socks5_rep,)))
        (told,) = await scene.told(1)
        assert (told["target"], told["outcome"]) == ("172.18.0.3:81", failure.name.lower())
        assert scene.sessions.counters.open == 0
        await scene.stream(host, 1)

    run_agent(scenario)


def test_a_stream_that_both_sides_end_is_logged_once_and_counted() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        assert (scene.sessions.counters.open, scene.sessions.counters.accepted) == (1, 0), "the trunk was accepted"
        await host.say(said(DATA, 1, b"question") + said(END, 1))
        assert await far.rest() == (b"question", "fin")
        await far.say(b"the answer")
        far.finish()
        assert await host.frame() == (DATA, 1, b"the answer")
        assert await host.frame() == (END, 1, b"")
        (told,) = await scene.told(1)
        known = {"peer": PEER, "front": "tunnel", "target": "172.18.0.3:80", "address": "172.18.0.3", "outcome": "ok"}
        assert told.items() >= {**known, "bytes_up": 8, "bytes_down": 10, "level": "info"}.items()
        assert scene.sessions.counters.open == 0
        assert scene.sessions.counters.sessions == {"tunnel": {"ok": 1}}
        assert (scene.sessions.counters.bytes_up, scene.sessions.counters.bytes_down) == (8, 10)

    run_agent(scenario)


def test_an_end_by_the_destination_leaves_the_other_way_open() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        far.finish()
        assert await host.frame() == (END, 1, b"")
        await host.say(said(DATA, 1, b"still"))
        assert await far.get(5) == b"still"
        await host.say(said(END, 1))
        assert await far.end() == "fin"
        (told,) = await scene.told(1)
        assert told["outcome"] == "ok"

    run_agent(scenario)


def test_a_host_that_gives_up_its_dial_hears_no_more_of_it() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        scene.ways.gate.clear()
        await host.say(said(OPEN, 1, TO_WEB) + said(OPEN, 2, TO_WEB))
        await until(lambda: len(scene.ways.asked) == 2)
        await host.say(said(RESET, 1))
        await until(lambda: len(list(scene.trunks.sessions())) == 2)
        scene.ways.gate.set()
        assert await host.frame() == (ANSWER, 2, b"\x00")
        (told,) = await scene.told(1)
        assert told["outcome"] == "gone"
        assert await Wire(scene.ways.far[0]).end() == "rst"
        assert scene.sessions.counters.open == 1
        await scene.answers_next(host)

    run_agent(scenario)


def test_the_number_of_a_dial_that_was_given_up_may_be_used_while_it_goes_on() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        scene.ways.gate.clear()
        scene.ways.refusals[81] = Failure.REFUSED
        await host.say(said(OPEN, 1, b"\x00\x51" + TO_WEB[2:]) + said(RESET, 1) + said(OPEN, 1, TO_WEB))
        await until(lambda: len(scene.ways.asked) == 2)
        scene.ways.gate.set()
        assert await host.frame() == (ANSWER, 1, b"\x00")
        await host.say(said(DATA, 1, b"x"))
        assert await Wire(scene.ways.far[0]).get(1) == b"x"

    run_agent(scenario)


def test_a_reset_by_the_host_is_one_for_the_destination() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        await host.say(said(DATA, 1, b"abc"))
        assert await far.get(3) == b"abc"
        await host.say(said(RESET, 1))
        assert await far.end() == "rst"
        (told,) = await scene.told(1)
        assert (told["outcome"], told["bytes_up"]) == ("reset", 3)
        assert scene.sessions.counters.open == 0
        await scene.answers_next(host)

    run_agent(scenario)


def test_a_reset_by_the_destination_is_one_for_the_host() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        far.reset()
        assert await host.frame() == (RESET, 1, b"")
        (told,) = await scene.told(1)
        assert told["outcome"] == "reset"
        await host.say(said(DATA, 1, b"late") + said(END, 1) + said(LEAVE, 1))  # which the host may not know yet
        await scene.stream(host, 2)

    run_agent(scenario)


@pytest.mark.parametrize(("end", "outcome"), [(Wire.finish, "ok"), (Wire.reset, "reset")])
def test_the_trunks_end_cuts_its_streams_and_dials(end: Callable[[Wire], None], outcome: str) -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = [await scene.stream(host, number) for number in (1, 2)]
        scene.ways.gate.clear()
        await host.say(said(OPEN, 3, TO_WEB))
        await until(lambda: len(scene.ways.asked) == 3)
        end(host)
        assert [await each.end() for each in far] == ["rst", "rst"]
        scene.ways.gate.set()
        told = await scene.told(3)
        assert [each["outcome"] for each in told] == ["reset", "reset", "gone"]
        (trunk,) = await scene.told(1, "trunk")
        assert (trunk["peer"], trunk["outcome"]) == (PEER, outcome)
        assert scene.sessions.counters.open == 0
        assert not list(scene.trunks.sessions())

    run_agent(scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        said(9, 2),
        said(OPEN, 2, b"\x00\x50abc"),
        said(OPEN, 2, bytes(10)),
        said(OPEN, 1, TO_WEB),
        said(ANSWER, 1, b"\x00"),
        said(DATA, 1),
        said(DATA, 1, bytes(16_385)),
        said(END, 1, b"x"),
        said(DATA, 1, bytes(16_384)) * 2 + said(DATA, 1, b"x"),
    ],
)
def test_what_cannot_be_ends_the_trunk(wrong: bytes) -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        await host.say(wrong)
        assert (await far.rest())[1] == "rst"
        assert (await host.rest())[0] == b""
        assert not list(scene.trunks.sessions())
        (trunk,) = await scene.told(1, "trunk")
        assert trunk["outcome"] == "malformed"
        await scene.stream(await scene.trunk())

    run_agent(scenario)


def test_bytes_behind_their_end_end_the_trunk() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        await host.say(said(END, 1) + said(DATA, 1, b"x"))
        assert (await far.rest())[0] == b""
        assert (await host.rest())[0] == b""
        assert not list(scene.trunks.sessions())
        (told,) = await scene.told(1)
        assert told["outcome"] != "ok"

    run_agent(scenario)


def test_too_many_dials_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.agent.trunks.TUNNEL_DIALS", 1)

    async def scenario(scene: AgentScene) -> None:
        host, other = await scene.trunk(), await scene.trunk(OTHER)
        scene.ways.gate.clear()
        await host.say(said(OPEN, 1, TO_WEB))
        await until(lambda: len(scene.ways.asked) == 1)
        await other.say(said(OPEN, 1, TO_WEB))
        assert await other.frame() == (ANSWER, 1, b"\x01")
        scene.ways.gate.set()
        assert await host.frame() == (ANSWER, 1, b"\x00")
        await scene.stream(other, 1)

    run_agent(scenario)


def test_too_many_streams_are_told_to_come_again() -> None:
    async def scenario(scene: AgentScene) -> None:
        scene.trunks._most = 1
        host, other = await scene.trunk(), await scene.trunk(OTHER)
        await scene.stream(host, 1)
        for trunk in (host, other):
            await trunk.say(said(OPEN, 2, TO_WEB))
            assert await trunk.frame() == (ANSWER, 2, b"\x01")
        await host.say(said(RESET, 1))
        await scene.stream(host, 2)
        assert len(scene.ways.asked) == 2

    run_agent(scenario)


def test_a_trunk_too_many_and_a_key_that_is_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.agent.trunks.TRUNKS", 2)

    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        again = scene.knock()
        assert await again.rest() == (FULL, "fin")
        await scene.trunk(OTHER)
        third = scene.knock(bytes(12))
        assert await third.rest() == (FULL, "fin")
        assert [each["outcome"] for each in await scene.told(2, "trunk")] == ["not_ready", "not_ready"]
        await scene.stream(host)
        host.finish()
        await scene.told(3, "trunk")
        await scene.trunk()

    run_agent(scenario)


def test_trunks_and_streams_are_listed_with_what_they_have_carried() -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        far = await scene.stream(host)
        await host.say(said(OPEN, 2, b"\x01\xbb" + WEB6.packed))
        assert await host.frame() == (ANSWER, 2, b"\x00")
        await host.say(said(DATA, 1, b"abc"))
        assert await far.get(3) == b"abc"
        await far.say(b"de")
        assert await host.frame() == (DATA, 1, b"de")
        listed = [(each.front, each.target, each.bytes_up, each.bytes_down) for each in scene.trunks.sessions()]
        assert listed == [("trunk", "", 0, 0), ("tunnel", "172.18.0.3:80", 3, 2), ("tunnel", "[fd00:dc::3]:443", 0, 0)]

    run_agent(scenario)


def test_closing_cuts_everything() -> None:
    async def scenario(scene: AgentScene) -> None:
        hosts = [await scene.trunk(), await scene.trunk(OTHER)]
        far = [await scene.stream(host) for host in hosts]
        own = scene.move()
        assert await hosts[0].frame() == (LEAVE, 1, b"")
        scene.trunks.close()
        assert [await each.end() for each in (*far, own)] == ["rst", "rst", "rst"]
        for host in hosts:
            await host.rest()
        assert [each["outcome"] for each in await scene.told(2)] == ["shutdown", "shutdown"]
        assert len(await scene.told(2, "trunk")) == 2
        assert not list(scene.trunks.sessions())
        await scene.trunk()

    run_agent(scenario)


@pytest.mark.parametrize("late", [False, True])
def test_what_waits_for_a_slow_destination_arrives_though_the_host_has_ended_the_trunk_behind_it(late: bool) -> None:
    """As a host does that has no stream on it any more: to it this one is over."""

    async def scenario(scene: AgentScene) -> None:
        scene.ways.slow = True
        host = await scene.trunk()
        far = await scene.stream(host)
        far.finish()
        assert await host.frame() == (END, 1, b"")
        await host.say(said(DATA, 1, bytes(16_384)) * 2 + said(END, 1))
        await until(lambda: sum(session.bytes_up for session in scene.trunks.sessions()) == 32_768)
        if late:
            host.finish()
            await host.rest()  # the agent may close it now, or when all is said
        assert await far.rest() == (bytes(32_768), "fin")
        (told,) = await scene.told(1)
        assert told["outcome"] == "ok"

    run_agent(scenario)


@pytest.mark.parametrize("early", [said(DATA, 1, b"x"), said(END, 1), said(LEAVE, 1)])
def test_a_stream_that_is_used_before_it_is_there_ends_its_trunk_and_leaves_nothing(early: bytes) -> None:
    async def scenario(scene: AgentScene) -> None:
        host = await scene.trunk()
        scene.ways.gate.clear()
        scene.ways.refusals[80] = Failure.REFUSED
        await host.say(said(OPEN, 1, TO_WEB) + early)
        assert (await host.rest())[0] == b""
        scene.ways.gate.set()
        (told,) = await scene.told(1)
        assert told["outcome"] == "refused"
        assert not list(scene.trunks.sessions())
        (trunk,) = await scene.told(1, "trunk")
        assert trunk["outcome"] == "malformed"

    run_agent(scenario)
