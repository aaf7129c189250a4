"""A SOCKS5 client, from greeting to relay (RFC 1928, RFC 1929, Tor's socks-extensions.txt)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from dconnect.core.address import IPAddress, Target, parse_ip
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.proxy.door import Accepts, Door
from dconnect.proxy.poller import Channel
from dconnect.proxy.stream import Stream
from dconnect.proxy.wire import socks5

UNAUTHORIZED = "unauthorized"
"""The outcome of a session without the right password."""

_COMMANDS = {socks5.BIND: "BIND"}


async def serve_socks5(door: Door, client: Stream, session: Session) -> None:
    """Serve one SOCKS5 connection."""
    session.front = "socks5"
    request = await _handshake(door, client, session)
    client.channel.deadline(None)
    if request is None:
        return
    command, target = request
    match command:
        case socks5.TRUNK | socks5.MOVE if _is_tunnels(session):
            await _hand_over(door, client, session, command, target)
        case _ if _is_tunnels(session):  # its connections go by the trunk, its packets and names by the link
            await _unsupported(client, session, command)
        case socks5.CONNECT:
            await tunnel(door, client, session, target, _granted, _failed)
        case socks5.UDP_ASSOCIATE:
            await associate(door, client, session)
        case socks5.RESOLVE:
            await _resolve(door, client, session, target)
        case socks5.RESOLVE_PTR:
            await _resolve_ptr(door, client, session, target)
        case _:
            await _unsupported(client, session, command)


async def tunnel(
    door: Door,
    client: Stream,
    session: Session,
    target: Target,
    granted: Callable[[tuple[IPAddress, int]], bytes],
    failed: Callable[[Failure], bytes],
) -> None:
    """CONNECT, in any version of SOCKS; the reply is sent after the connect, with its true outcome."""
    session.target = str(target)
    try:
        upstream = await door.dial(target, session)
    except DialError as error:
        await _tell(client, session, error, failed)
        return
    try:
        await client.channel.send(granted(_bound(upstream)))
        client.channel.ack_at_once()
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
        await _tell(client, session, error, _failed)


async def look_up(
    door: Door,
    client: Stream,
    session: Session,
    host: str,
    granted: Callable[[tuple[IPAddress, int]], bytes],
    failed: Callable[[Failure], bytes],
    versions: tuple[int, ...] = (4, 6),
) -> None:
    """RESOLVE, in any version of SOCKS: one address, which might be dialed, and nothing is connected."""
    session.target = host
    try:
        address = await door.lookup.address(host, versions)
    except DialError as error:
        await _tell(client, session, error, failed)
        return
    session.address, session.outcome = str(address), "ok"
    await client.farewell(granted((address, 0)))


async def _hand_over(door: Door, client: Stream, session: Session, command: int, target: Target) -> None:
    """A trunk, or what a stream of one moves to."""
    assert door.links is not None  # it knows the token
    try:
        key = IPv6Address(target.host).packed
    except ValueError:
        session.outcome, session.detail = "malformed", "The trunk has no key."
        await _refuse(client, session, socks5.ADDRESS_TYPE_NOT_SUPPORTED)
        return
    session.front = "trunk" if command == socks5.TRUNK else "tunnel"
    try:
        door.link(door.links, client, session, key)
    except DialError as error:
        session.failed(error)
        await _refuse(client, session, error.failure.value.socks5_rep)


async def _resolve(door: Door, client: Stream, session: Session, target: Target) -> None:
    await look_up(door, client, session, target.host, _granted, _failed)


async def _resolve_ptr(door: Door, client: Stream, session: Session, target: Target) -> None:
    session.target = target.host
    address = parse_ip(target.host)
    if address is None:
        session.outcome, session.detail = "unsupported", "SOCKS5 RESOLVE_PTR wants an address, not a name."
        await client.farewell(socks5.reply(socks5.ADDRESS_TYPE_NOT_SUPPORTED))
        return
    try:
        name = await door.lookup.name(address)
    except DialError as error:
        await _tell(client, session, error, _failed)
        return
    session.outcome = "ok"
    await client.farewell(socks5.name_reply(name))


async def _unsupported(client: Stream, session: Session, command: int) -> None:
    name = _COMMANDS.get(command, f"command {command}")
    session.outcome, session.detail = "unsupported", f"SOCKS5 {name} is not supported."
    await _refuse(client, session, socks5.COMMAND_NOT_SUPPORTED)


async def _handshake(door: Door, client: Stream, session: Session) -> tuple[int, Target] | None:
    """Method selection, password and request; None when the client was refused."""
    method = await _select_method(door, client, session)
    if method is None:
        return None
    if method == socks5.TUNNEL:
        if not await _knows_the_token(door, client, session):
            return None
    elif door.accepts is not None and not await _signed_in(door.accepts, client, session):
        return None
    try:
        request = await client.parse(socks5.parse_request)
    except MalformedMessage:
        await _refuse(client, session, socks5.GENERAL_FAILURE)
        raise
    if request.target is None:
        session.outcome, session.detail = "unsupported", "The SOCKS5 request has an unknown address type."
        await _refuse(client, session, socks5.ADDRESS_TYPE_NOT_SUPPORTED)
        return None
    return request.command, request.target


async def _select_method(door: Door, client: Stream, session: Session) -> int | None:
    """The one method that we take, if it is among those offered (RFC 1928 §3)."""
    methods = await client.parse(socks5.parse_greeting)
    if socks5.TUNNEL in methods and door.links is not None:
        return socks5.TUNNEL
    method = socks5.NO_AUTHENTICATION if door.accepts is None else socks5.USERNAME_PASSWORD
    if method in methods:
        await client.channel.send(socks5.greeting_reply(method))
        return method
    wanted = "SOCKS5 without authentication" if door.accepts is None else "the password that the front door wants"
    session.outcome, session.detail = "no method", f"The client does not offer {wanted}."
    await client.farewell(socks5.greeting_reply(socks5.NO_ACCEPTABLE_METHOD))
    return None


async def _knows_the_token(door: Door, client: Stream, session: Session) -> bool:
    """Whether a client of the method TUNNEL may use it; it is told together with its request's outcome."""
    _, token = await client.parse(socks5.parse_password)
    if door.links is not None and door.links.opens(token):
        session.front = "tunnel"
        return True
    session.outcome, session.detail = UNAUTHORIZED, "The link's token is wrong."
    await client.farewell(socks5.greeting_reply(socks5.NO_ACCEPTABLE_METHOD))
    return False


