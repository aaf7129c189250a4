"""The bus between control and workers: framing and its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from dconnect.agent import bus
from dconnect.core.limits import BUS_MESSAGE_BYTES

MESSAGES: list[bus.Message] = [{"serial": 1, "inventory": {"name": "ü"}}, {}, {"x": [None, True]}]


def received(pieces: Iterable[bytes], count: int) -> list[bus.Message]:
    async def body() -> list[bus.Message]:
        reader = asyncio.StreamReader()

        async def feed() -> None:
            for piece in pieces:
                reader.feed_data(piece)
                await asyncio.sleep(0)
            reader.feed_eof()

        feeding = asyncio.ensure_future(feed())
        try:
            return [await bus.receive(reader) for _ in range(count)]
        finally:
            await feeding

    return asyncio.run(body())


def test_the_wire_is_a_length_and_compact_json() -> None:
    assert bus.encode({"a": [1, 2]}) == b"\x00\x00\x00\x0b" + b'{"a":[1,2]}'


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_come_whole_however_they_are_cut(size: int) -> None:
    data = b"".join(bus.encode(message) for message in MESSAGES)
    assert received([data[at : at + size] for at in range(0, len(data), size)], len(MESSAGES)) == MESSAGES


@pytest.mark.parametrize("missing", [1, 5, 12])
def test_a_message_cut_short_is_the_end(missing: int) -> None:
    with pytest.raises(EOFError):
        received([bus.encode({"a": 1})[:-missing]], 1)


def test_a_message_beyond_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="larger than its bound"):
        received([(BUS_MESSAGE_BYTES + 1).to_bytes(4, "big")], 1)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b"{", b"\xff", b""])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the documented error; its text is json's
        received([len(body).to_bytes(4, "big") + body], 1)
