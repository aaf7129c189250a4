"""The bus: messages between control and its workers, over a unix socket that outlives both.

Wire:  length u32 big-endian | JSON object of that many bytes

The supervisor owns the listening socket, so a worker's connection waits in its backlog while
control restarts. Control sends ``{"inventory": …, "serial": n}``; a worker answers with its
counters and the serial it has applied, and tells them again every second. When a person asks,
control sends ``{"ask": "report"}`` or ``{"ask": "connections"}``; the answer says in ``answers``
which it is: the counters, with the bytes of open relays, or ``{"connections": […], "total": n}``.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

from dconnect.core.limits import BUS_MESSAGE_BYTES

_LENGTH = struct.Struct("!I")

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """One framed message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> Message:
    """The next message.

    Raises: EOFError at the end of the stream, ValueError for what is not a message.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > BUS_MESSAGE_BYTES:
        raise ValueError("a bus message is larger than its bound")
    message = json.loads(await reader.readexactly(length))
    if not isinstance(message, dict):
        raise ValueError("a bus message is not an object")  # noqa: TRY004 - bytes from a peer, not an argument
    return message