async def _signed_in(accepts: Accepts, client: Stream, session: Session) -> bool:
    """Whether the user name and the password are right (RFC 1929)."""
    user, password = await client.parse(socks5.parse_password)
    if accepts(user, password):
        await client.channel.send(socks5.password_reply(right=True))
        return True
    session.outcome, session.detail = UNAUTHORIZED, "The user name or the password is wrong."
    await client.farewell(socks5.password_reply(right=False))
    return False


async def _tell(client: Stream, session: Session, error: DialError, failed: Callable[[Failure], bytes]) -> None:
    session.failed(error)
    await client.farewell(failed(error.failure))


def _is_tunnels(session: Session) -> bool:
    """Whether its client has the tunnel's token, and so knows the method's reply only together with the request's."""
    return session.front in ("tunnel", "trunk")


async def _refuse(client: Stream, session: Session, code: int) -> None:
    """Refuse a request that was not tried; the tunnel's method is told in front of it."""
    method = socks5.greeting_reply(socks5.TUNNEL) if _is_tunnels(session) else b""
    await client.farewell(method + socks5.reply(code))


def _granted(bound: tuple[IPAddress, int]) -> bytes:
    return socks5.reply(socks5.SUCCEEDED, bound)


def _failed(failure: Failure) -> bytes:
    return socks5.reply(failure.value.socks5_rep)


def _bound(upstream: Channel) -> tuple[IPAddress, int]:
    """The local end of the outgoing connection, for BND.ADDR and BND.PORT; zeros for our own API."""
    name = upstream.sock.getsockname()
    address = parse_ip(name[0]) if isinstance(name, tuple) else None
    return (address, name[1]) if address is not None else (IPv4Address(0), 0)
