"""How much a stream may carry, and how it leaves the trunk with more: no byte is lost, and none comes twice."""

from __future__ import annotations

import errno
import select
import socket

from dconnect.proxy.poller import Channel
from dconnect.proxy.relay.trunk import Stream
from kit.door import PATIENCE
from kit.trunk import Rig, give, on_a_trunk, reset, rest, take, turns, was_reset

HELLO_7 = b"\x03\x00\x00\x05\x00\x00\x00\x07hello"
END_7, RESET_7, LEAVE_7 = b"\x04\0\0\0\0\0\0\x07", b"\x05\0\0\0\0\0\0\x07", b"\x06\0\0\0\0\0\0\x07"
BYTE_8 = b"\x03\0\0\x01\0\0\0\x08"
FULL_7 = b"\x03\x00\x40\x00\0\0\0\x07"
"""The header of 16,384 bytes, the most that a frame has."""
KIB_16 = bytes(range(256)) * 64


async def went(rig: Rig) -> socket.socket:
    """The socket of the one stream that has left the trunk, still open."""
    await rig.owner.until(lambda: rig.owner.left)
    await turns()
    (stream,) = rig.owner.left
    assert not rig.owner.ended
    assert not rig.trunk.closed
    assert isinstance(stream.channel, Channel)
    assert stream.channel.sock.fileno() >= 0
    return stream.channel.sock


@on_a_trunk()
async def test_a_stream_says_32_kib_at_most(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, KIB_16 * 4)
    assert await rig.data(7, 32 * 1024) == KIB_16 * 2
    assert await rig.is_silent()
    far.shutdown(socket.SHUT_WR)  # comes after bytes that are not said
    assert await rig.is_silent()
    assert not rig.owner.ended


@on_a_trunk()
async def test_the_bound_counts_what_was_said_in_small_frames(rig: Rig) -> None:
    _, far = rig.stream(7)
    for _ in range(33):
        await give(far, KIB_16[:1000])
        await turns()
    assert await rig.data(7, 32 * 1024) == (KIB_16[:1000] * 33)[: 32 * 1024]
    assert await rig.is_silent()


@on_a_trunk()
async def test_a_socket_that_is_reset_at_the_bound_cuts_its_stream(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, KIB_16 * 3)
    assert await rig.data(7, 32 * 1024)
    reset(far)
    assert await rig.hears(RESET_7)


@on_a_trunk()
async def test_at_the_bound_it_still_hears(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, KIB_16 * 3)
    assert await rig.data(7, 32 * 1024)
    await rig.say(HELLO_7 + END_7)
    assert await rest(far) == b"hello"


@on_a_trunk()
async def test_saying_16_kib_is_bulk_and_each_byte_more(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, KIB_16[:-1])
    assert await rig.data(7, len(KIB_16) - 1)
    assert not rig.owner.bulk
    await give(far, b"x")
    assert await rig.data(7, 1)
    assert rig.owner.bulk == [(7, 16384, 0)]
    await give(far, b"y")
    assert await rig.data(7, 1)
    assert rig.owner.bulk == [(7, 16384, 0), (7, 16385, 0)]


