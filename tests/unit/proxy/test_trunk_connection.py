"""A trunk's own connection: how it begins, how it ends, and what happens when nobody reads its other end."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from dconnect.proxy.relay.trunk import Stream
from kit.trunk import Rig, give, is_gone, on_a_trunk, reset, rest, take, turns, was_reset

HELLO_7 = b"\x03\x00\x00\x05\x00\x00\x00\x07hello"
END_7, BYTE_8 = b"\x04\0\0\0\0\0\0\x07", b"\x03\0\0\x01\0\0\0\x08"
KIB_16 = bytes(range(256)) * 64


@on_a_trunk()
async def test_its_fin_cuts_all_that_it_carries(rig: Rig) -> None:
    (_, seven), (_, eight) = rig.stream(7), rig.stream(8)
    rig.peer.shutdown(socket.SHUT_WR)
    assert await rig.is_cut(seven, eight)
    assert sorted(rig.owner.ended) == [(7, errno.ECONNRESET), (8, errno.ECONNRESET)]


@on_a_trunk()
async def test_its_fin_right_behind_a_frame_is_seen(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(HELLO_7)
    rig.peer.shutdown(socket.SHUT_WR)
    assert await rig.is_cut(far)


@on_a_trunk()
async def test_its_fin_amid_a_frame_cuts_all_that_it_carries(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(HELLO_7[:-1])
    rig.peer.shutdown(socket.SHUT_WR)
    assert await rig.is_cut(far)


@on_a_trunk()
async def test_its_reset_cuts_all_that_it_carries(rig: Rig) -> None:
    (_, seven), (_, eight) = rig.stream(7), rig.stream(8)
    reset(rig.peer)
    assert await was_reset(seven)
    assert await was_reset(eight)
    assert rig.owner.lost_trunks == [rig.trunk]
    assert sorted(rig.owner.ended) == [(7, errno.ECONNRESET), (8, errno.ECONNRESET)]


@on_a_trunk()
async def test_saying_something_to_a_peer_that_is_gone_ends_it(rig: Rig) -> None:
    _, far = rig.stream(7)
    reset(rig.peer)
    rig.trunk.say(4, 7)
    rig.trunk._flush()  # before it reads
    await rig.owner.until(lambda: rig.owner.lost_trunks == [rig.trunk])
    assert await was_reset(far)


@on_a_trunk()
async def test_it_is_closed_once(rig: Rig) -> None:
    _, far = rig.stream(7)
    rig.trunk.say(4, 7)
    rig.trunk.close()
    rig.trunk.close(OSError(errno.EPROTO, "again"))
    rig.trunk.say(4, 7)
    assert await rig.is_cut(far)
    assert rig.owner.ended == [(7, errno.ECONNRESET)]
    assert rig.trunk.error is None


@on_a_trunk()
async def test_its_streams_are_told_why_it_was_closed(rig: Rig) -> None:
    rig.stream(7)
    rig.trunk.close(OSError(errno.EHOSTUNREACH, "no route"))
    assert rig.owner.ended == [(7, errno.EHOSTUNREACH)]


@on_a_trunk(started=False)
async def test_what_came_right_behind_the_request_is_taken(rig: Rig) -> None:
    _, far = rig.stream(7)
    rig.trunk.start(HELLO_7 + HELLO_7[:3])
    await rig.say(HELLO_7[3:] + END_7)
    assert await rest(far) == b"hellohello"


@on_a_trunk(started=False)
async def test_what_came_before_it_began_is_taken_after_the_early_bytes(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(HELLO_7[10:] + END_7)
    await turns()  # its edge is the channel's
    assert not rig.channel.dry
    rig.trunk.start(HELLO_7[:10])
    assert await rest(far) == b"hello"


@on_a_trunk(started=False)
async def test_early_bytes_that_are_malformed_close_it(rig: Rig) -> None:
    _, far = rig.stream(7)
    rig.trunk.start(b"\x07\0\0\0\0\0\0\x07")
    assert await rig.is_cut(far)


@on_a_trunk(started=False)
async def test_its_request_s_deadline_is_off(rig: Rig) -> None:
    """White-box: nothing is seen of a deadline that nobody waits for."""
    rig.channel.deadline(60)
    assert rig.channel in rig.poller._deadlines
    rig.trunk.start()
    assert rig.channel not in rig.poller._deadlines


@on_a_trunk()
async def test_what_is_more_than_a_turn_s_share_is_read_in_the_next(rig: Rig) -> None:
    _, far = rig.stream(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dconnect.proxy.relay.trunk.TRUNK_READ_BYTES", 8)
        patch.setattr("dconnect.proxy.relay.trunk.TRUNK_READS_PER_TURN", 2)
        await rig.say(HELLO_7 * 10 + END_7)
        assert await rest(far) == b"hello" * 10


@on_a_trunk(tight=True)
async def test_what_its_peer_does_not_read_is_said_later_in_order(rig: Rig) -> None:
    numbers = range(1, 21)
    fars = {number: rig.stream(number)[1] for number in numbers}
    for far in fars.values():
        await give(far, KIB_16)
        await turns()
    assert rig.trunk._blocked, "the buffers are larger than this test believes"
    for far in fars.values():
        far.shutdown(socket.SHUT_WR)
    await turns()
    for number in numbers:
        assert await rig.data(number, len(KIB_16)) == KIB_16
    assert await rig.hears(b"".join(b"\x04\0\0\0\0\0\0" + bytes((number,)) for number in numbers))
    _, again = rig.stream(7 + 32)
    await give(again, b"x")
    assert await rig.hears(b"\x03\0\0\x01\0\0\0\x27x")


@on_a_trunk(tight=True)
async def test_what_is_said_when_there_is_no_room_at_all_is_said_later(rig: Rig) -> None:
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += rig.channel.sock.send(KIB_16)
    _, far = rig.stream(7)
    await give(far, b"hello")
    await turns()
    far.shutdown(socket.SHUT_WR)
    await turns()
    assert await take(rig.peer, filled)
    assert await rig.hears(HELLO_7 + END_7)


@on_a_trunk(tight=True)
async def test_while_its_peer_does_not_read_it_hears(rig: Rig) -> None:
    (_, seven), (_, eight) = rig.stream(7), rig.stream(8)
    await give(seven, KIB_16 * 2)
    await turns()
    assert rig.trunk._blocked, "the buffers are larger than this test believes"
    await rig.say(BYTE_8 + b"!" + HELLO_7)
    assert await take(eight, 1) == b"!"
    assert await take(seven, 5) == b"hello"


@on_a_trunk(tight=True)
async def test_while_its_peer_does_not_read_it_may_be_closed(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, KIB_16 * 2)
    await turns()
    assert rig.trunk._blocked, "the buffers are larger than this test believes"
    rig.trunk.close()
    assert await was_reset(far)
    assert await is_gone(rig.peer)
    assert rig.owner.lost_trunks == [rig.trunk]


@on_a_trunk(tight=True)
async def test_while_much_waits_for_its_peer_no_stream_reads(rig: Rig) -> None:
    streams = {number: rig.stream(number) for number in (7, 8, 9, 10)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dconnect.proxy.relay.trunk.TRUNK_WAITING_BYTES", 8192)
        await give(streams[7][1], KIB_16 * 2)
        await turns()
        assert rig.trunk._blocked, "the buffers are larger than this test believes"
        for number in (8, 9, 10):
            await give(streams[number][1], bytes((number,)))
            streams[number][1].shutdown(socket.SHUT_WR)
        reset(streams[10][1])
        await turns()
        assert [streams[number][0].sent for number in (7, 8, 9)] == [16384, 0, 0]
        assert await rig.data(7, 16384) == KIB_16
        later = await take(rig.peer, 8 + 16384 + 2 * (9 + 8) + 8)  # in any order
    for frames in (b"\x03\0\0\x01\0\0\0\x08\x08", b"\x03\0\0\x01\0\0\0\x09\x09", b"\x05\0\0\0\0\0\0\x0a"):
        assert frames in later
    assert b"\x03\x00\x40\x00\0\0\0\x07" + KIB_16 in later


@on_a_trunk(tight=True)
async def test_who_asks_and_asks_and_does_not_read_is_cut(rig: Rig) -> None:
    _, far = rig.stream(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dconnect.proxy.relay.trunk.TRUNK_UNSENT_BYTES", 64 * 1024)
        for _ in range(16 * 1024):
            rig.trunk.say(5, 99)
        await turns()
        assert not rig.trunk.closed  # who says nothing may be slow
        await rig.say(HELLO_7)
        await rig.owner.until(lambda: rig.owner.lost_trunks)
    assert rig.owner.ended == [(7, errno.ENOBUFS)]
    assert await was_reset(far)


@on_a_trunk()
async def test_a_stream_that_is_being_dialed_is_lost_with_it(rig: Rig) -> None:
    stream = Stream(rig.trunk, 7)
    rig.peer.shutdown(socket.SHUT_WR)
    await rig.owner.until(lambda: rig.owner.lost_trunks)
    assert rig.owner.ended == [(7, errno.ECONNRESET)]
    assert rig.trunk.error is None
    channel, far = rig.ends()
    stream.attach(channel)
    assert await was_reset(far)
