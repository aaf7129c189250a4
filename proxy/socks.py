"""A SOCKS client, from greeting to relay (RFC 1928)."""

from __future__ import annotations

from ipaddress import IPv4Address

from dconnect.core.address import IPAddress, Target, parse_ip
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import Session
from dconnect.core.failure import SOCKS4_REJECTED
from dconnect.proxy.door import Door
from dconnect.proxy.poller import Channel
from dconnect.proxy.stream import Stream
from dconnect.proxy.wire import socks5

_COMMANDS = {socks5.BIND: "BIND"}


async def serve_socks5(door: Door, client: Stream, session: Session) -> None:
    """Serve one SOCKS5 connection; the reply to CONNECT is sent after the connect, with its true outcome."""
    session.front = "socks5"
    target = await _handshake(door, client, session)
    client.channel.deadline(None)
    if target is None:
        return
    session.target = str(target)
    try:
        upstream = await door.dial(target, session)
    except DialError as error:
        session.outcome, session.detail = error.failure.name.lower(), str(error)
        await client.farewell(socks5.reply(error.failure.value.socks5_rep))
        return
    try:
        await client.channel.send(socks5.reply(socks5.SUCCEEDED, _bound(upstream)))
        if client.buffer:  # the client sent data along with its request
            await upstream.send(client.buffer)
    except BaseException:
        upstream.close()
        raise
    session.bytes_up = len(client.buffer)
    door.relay(client, upstream, session)


async def associate(door: Door, client: Stream, session: Session) -> None:
    """Answer UDP ASSOCIATE (RFC 1928 §4). Where the client will send from is not asked: relays on its way change it."""
    session.front = "associate"
    try:
        door.associate(client, session)
    except DialError as error:
        session.outcome, session.detail = error.failure.name.lower(), str(error)
        await client.farewell(socks5.reply(error.failure.value.socks5_rep))


async def _handshake(door: Door, client: Stream, session: Session) -> Target | None:
    """Method selection and request; None when the client was refused."""
    methods = await client.parse(socks5.parse_greeting)
    if socks5.NO_AUTHENTICATION not in methods:
        session.outcome, session.detail = "no method", "The client does not offer SOCKS5 without authentication."
        await client.farewell(socks5.greeting_reply(socks5.NO_ACCEPTABLE_METHOD))
        return None
    await client.channel.send(socks5.greeting_reply(socks5.NO_AUTHENTICATION))
    try:
        request = await client.parse(socks5.parse_request)
    except MalformedMessage:
        await client.farewell(socks5.reply(socks5.GENERAL_FAILURE))
        raise
    if request.command == socks5.UDP_ASSOCIATE and request.target is not None:
        await associate(door, client, session)
        return None
    if request.command not in (socks5.CONNECT, socks5.UDP_ASSOCIATE):
        name = _COMMANDS.get(request.command, f"command {request.command}")
        session.outcome, session.detail = "unsupported", f"SOCKS5 {name} is not supported."
        await client.farewell(socks5.reply(socks5.COMMAND_NOT_SUPPORTED))
        return None
    if request.target is None:
        session.outcome, session.detail = "unsupported", "The SOCKS5 request has an unknown address type."
        await client.farewell(socks5.reply(socks5.ADDRESS_TYPE_NOT_SUPPORTED))
        return None
    return request.target


async def refuse_socks4(client: Stream, session: Session) -> None:
    """SOCKS4 is recognised and rejected: VN u8 = 0 | CD u8 | six ignored octets."""
    session.front = "socks4"
    session.outcome, session.detail = "unsupported", "SOCKS4 is not supported yet; use SOCKS5 (socks5h://)."
    await client.farewell(bytes((0, SOCKS4_REJECTED)) + bytes(6))


def _bound(upstream: Channel) -> tuple[IPAddress, int]:
    """The local end of the outgoing connection, for BND.ADDR and BND.PORT; zeros for our own API."""
    name = upstream.sock.getsockname()
    address = parse_ip(name[0]) if isinstance(name, tuple) else None
    return (address, name[1]) if address is not None else (IPv4Address(0), 0)
