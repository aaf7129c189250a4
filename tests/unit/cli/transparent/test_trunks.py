"""The host's end of the trunks, as an agent that speaks golden bytes sees it."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from dconnect.cli.transparent.trunks import HostTrunk
from dconnect.core.failure import Failure
from dconnect.core.limits import TRUNK_BULK_BYTES, TRUNK_DATA_BYTES
from dconnect.tunnel.dial import Door
from kit.trunks import (
    ANSWER,
    DATA,
    END,
    LEAVE,
    OPEN,
    RESET,
    TO_WEB,
    TOKEN,
    WEB,
    WEB6,
    HostScene,
    Wire,
    number_of,
    run_host,
    said,
    until,
    why,
)


def test_a_trunk_is_asked_for_in_golden_bytes() -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, request = await scene.knocked()  # which has read what comes before: greeting and token
        assert request[:4] == bytes.fromhex("05 80 00 04")
        assert any(request[4:16])
        assert request[16:] == bytes(6)
        assert not task.done()
        await wire.say(bytes.fromhex("0580 05000001 00000000 0000"))
        assert await wire.get(14) == bytes.fromhex("01 000006 00000001 0050 ac120003")
        await wire.say(bytes.fromhex("02 000001 00000001 00"))
        assert (await task).number == 1

    run_host(scenario)


def test_an_address_of_ipv6_is_asked_for_in_golden_bytes_and_its_reply_may_name_one() -> None:
    async def scenario(scene: HostScene) -> None:
        task = asyncio.get_running_loop().create_task(scene.trunks.connect(WEB6, 8080))
        wire, _ = await scene.knocked()
        reply = bytes.fromhex("0580 05000004") + bytes(18)
        for at in range(len(reply)):
            await wire.say(reply[at : at + 1])
        assert await wire.get(26) == bytes.fromhex("01 000012 00000001 1f90 fd0000dc000000000000000000000003")
        await wire.say(said(ANSWER, 1, b"\x00"))
        await task

    run_host(scenario)


def test_connections_at_the_same_time_have_one_trunk() -> None:
    async def scenario(scene: HostScene) -> None:
        tasks = [scene.connect(port) for port in range(80, 90)]
        wire, _ = await scene.trunk()
        frames = [await wire.frame() for _ in tasks]
        assert frames == [(OPEN, at + 1, bytes((0, 80 + at)) + WEB.packed) for at in range(10)]
        await wire.say(b"".join(said(ANSWER, number, b"\x00") for number in range(10, 0, -1)))
        assert [(await task).number for task in tasks] == list(range(1, 11))
        last = scene.connect()
        assert await number_of(wire) == 11
        await wire.say(said(ANSWER, 11, b"\x05"))
        assert await why(last) is Failure.REFUSED

    run_host(scenario)


@pytest.mark.parametrize(
    ("rep", "failure"),
    [
        (1, Failure.NOT_READY),
        (2, Failure.POLICY),
        (3, Failure.NETWORK_UNREACHABLE),
        (4, Failure.HOST_UNREACHABLE),
        (5, Failure.REFUSED),
        (6, Failure.TIMEOUT),
        (99, Failure.GENERAL),
    ],
)
def test_a_refusal_has_its_true_reason_and_leaves_nothing(rep: int, failure: Failure) -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        number = await number_of(wire)
        assert len(scene.trunks) == 1
        await wire.say(said(ANSWER, number, bytes((rep,))))
        assert await why(task) is failure
        assert len(scene.trunks) == 0
        await scene.stream(wire)

    run_host(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x05",
        bytes.fromhex("05ff"),
        bytes.fromhex("0580 05010001 00000000 0000"),
        bytes.fromhex("0580 05000003 00000000 0000"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_an_agent_that_grants_no_trunk_is_out_of_reach_and_tried_anew(answer: bytes) -> None:
    async def scenario(scene: HostScene) -> None:
        tasks = [scene.connect(), scene.connect()]
        wire, _ = await scene.knocked()
        await wire.say(answer)
        wire.finish()
        for task in tasks:
            assert await why(task) is Failure.HOST_UNREACHABLE
        assert (await wire.rest())[0] == b""
        await scene.stream()

    run_host(scenario)


def test_where_nobody_listens_the_agent_is_out_of_reach_and_tried_anew() -> None:
    async def scenario(scene: HostScene) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        scene.trunks.lead_to(Door("127.0.0.1", port, TOKEN))
        assert await why(scene.connect()) is Failure.HOST_UNREACHABLE
        assert await why(scene.connect()) is Failure.HOST_UNREACHABLE
        scene.trunks.lead_to(scene.door)
        await scene.stream()

    run_host(scenario)


def test_without_a_door_nothing_is_tried() -> None:
    async def scenario(scene: HostScene) -> None:
        scene.trunks.lead_to(None)
        assert await why(scene.connect()) is Failure.HOST_UNREACHABLE

    run_host(scenario)


def test_a_door_of_ipv6_is_found() -> None:
    async def scenario(scene: HostScene) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            listener.setblocking(False)
            scene.trunks.lead_to(Door("::1", listener.getsockname()[1], TOKEN))
            task = scene.connect()
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            with sock:
                assert await Wire(sock).get(3) == b"\x05\x01\x80"
            assert await why(task) is Failure.HOST_UNREACHABLE

    run_host(scenario)


def test_a_trunk_that_is_lost_takes_along_what_it_carries_and_what_it_is_asked_for() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        task = scene.connect()
        await wire.frame()
        wire.sock.close()
        assert await program.end() == "rst"
        assert await why(task) is Failure.HOST_UNREACHABLE
        assert len(scene.trunks) == 0
        await scene.stream()

    run_host(scenario)


def test_a_stream_whose_trunk_is_lost_before_its_program_is_there_resets_it() -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        await wire.say(said(ANSWER, await number_of(wire), b"\x00"))
        stream = await task
        wire.finish()
        await until(lambda: stream.over)
        assert await scene.carry(stream).end() == "rst"

    run_host(scenario)


def test_an_agent_that_never_answers_is_given_up_and_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dconnect.cli.transparent.trunks.TUNNEL_DIAL_SECONDS", 0.3)

    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        number = await number_of(wire)
        assert await why(task) is Failure.HOST_UNREACHABLE
        assert await wire.frame() == (RESET, number, b"")
        assert len(scene.trunks) == 0
        await wire.say(said(ANSWER, number, b"\x00"))  # too late
        assert await wire.end() == "fin"
        await scene.stream()  # on another trunk: that one may be dead

    run_host(scenario)


def test_a_connection_that_nobody_waits_for_any_more_is_given_up() -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        number = await number_of(wire)
        task.cancel()
        assert await wire.frame() == (RESET, number, b"")
        await until(task.done)
        assert len(scene.trunks) == 0

    run_host(scenario)


def test_bytes_and_ends_go_both_ways_and_are_counted() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        assert (len(scene.trunks), scene.trunks.bytes_moved) == (1, (0, 0))
        await program.say(b"question")
        assert await wire.get(16) == bytes.fromhex("03 000008 00000001") + b"question"
        program.finish()
        assert await wire.get(8) == bytes.fromhex("04 000000 00000001")
        await wire.say(said(DATA, 1, b"the ") + said(DATA, 1, b"answer"))
        assert await program.get(10) == b"the answer"
        assert (len(scene.trunks), scene.trunks.bytes_moved) == (1, (8, 10))
        await wire.say(said(END, 1))
        assert await program.end() == "fin"
        assert (len(scene.trunks), scene.trunks.bytes_moved) == (0, (8, 10))

    run_host(scenario)


def test_a_server_that_speaks_first_is_heard_by_a_program_that_comes_later() -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        await wire.say(said(ANSWER, await number_of(wire), b"\x00") + said(DATA, 1, b"220 ready") + said(END, 1))
        stream = await task
        await until(lambda: stream.got == 9)
        assert await scene.carry(stream).rest() == (b"220 ready", "fin")

    run_host(scenario)


def test_resets_go_both_ways() -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        program.reset()
        assert await wire.frame() == (RESET, 1, b"")
        _, _, program, _ = await scene.stream(wire)
        await wire.say(said(RESET, 2))
        assert await program.end() == "rst"
        assert len(scene.trunks) == 0

    run_host(scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        said(OPEN, 7, TO_WEB),
        said(ANSWER, 1, b"\x00"),
        said(DATA, 1, bytes(TRUNK_DATA_BYTES + 1)),
        said(7, 1),
        said(0, 1),
    ],
)
def test_what_cannot_be_ends_the_trunk(wrong: bytes) -> None:
    async def scenario(scene: HostScene) -> None:
        _, wire, program, _ = await scene.stream()
        await wire.say(wrong)
        assert await program.end() == "rst"
        await wire.rest()
        await scene.stream()

    run_host(scenario)


def test_numbers_wrap_and_skip_those_in_use() -> None:
    async def scenario(scene: HostScene) -> None:
        stream, wire, _, _ = await scene.stream()
        assert isinstance(stream.trunk, HostTrunk)
        stream.trunk._last = (1 << 32) - 2
        found = []
        for _ in range(3):
            task = scene.connect()
            found.append(await number_of(wire))
            await wire.say(said(ANSWER, found[-1], b"\x00"))
            await task
        assert found[0] == (1 << 32) - 1
        assert 1 not in found
        assert set(found) <= {(1 << 32) - 1, 0, 2, 3}
        assert len(set(found)) == 3

    run_host(scenario)


def test_closing_cuts_everything_and_leaves_no_task() -> None:
    async def scenario(scene: HostScene) -> None:
        others = asyncio.all_tasks()
        _, wire, program, key = await scene.stream()
        _, _, second, _ = await scene.stream(wire)
        data = os.urandom(TRUNK_BULK_BYTES)
        await program.say(data)
        assert await wire.data(1, len(data)) == data
        own = await scene.own(key)
        scene.trunks.lead_to(scene.door)
        opening = scene.connect()
        third, _ = await scene.knocked()
        opening.cancel()
        await until(opening.done)
        await scene.trunks.close()
        assert [await each.end() for each in (program, second)] == ["rst", "rst"]
        for each in (wire, own, third):
            await each.rest()
        assert len(scene.trunks) == 0
        assert asyncio.all_tasks() == others

    run_host(scenario)


@pytest.mark.parametrize("early", [said(DATA, 1, b"x"), said(END, 1), said(LEAVE, 1)])
def test_an_agent_that_uses_a_stream_before_it_is_there_loses_the_trunk(early: bytes) -> None:
    async def scenario(scene: HostScene) -> None:
        task = scene.connect()
        wire, _ = await scene.trunk()
        assert await number_of(wire) == 1
        await wire.say(early)
        assert await why(task) is Failure.HOST_UNREACHABLE
        await wire.rest()
        await scene.stream()

    run_host(scenario)
