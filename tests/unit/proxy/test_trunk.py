"""A trunk carries its streams as a relay would; the other end of its connection is the test."""

from __future__ import annotations

import errno
import socket

from dconnect.proxy.relay.trunk import Stream
from kit.trunk import Rig, give, on_a_trunk, reset, rest, take, turns, was_reset

DATA_7 = b"\x03\x00\x00\x05\x00\x00\x00\x07"
"""The header of five bytes of stream 7."""
END_7, RESET_7, LEAVE_7 = b"\x04\0\0\0\0\0\0\x07", b"\x05\0\0\0\0\0\0\x07", b"\x06\0\0\0\0\0\0\x07"
BYTE_8 = b"\x03\0\0\x01\0\0\0\x08"
END_8, RESET_8 = b"\x04\0\0\0\0\0\0\x08", b"\x05\0\0\0\0\0\0\x08"
FULL_7 = b"\x03\x00\x40\x00\0\0\0\x07"
"""The header of 16,384 bytes, the most that a frame has."""
KIB_16 = bytes(range(256)) * 64


@on_a_trunk()
async def test_bytes_of_a_socket_become_a_frame(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, b"hello")
    assert await rig.hears(DATA_7 + b"hello")


@on_a_trunk()
async def test_bytes_of_a_frame_reach_the_socket(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(DATA_7 + b"hello")
    assert await take(far, 5) == b"hello"


@on_a_trunk()
async def test_a_number_is_four_bytes_long(rig: Rig) -> None:
    _, far = rig.stream(0xFEDCBA98)
    await rig.say(b"\x03\0\0\x01\xfe\xdc\xba\x98a")
    assert await take(far, 1) == b"a"
    await give(far, b"b")
    assert await rig.hears(b"\x03\0\0\x01\xfe\xdc\xba\x98b")


@on_a_trunk()
async def test_frames_may_come_byte_by_byte(rig: Rig) -> None:
    rig.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    (_, seven), (_, eight) = rig.stream(7), rig.stream(8)
    for byte in DATA_7 + b"hello" + BYTE_8 + b"!" + DATA_7 + b"world" + END_7 + END_8:
        await rig.say(bytes([byte]))
        await turns()
    assert await rest(seven) == b"helloworld"
    assert await rest(eight) == b"!"


@on_a_trunk()
async def test_several_frames_may_come_at_once(rig: Rig) -> None:
    (_, seven), (_, eight) = rig.stream(7), rig.stream(8)
    await rig.say(DATA_7 + b"hello" + BYTE_8 + b"!" + DATA_7 + b"world" + BYTE_8 + b"?" + END_7 + END_8)
    assert await rest(seven) == b"helloworld"
    assert await rest(eight) == b"!?"


@on_a_trunk()
async def test_a_frame_may_be_cut_anywhere(rig: Rig) -> None:
    _, far = rig.stream(7)
    said = DATA_7 + b"hello" + DATA_7 + b"world"
    for place in range(1, len(said)):
        await rig.say(said[:place])
        await turns()
        await rig.say(said[place:])
        assert await take(far, 10) == b"helloworld"


@on_a_trunk()
async def test_what_a_socket_says_keeps_its_order(rig: Rig) -> None:
    _, far = rig.stream(7)
    for part in (b"first", b"other", b"third"):
        await give(far, part)
        assert await rig.hears(DATA_7 + part)


@on_a_trunk()
async def test_a_frame_has_16_kib_at_most(rig: Rig) -> None:
    stream = Stream(rig.trunk, 7)
    channel, far = rig.ends()
    await give(far, KIB_16 + b"x")  # all of it is there when it is attached
    channel.dry = False
    stream.attach(channel)
    assert await rig.hears(FULL_7 + KIB_16 + b"\x03\0\0\x01\0\0\0\x07x")


@on_a_trunk()
async def test_many_streams_go_at_once(rig: Rig) -> None:
    numbers = range(1, 101)
    fars = {number: rig.stream(number)[1] for number in numbers}
    await rig.say(b"".join(b"\x03\0\0\x02\0\0\0" + bytes((n, n, 255 - n)) for n in numbers))
    for number, far in fars.items():
        assert await take(far, 2) == bytes((number, 255 - number))
    for number, far in fars.items():
        await give(far, bytes((number,)))
    said = await take(rig.peer, 9 * len(numbers))
    frames = sorted(said[at : at + 9] for at in range(0, len(said), 9))
    assert frames == [b"\x03\0\0\x01\0\0\0" + bytes((n, n)) for n in numbers]


@on_a_trunk()
async def test_frames_of_one_turn_leave_in_one_segment(rig: Rig) -> None:
    for number in (7, 8):
        rig.stream(number)
    for kind, number, payload in ((3, 7, b"hello"), (3, 8, b"!"), (4, 7, b"")):
        rig.trunk.say(kind, number, payload)
    assert await rig.hears(DATA_7 + b"hello" + BYTE_8 + b"!" + END_7)
    assert rig.segments() == 1
    rig.trunk.say(4, 8)
    assert await rig.hears(END_8)
    assert rig.segments() == 2


@on_a_trunk()
async def test_fin_of_the_socket_becomes_an_end_after_the_last_byte(rig: Rig) -> None:
    _, far = rig.stream(7)
    await give(far, b"hello")
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(DATA_7 + b"hello" + END_7)
    assert not rig.owner.ended


@on_a_trunk()
async def test_after_the_socket_s_fin_bytes_still_reach_it(rig: Rig) -> None:
    stream, far = rig.stream(7)
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(END_7)
    await rig.say(DATA_7 + b"hello")
    assert await take(far, 5) == b"hello"
    assert rig.trunk.streams == {7: stream}
    await rig.say(END_7)
    assert await rest(far) == b""
    await rig.owner.until(lambda: rig.owner.ended == [(7, None)])


@on_a_trunk()
async def test_after_an_end_the_socket_may_go_on(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(DATA_7 + b"hello" + END_7)
    assert await rest(far) == b"hello"
    await give(far, b"still")
    assert await rig.hears(DATA_7 + b"still")
    assert not rig.owner.ended
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(END_7)
    await rig.owner.until(lambda: rig.owner.ended == [(7, None)])
    assert not rig.trunk.streams


@on_a_trunk()
async def test_a_stream_that_has_ended_both_ways_is_over_once_and_its_number_is_free(rig: Rig) -> None:
    stream, far = rig.stream(7)
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(END_7)
    await rig.say(END_7 + END_7 + RESET_7)
    assert await rest(far) == b""
    await rig.owner.until(lambda: rig.owner.ended)
    _, again = rig.stream(7)
    await rig.say(DATA_7 + b"hello")
    assert await take(again, 5) == b"hello"
    assert rig.owner.ended == [(7, None)]
    assert stream.over


@on_a_trunk()
async def test_reset_of_the_socket_becomes_a_reset(rig: Rig) -> None:
    _, far = rig.stream(7)
    reset(far)
    assert await rig.hears(RESET_7)
    await rig.owner.until(lambda: rig.owner.ended == [(7, errno.ECONNRESET)])


@on_a_trunk()
async def test_a_reset_cuts_the_socket(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(RESET_7)
    assert await was_reset(far)
    assert rig.owner.ended == [(7, errno.ECONNRESET)]
    assert await rig.is_silent()  # it is not told of its own reset


@on_a_trunk()
async def test_a_reset_of_a_stream_that_is_unknown_means_nothing(rig: Rig) -> None:
    _, far = rig.stream(7)
    await rig.say(RESET_8 + DATA_7 + b"hello")
    assert await take(far, 5) == b"hello"


@on_a_trunk()
async def test_frames_of_a_stream_that_was_cut_here_mean_nothing(rig: Rig) -> None:
    (stream, far), (_, other) = rig.stream(8), rig.stream(7)
    stream.cut(TimeoutError(errno.ETIMEDOUT, "too late"))
    stream.cut(TimeoutError(errno.ETIMEDOUT, "later"))
    await rig.say(BYTE_8 + b"x" + END_8 + BYTE_8 + b"y" + b"\x06\0\0\0\0\0\0\x08" + RESET_8 + DATA_7 + b"hello")
    assert await take(other, 5) == b"hello"
    assert await was_reset(far)
    assert await rig.hears(RESET_8)
    assert await rig.is_silent()
    assert rig.owner.ended == [(8, errno.ETIMEDOUT)]


@on_a_trunk()
async def test_what_came_before_the_socket_is_kept_for_it(rig: Rig) -> None:
    stream, other = Stream(rig.trunk, 7), rig.stream(8)[1]
    await rig.say(DATA_7 + b"hello" + DATA_7 + b"world" + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    channel, far = rig.ends()
    stream.attach(channel)
    assert await take(far, 10) == b"helloworld"


@on_a_trunk()
async def test_an_end_that_came_before_the_socket_is_kept_for_it(rig: Rig) -> None:
    stream, other = Stream(rig.trunk, 7), rig.stream(8)[1]
    await rig.say(DATA_7 + b"hello" + END_7 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    channel, far = rig.ends()
    stream.attach(channel)
    assert await rest(far) == b"hello"
    await give(far, b"still")
    assert await rig.hears(DATA_7 + b"still")


@on_a_trunk()
async def test_a_socket_for_a_stream_that_is_over_is_cut(rig: Rig) -> None:
    stream, other = Stream(rig.trunk, 7), rig.stream(8)[1]
    await rig.say(RESET_7 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    assert rig.owner.ended == [(7, errno.ECONNRESET)]
    channel, far = rig.ends()
    stream.attach(channel)
    assert await was_reset(far)
    assert rig.owner.ended == [(7, errno.ECONNRESET)]


@on_a_trunk()
async def test_what_the_socket_said_before_it_was_attached_is_said(rig: Rig) -> None:
    stream = Stream(rig.trunk, 7)
    channel, far = rig.ends()
    await give(far, b"hello")
    far.shutdown(socket.SHUT_WR)
    await turns()  # its edge is the channel's
    assert not channel.dry
    stream.attach(channel)
    assert await rig.hears(DATA_7 + b"hello" + END_7)


@on_a_trunk()
async def test_a_socket_that_does_not_read_gets_all_of_it_later_and_the_end_after_it(rig: Rig) -> None:
    (stream, far), (_, other) = rig.stream(7, tight=True), rig.stream(8)
    far_end = END_7 + BYTE_8 + b"!"
    await rig.say(FULL_7 + KIB_16 + b"\x03\x00\x3f\xff\0\0\0\x07" + KIB_16[:-1] + b"\x03\0\0\x01\0\0\0\x07z" + far_end)
    assert await take(other, 1) == b"!"
    assert stream._held, "the buffers are larger than this test believes"
    assert await rest(far) == KIB_16 + KIB_16[:-1] + b"z"
    await give(far, b"still")
    assert await rig.hears(DATA_7 + b"still")


@on_a_trunk()
async def test_a_stream_is_not_over_before_its_socket_has_everything(rig: Rig) -> None:
    (_, far), (_, other) = rig.stream(7, tight=True), rig.stream(8)
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(END_7)
    await rig.say((FULL_7 + KIB_16) * 2 + END_7 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    assert not rig.owner.ended
    assert await rest(far) == KIB_16 * 2
    await rig.owner.until(lambda: rig.owner.ended == [(7, None)])


@on_a_trunk()
async def test_a_slow_socket_that_is_reset_is_cut_with_what_is_held(rig: Rig) -> None:
    (_, far), (_, other) = rig.stream(7, tight=True), rig.stream(8)
    await rig.say((FULL_7 + KIB_16) * 2 + BYTE_8 + b"!")
    assert await take(other, 1) == b"!"
    reset(far)
    assert await rig.hears(RESET_7)
    await rig.owner.until(lambda: rig.owner.ended)


@on_a_trunk()
async def test_reset_of_a_socket_whose_end_was_carried_already_cuts_its_stream(rig: Rig) -> None:
    _, far = rig.stream(7)
    far.shutdown(socket.SHUT_WR)
    assert await rig.hears(END_7)
    reset(far)  # only the error is left to be told
    assert await rig.hears(RESET_7)
    await rig.owner.until(lambda: rig.owner.ended == [(7, errno.EPIPE)])


@on_a_trunk()
async def test_the_host_s_wish_is_told_to_the_owner(rig: Rig) -> None:
    await rig.say(b"\x01\0\0\x06\0\0\0\x07\x00\x50\xac\x11\0\2" + DATA_7 + b"hello")
    await rig.owner.until(lambda: rig.owner.opened == [(7, b"\x00\x50\xac\x11\0\2")])
    channel, far = rig.ends()
    rig.trunk.streams[7].attach(channel)
    assert await take(far, 5) == b"hello"


async def breaks(rig: Rig, frames: bytes) -> bool:
    """Whether the trunk is closed for these frames, and its streams cut."""
    (_, seven), (_, eight) = rig.stream(7), rig.stream(8)
    Stream(rig.trunk, 9)  # is being dialed
    await rig.say(frames)
    assert await rig.is_cut(seven, eight)
    return sorted(rig.owner.ended) == [(number, errno.EPROTO) for number in (7, 8, 9)]


@on_a_trunk()
async def test_an_unknown_type_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x07\0\0\0\0\0\0\x07")


@on_a_trunk()
async def test_type_zero_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\0\0\0\0\0\0\0\x07")


@on_a_trunk()
async def test_data_of_no_bytes_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x03\0\0\0\0\0\0\x07")


@on_a_trunk()
async def test_the_header_of_more_than_16_kib_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x03\x00\x40\x01\0\0\0\x07")


@on_a_trunk()
async def test_an_end_with_a_byte_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x04\0\0\x01\0\0\0\x07!")


@on_a_trunk()
async def test_data_after_an_end_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x04\0\0\0\0\0\0\x09" + b"\x03\0\0\x01\0\0\0\x09!")


@on_a_trunk()
async def test_data_after_a_leave_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x06\0\0\0\0\0\0\x09" + b"\x03\0\0\x01\0\0\0\x09!")


@on_a_trunk()
async def test_an_end_after_a_leave_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x06\0\0\0\0\0\0\x09" + b"\x04\0\0\0\0\0\0\x09")


@on_a_trunk()
async def test_a_second_leave_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x06\0\0\0\0\0\0\x09" * 2)


@on_a_trunk()
async def test_an_answer_to_nothing_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x02\0\0\x01\0\0\0\x07\0")


@on_a_trunk()
async def test_a_wish_for_a_number_that_is_in_use_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, b"\x01\0\0\x06\0\0\0\x07\x00\x50\xac\x11\0\2")
    assert not rig.owner.opened


@on_a_trunk()
async def test_more_than_a_stream_may_carry_breaks_it(rig: Rig) -> None:
    assert await breaks(rig, (FULL_7 + KIB_16) * 2 + b"\x03\0\0\x01\0\0\0\x07!")
