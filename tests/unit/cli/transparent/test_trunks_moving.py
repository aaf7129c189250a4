"""A host's stream that turns out large goes on by its own connection; an agent that speaks golden bytes sees it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import pytest

from dconnect.cli.transparent.trunks import HostStream
from dconnect.core.limits import TRUNK_BULK_BYTES, TRUNK_DATA_BYTES, TRUNK_STREAM_BYTES
from kit.trunks import DATA, END, LEAVE, RESET, HostScene, Wire, run_host, said, until

BULK = bytes(range(256)) * (TRUNK_BULK_BYTES // 256)


class Bell:
    """Rung by the poller, after all deadlines before its own."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    def expire(self) -> None:
        self.rung.set()


async def moving(scene: HostScene, up: bytes = BULK) -> tuple[Wire, Wire, Wire]:
    """A stream whose own connection is there: its trunk, its program and that connection."""
    _, wire, program, key = await scene.stream()
    await program.say(up)
    assert await wire.data(1, len(up)) == up
    return wire, program, await scene.own(key)


async def moved(scene: HostScene) -> tuple[Wire, Wire, Wire]:
    wire, program, own = await moving(scene)
    await wire.say(said(LEAVE, 1))
    assert await wire.frame() == (LEAVE, 1, b"")
    return wire, program, own


async def moved_and_held(scene: HostScene) -> tuple[HostStream, Wire, Wire]:
    """A stream that has left, but for what waits for its program; its trunk and its own connection."""
    stream, wire, key = await scene.answered()
    await wire.say(said(DATA, 1, BULK))
    own = await scene.own(key)
    await wire.say(said(LEAVE, 1))
    assert await wire.frame() == (LEAVE, 1, b"")
    return stream, wire, own


def test_what_sends_much_asks_for_a_connection_of_its_own_once() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, key = await scene.stream()
        await program.say(BULK[:-1])
        assert await wire.data(1, len(BULK) - 1) == BULK[:-1]
        await program.say(BULK[-1:])
        assert await wire.data(1, 1) == BULK[-1:]
        await scene.own(key)
        for _ in range(3):
            await program.say(b"more")
            assert await wire.data(1, 4) == b"more"
        await wire.say(said(DATA, 1, BULK) * 2)
        assert await program.get(2 * len(BULK)) == BULK * 2
        scene.trunks.lead_to(scene.door)
        _ = scene.connect()
        _, request = await scene.knocked()  # and not another move
        assert request[1] == 0x80

    run_host(scenario)


def test_what_receives_much_asks_for_a_connection_of_its_own_once() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, key = await scene.stream()
        await wire.say(said(DATA, 1, BULK[:-1]))
        assert await program.get(len(BULK) - 1) == BULK[:-1]
        await wire.say(said(DATA, 1, BULK[-1:]))
        assert await program.get(1) == BULK[-1:]
        await scene.own(key)
        await wire.say(said(DATA, 1, b"more"))
        assert await program.get(4) == b"more"
        scene.trunks.lead_to(scene.door)
        _ = scene.connect()
        _, request = await scene.knocked()
        assert request[1] == 0x80

    run_host(scenario)


def test_small_ones_stay() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        await program.say(BULK[:-1])
        assert await wire.data(1, len(BULK) - 1) == BULK[:-1]
        await wire.say(said(DATA, 1, BULK[:-1]) + said(END, 1))
        assert await program.rest() == (BULK[:-1], "fin")
        program.finish()
        assert await wire.frame() == (END, 1, b"")
        scene.trunks.lead_to(scene.door)
        _ = scene.connect()
        _, request = await scene.knocked()
        assert request[1] == 0x80

    run_host(scenario)


def test_each_stream_names_itself() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, _, key = await scene.stream()
        _, _, second, _ = await scene.stream(wire)
        await second.say(BULK)
        assert await wire.data(2, len(BULK)) == BULK
        await scene.own(key, 2)

    run_host(scenario)