@on_a_trunk()
async def test_hearing_16_kib_is_bulk_and_each_byte_more(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(b"\x03\x00\x3f\xff\0\0\0\x07" + KIB_16[:-1])
    assert await take(far, 16383) == KIB_16[:-1]
    assert not rig.owner.bulk
    await rig.say(b"\x03\0\0\x01\0\0\0\x07x")
    await rig.owner.until(lambda: rig.owner.bulk == [(7, 0, 16384)])
    await rig.say(b"\x03\0\0\x01\0\0\0\x07y")
    await rig.owner.until(lambda: rig.owner.bulk == [(7, 0, 16384), (7, 0, 16385)])


@on_a_trunk()
async def test_bytes_of_both_ways_together_are_no_bulk(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, KIB_16[:10_000])
    assert await rig.data(7, 10_000)
    await rig.say(b"\x03\x00\x27\x10\0\0\0\x07" + KIB_16[:10_000])
    assert await take(far, 10_000)
    assert not rig.owner.bulk


@on_a_trunk()
async def test_32_kib_may_be_heard_before_there_is_a_socket(rig: Rig) -> None:
    stream = Stream(rig.trunk, 7)
    await rig.say((FULL_7 + KIB_16) * 2)
    await rig.owner.until(lambda: len(rig.owner.bulk) == 2)
    channel, far = rig.ends()
    stream.attach(channel)
    assert await take(far, 32 * 1024) == KIB_16 * 2


@on_a_trunk()
async def test_who_leaves_says_nothing_more_and_nothing_is_lost(rig: Rig) -> None:
    stream, far = rig.stream(7)
    await give(far, b"hello")
    assert await rig.hears(HELLO_7)
    stream.leave()
    stream.leave()
    await give(far, b"world")
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(LEAVE_7)
    assert await rig.is_silent()
    assert not rig.owner.left
    await rig.say(LEAVE_7)
    assert await rest(await went(rig)) == b"world"
    assert await rig.is_silent()
    assert not rig.trunk.streams


@on_a_trunk()
async def test_who_leaves_still_hears(rig: Rig) -> None:
    stream, far = rig.stream(7)
    stream.leave()
    await rig.say(HELLO_7)
    assert await take(far, 5) == b"hello"
    await rig.say(HELLO_7 + LEAVE_7)
    sock = await went(rig)
    await give(sock, b"world")  # by whoever has it now
    assert await take(far, 10) == b"helloworld"


@on_a_trunk()
async def test_who_hears_that_the_other_leaves_does_so_too(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(HELLO_7 + LEAVE_7)
    sock = await went(rig)
    assert await rig.hears(LEAVE_7)
    assert await rig.is_silent()
    assert await take(far, 5) == b"hello"
    await give(far, b"world")
    assert await take(sock, 5) == b"world"
    assert await rig.is_silent()


@on_a_trunk()
async def test_what_is_said_before_the_other_s_leave_is_heard_is_said_before_ours(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, b"hello")
    await turns()
    await rig.say(LEAVE_7)
    await went(rig)
    assert await rig.hears(HELLO_7 + LEAVE_7)


@on_a_trunk()
async def test_frames_of_a_stream_that_has_left_mean_nothing(rig: Rig) -> None:
    (_, far), (_, other) = rig.stream(7), rig.stream(8)
    await rig.say(LEAVE_7 + RESET_7 + HELLO_7 + END_7 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    sock = await went(rig)
    await give(sock, b"x")
    assert await take(far, 1) == b"x"


@on_a_trunk()
async def test_a_trunk_s_end_is_nothing_to_a_stream_that_has_left(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(LEAVE_7)
    sock = await went(rig)
    rig.peer.shutdown(socket.SHUT_WR)
    await rig.owner.until(lambda: rig.owner.lost_trunks)
    await give(sock, b"x")
    assert await take(far, 1) == b"x"
    assert not rig.owner.ended


@on_a_trunk()
async def test_whoever_is_told_of_bulk_may_leave_at_once(rig: Rig) -> None:
    rig.owner.when_bulky = Stream.leave
    _, far = rig.stream(7)
    await give(far, KIB_16 * 4)
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(FULL_7 + KIB_16 + LEAVE_7)
    assert await rig.is_silent()
    await rig.say(LEAVE_7)
    assert await rest(await went(rig)) == KIB_16 * 3


@on_a_trunk()
async def test_a_slow_socket_has_everything_before_its_stream_has_left(rig: Rig) -> None:
    (stream, far), (_, other) = rig.stream(7, tight=True), rig.stream(8)
    stream.leave()
    await rig.say((FULL_7 + KIB_16) * 2 + LEAVE_7 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    assert not rig.owner.left
    assert await take(far, 32 * 1024) == KIB_16 * 2
    sock = await went(rig)
    await give(sock, b"x")
    assert await take(far, 1) == b"x"


@on_a_trunk()
async def test_an_end_before_the_leave_is_passed_on(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(HELLO_7 + END_7 + LEAVE_7)
    assert await rest(far) == b"hello"
    sock = await went(rig)
    await give(far, b"world")
    assert await take(sock, 5) == b"world"


@on_a_trunk()
async def test_an_end_before_the_leave_is_passed_on_after_what_is_held(rig: Rig) -> None:
    (_, far), (_, other) = rig.stream(7, tight=True), rig.stream(8)
    await rig.say((FULL_7 + KIB_16) * 2 + END_7 + LEAVE_7 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    assert not rig.owner.left
    assert await rest(far) == KIB_16 * 2
    await went(rig)


@on_a_trunk()
async def test_a_socket_that_has_ended_may_leave(rig: Rig) -> None:
    stream, far = rig.stream(7)
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(END_7)
    stream.leave()
    assert await rig.hears(LEAVE_7)
    await rig.say(HELLO_7 + LEAVE_7)
    sock = await went(rig)
    await give(sock, b"world")
    assert await take(far, 10) == b"helloworld"


@on_a_trunk()
async def test_a_stream_that_ends_both_ways_while_it_leaves_is_over(rig: Rig) -> None:
    stream, far = rig.stream(7)
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(END_7)
    stream.leave()
    await rig.say(END_7 + LEAVE_7)
    assert await rest(far) == b""
    await rig.owner.until(lambda: rig.owner.ended == [(7, None)])
    assert not rig.owner.left


@on_a_trunk()
async def test_a_reset_while_it_leaves_cuts_it(rig: Rig) -> None:
    stream, far = rig.stream(7)
    stream.leave()
    await rig.say(RESET_7)
    assert await was_reset(far)
    assert rig.owner.ended == [(7, errno.ECONNRESET)]
    stream.leave()
    assert await rig.hears(LEAVE_7)
    assert await rig.is_silent()
    assert not rig.owner.left


@on_a_trunk()
async def test_a_stream_that_is_over_does_not_leave(rig: Rig) -> None:
    stream, far = rig.stream(7)
    await rig.say(RESET_7)
    assert await was_reset(far)
    stream.leave()
    assert await rig.is_silent()
    assert not rig.owner.left


@on_a_trunk()
async def test_reset_of_the_socket_while_it_leaves_becomes_a_reset(rig: Rig) -> None:
    stream, far = rig.stream(7)
    stream.leave()
    reset(far)
    assert await rig.hears(LEAVE_7 + RESET_7)
    await rig.owner.until(lambda: rig.owner.ended == [(7, errno.ECONNRESET)])
    assert not rig.owner.left


@on_a_trunk()
async def test_a_trunk_that_is_lost_while_a_stream_leaves_cuts_it(rig: Rig) -> None:
    stream, far = rig.stream(7)
    stream.leave()
    rig.peer.shutdown(socket.SHUT_WR)
    assert await rig.is_cut(far)
    assert rig.owner.ended == [(7, errno.ECONNRESET)]


@on_a_trunk()
async def test_it_may_leave_before_it_has_a_socket(rig: Rig) -> None:
    stream, other = Stream(rig.trunk, 7), rig.stream(8)[1]
    await rig.say(HELLO_7 + LEAVE_7 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    assert await rig.hears(LEAVE_7)
    assert not rig.owner.left
    channel, far = rig.ends()
    await give(far, b"world")
    await turns()
    stream.attach(channel)
    assert await take(far, 5) == b"hello"
    assert await take(await went(rig), 5) == b"world"
    assert await rig.is_silent()


@on_a_trunk()
async def test_urgent_data_goes_in_line(rig: Rig) -> None:
    _, far = rig.stream(7)
    far.send(b"before")
    far.send(b"!", socket.MSG_OOB)
    far.send(b"after")
    assert await rig.data(7, 12) == b"before!after"
    far.send(b"?", socket.MSG_OOB)
    far.shutdown(socket.SHUT_WR)
    assert await rig.data(7, 1) == b"?"
    assert await rig.hears(END_7)


@on_a_trunk()
async def test_urgent_data_that_comes_alone_goes_in_line(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, b"before")
    assert await rig.data(7, 6) == b"before"
    far.send(b"!", socket.MSG_OOB)
    assert await rig.data(7, 1) == b"!"
    await give(far, b"after")
    assert await rig.data(7, 5) == b"after"


@on_a_trunk()
async def test_urgent_data_that_came_before_the_socket_was_attached_goes_in_line(rig: Rig) -> None:
    stream = Stream(rig.trunk, 7)
    channel, far = rig.ends()
    far.send(b"before")
    far.send(b"!", socket.MSG_OOB)
    far.send(b"after")
    far.shutdown(socket.SHUT_WR)
    channel.dry = False  # as who carries a connection that was just accepted has it
    stream.attach(channel)
    assert await rig.data(7, 12) == b"before!after"


@on_a_trunk()
async def test_whoever_goes_on_is_told_of_urgent_data_again(rig: Rig) -> None:
    stream, far = rig.stream(7)
    far.send(b"!", socket.MSG_OOB)
    assert await rig.data(7, 1) == b"!"
    stream.leave()
    await rig.say(LEAVE_7)
    sock = await went(rig)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
    far.send(b"?", socket.MSG_OOB)
    poll = select.poll()
    poll.register(sock, select.POLLPRI)
    assert poll.poll(PATIENCE * 1000)
    assert sock.recv(1, socket.MSG_OOB) == b"?"
