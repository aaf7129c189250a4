"""A SOCKS4 or 4a client, from request to relay (``wire/socks4`` names the sources)."""

from __future__ import annotations

from dconnect.core.address import IPAddress
from dconnect.core.errors import MalformedMessage
from dconnect.core.events import Session
from dconnect.core.failure import SOCKS4_REJECTED, Failure
from dconnect.proxy.door import Door
from dconnect.proxy.socks import UNAUTHORIZED, look_up, tunnel
from dconnect.proxy.stream import Stream
from dconnect.proxy.wire import socks4


async def serve_socks4(door: Door, client: Stream, session: Session) -> None:
    """Serve one connection. One code tells every failure; which it was stands in the log."""
    session.front = "socks4"
    try:
        command, target = await client.parse(socks4.parse_request)
    except MalformedMessage:
        await client.farewell(socks4.reply(SOCKS4_REJECTED))
        raise
    client.channel.deadline(None)
    if door.accepts is not None:
        session.outcome = UNAUTHORIZED
        session.detail = "The front door wants a password, which SOCKS4 has no place for; use SOCKS5 (socks5h://)."
        await client.farewell(socks4.reply(SOCKS4_REJECTED))
        return
    match command:
        case socks4.CONNECT:
            await tunnel(door, client, session, target, _granted, _failed)
        case socks4.RESOLVE:
            await look_up(door, client, session, target.host, _granted, _failed, versions=(4,))
        case _:
            name = "BIND" if command == 2 else f"command {command}"
            session.outcome, session.detail = "unsupported", f"SOCKS4 {name} is not supported."
            await client.farewell(socks4.reply(SOCKS4_REJECTED))


def _granted(bound: tuple[IPAddress, int]) -> bytes:
    return socks4.reply(socks4.GRANTED, bound)


def _failed(_: Failure) -> bytes:
    return socks4.reply(SOCKS4_REJECTED)