def test_bytes_and_ends_go_on_by_the_own_connection() -> None:
    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moving(scene)
        await program.say(b"by the trunk")
        assert await wire.data(1, 12) == b"by the trunk"
        await wire.say(said(DATA, 1, b"first, ") + said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        await own.say(b"second")
        assert await program.get(13) == b"first, second"
        await program.say(b"by its own")
        assert await own.get(10) == b"by its own"
        own.finish()
        assert await program.end() == "fin"
        await program.say(b" still")
        assert await own.get(6) == b" still"
        program.finish()
        assert await own.end() == "fin"
        await until(lambda: len(scene.trunks) == 0)
        assert scene.trunks.bytes_moved == (len(BULK) + 12 + 16, 13)
        await scene.stream(wire)  # of which nothing more was said there

    run_host(scenario)


def test_it_is_counted_once_at_each_moment() -> None:
    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moving(scene)
        assert (len(scene.trunks), scene.trunks.bytes_moved) == (1, (len(BULK), 0))
        await wire.say(said(DATA, 1, b"abc") + said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        assert (len(scene.trunks), scene.trunks.bytes_moved) == (1, (len(BULK), 3))
        await own.say(b"defg")
        assert await program.get(7) == b"abcdefg"
        await program.say(b"!")
        assert await own.get(1) == b"!"
        assert (len(scene.trunks), scene.trunks.bytes_moved) == (1, (len(BULK) + 1, 7))
        own.reset()
        assert await program.end() == "rst"
        assert (len(scene.trunks), scene.trunks.bytes_moved) == (0, (len(BULK) + 1, 7))

    run_host(scenario)


def test_an_end_that_was_said_on_the_trunk_is_said_again() -> None:
    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moving(scene)
        program.finish()
        assert await wire.frame() == (END, 1, b"")
        await wire.say(said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        assert await own.end() == "fin"
        await own.say(b"the answer")
        own.finish()
        assert await program.rest() == (b"the answer", "fin")
        await until(lambda: len(scene.trunks) == 0)

    run_host(scenario)


def test_an_end_that_was_heard_on_the_trunk_leaves_the_other_way_open() -> None:
    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moving(scene)
        await wire.say(said(END, 1) + said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        own.finish()
        assert await program.end() == "fin"
        await program.say(b"more")
        program.finish()
        assert await own.rest() == (b"more", "fin")
        await until(lambda: len(scene.trunks) == 0)

    run_host(scenario)


def test_urgent_bytes_go_with_the_others_before_and_after_the_move() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, key = await scene.stream()
        await program.say(b"abc")
        assert await wire.data(1, 3) == b"abc"
        program.sock.send(b"!", socket.MSG_OOB)
        await program.say(BULK)
        assert await wire.data(1, 1 + len(BULK)) == b"!" + BULK
        own = await scene.own(key)
        await wire.say(said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        await program.say(b"def")
        assert await own.get(3) == b"def"
        program.sock.send(b"?", socket.MSG_OOB)
        await program.say(b"ghi")
        assert await own.get(4) == b"?ghi"

    run_host(scenario)


def test_no_more_is_said_on_the_trunk_than_a_stream_may_carry_and_the_rest_moves() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, key = await scene.stream()
        sent = os.urandom(TRUNK_STREAM_BYTES + 100_000)
        await program.say(sent)
        program.finish()
        assert await wire.data(1, TRUNK_STREAM_BYTES) == sent[:TRUNK_STREAM_BYTES]
        own = await scene.own(key)
        await wire.say(said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        assert await own.rest() == (sent[TRUNK_STREAM_BYTES:], "fin")

    run_host(scenario)


def test_an_agent_that_says_more_than_a_stream_may_carry_loses_the_trunk() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        await wire.say(said(DATA, 1, bytes(TRUNK_DATA_BYTES)) * 2 + said(DATA, 1, b"x"))
        assert (await program.rest())[1] == "rst"
        await wire.rest()

    run_host(scenario)


@pytest.mark.parametrize("frame", [said(DATA, 1, b"x"), said(END, 1), said(LEAVE, 1)])
def test_what_comes_of_a_stream_that_has_left_ends_nothing(frame: bytes) -> None:
    """The number is free at once, and the agent's frames of it are over."""

    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moved(scene)
        await wire.say(frame)
        await own.say(b"y")
        assert await program.get(1) == b"y"
        await scene.stream(wire)

    run_host(scenario)


@pytest.mark.parametrize("end", [Wire.finish, Wire.reset])
def test_an_own_connection_that_cannot_be_had_now_is_asked_for_again(
    end: Callable[[Wire], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dconnect.cli.transparent.trunks.TRUNK_AGAIN_SECONDS", 0.01)

    async def scenario(scene: HostScene) -> None:
        _, wire, program, key = await scene.stream()
        await program.say(BULK)
        assert await wire.data(1, len(BULK)) == BULK
        for _ in range(3):
            end(await scene.own(key))
        own = await scene.own(key)
        await wire.say(said(DATA, 1, b"still") + said(LEAVE, 1))
        assert await wire.frame() == (LEAVE, 1, b"")
        await own.say(b" there")
        assert await program.get(11) == b"still there"
        await program.say(b"indeed")
        assert await own.get(6) == b"indeed"

    run_host(scenario)


def test_an_own_connection_that_is_refused_for_long_cuts_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.cli.transparent.trunks.TRUNK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("dconnect.cli.transparent.trunks.TUNNEL_DIAL_SECONDS", 0.3)

    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        scene.listener.close()
        await program.say(BULK)
        assert await program.end() == "rst"
        assert await wire.data(1, len(BULK)) == BULK
        assert await wire.frame() == (RESET, 1, b"")
        assert len(scene.trunks) == 0

    run_host(scenario)


def test_a_stream_that_is_cut_before_it_goes_on_is_cut_at_its_own_connection_too() -> None:
    async def scenario(scene: HostScene) -> None:
        stream, wire, own = await moved_and_held(scene)
        stream.cut(ConnectionAbortedError())
        assert await own.end() == "rst"
        assert await wire.frame() == (RESET, 1, b"")

    run_host(scenario)


def test_an_agent_that_never_leaves_the_trunk_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.cli.transparent.trunks.TUNNEL_DIAL_SECONDS", 0.3)

    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moving(scene)
        assert await program.end() == "rst"
        assert await wire.frame() == (RESET, 1, b"")
        assert (await own.rest())[0] == b""

    run_host(scenario)


def test_a_stream_that_the_agent_leaves_unasked_is_cut() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        await wire.say(said(LEAVE, 1))
        assert await program.end() == "rst"
        assert await wire.frame() == (LEAVE, 1, b"")
        assert len(scene.trunks) == 0
        await scene.stream(wire)

    run_host(scenario)


def test_a_stream_that_is_over_asks_for_no_connection_of_its_own() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        await wire.say(said(DATA, 1, BULK) + said(RESET, 1))
        assert (await program.rest())[1] == "rst"
        assert len(scene.trunks) == 0
        scene.trunks.lead_to(scene.door)
        _ = scene.connect()
        _, request = await scene.knocked()
        assert request[1] == 0x80

    run_host(scenario)


def test_a_stream_that_ends_while_it_moves_closes_its_own_connection() -> None:
    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moving(scene)
        await wire.say(said(DATA, 1, b"bye") + said(END, 1))
        assert await program.rest() == (b"bye", "fin")
        program.finish()
        assert await wire.frame() == (END, 1, b"")
        assert await own.end() == "fin"
        assert len(scene.trunks) == 0

    run_host(scenario)


def test_the_trunks_loss_leaves_alone_what_has_moved_and_cuts_what_has_not() -> None:
    async def scenario(scene: HostScene) -> None:
        wire, program, own = await moved(scene)
        _, _, second, _ = await scene.stream(wire)
        wire.reset()
        assert await second.end() == "rst"
        await own.say(b"x")
        assert await program.get(1) == b"x"

    run_host(scenario)


def test_closing_cuts_what_has_moved() -> None:
    async def scenario(scene: HostScene) -> None:
        _, program, own = await moved(scene)
        await scene.trunks.close()
        assert [await each.end() for each in (program, own)] == ["rst", "rst"]
        assert len(scene.trunks) == 0

    run_host(scenario)


def test_what_waits_for_its_program_is_not_lost_when_its_own_connection_ends() -> None:
    async def scenario(scene: HostScene) -> None:
        stream, _, own = await moved_and_held(scene)
        await own.say(b"the rest")
        own.finish()
        await until(lambda: stream.over or (stream.own is not None and bool(stream.own.hung_up)))
        assert await scene.carry(stream).rest() == (BULK + b"the rest", "fin")

    run_host(scenario)


def test_a_slow_program_is_not_cut_once_the_agent_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.cli.transparent.trunks.TUNNEL_DIAL_SECONDS", 0.3)

    async def scenario(scene: HostScene) -> None:
        stream, wire, key = await scene.answered()
        near, far = socket.socketpair()
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with far:
            scene.trunks.carry(near, stream)
            await wire.say(said(DATA, 1, BULK))
            await scene.own(key)
            await wire.say(said(LEAVE, 1))
            assert await wire.frame() == (LEAVE, 1, b"")
            later = Bell()
            scene.poller.set_deadline(later, 0.4)
            await later.rung.wait()
            assert await Wire(far).get(len(BULK)) == BULK

    run_host(scenario)
