"""An HTTP proxy client: CONNECT tunnels, absolute-form requests, and origin-form ones that are ours.

One client connection may carry many requests, each naming another host (RFC 9112 §9.3); server
connections are kept per destination while the client stays, and used again only while the name
still leads to the same address.
"""

from __future__ import annotations

from http import HTTPStatus

from dconnect.core.address import parse_authority
from dconnect.core.errors import DialError, MalformedMessage, UsageError
from dconnect.core.events import Session
from dconnect.core.failure import PROXY_ERRORS
from dconnect.core.limits import HANDSHAKE_SECONDS, KEEP_ALIVE_SECONDS
from dconnect.proxy import auth, link
from dconnect.proxy.door import Door
from dconnect.proxy.exchange import Exchange, Route
from dconnect.proxy.fiber import Gone
from dconnect.proxy.refusal import Refusal
from dconnect.proxy.socks import UNAUTHORIZED
from dconnect.proxy.stream import Stream
from dconnect.proxy.upstreams import Upstreams
from dconnect.proxy.wire import http1

_SCHEMES = {b"http": 80, b"ws": 80}


_METHODS = b"GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH"
"""What we tell of ourselves; others are forwarded as well (RFC 9110 §10.2.1)."""
_SENSITIVE = frozenset((b"authorization", b"proxy-authorization", b"cookie"))
"""Not sent back by TRACE (RFC 9110 §9.3.8)."""


class Answer(Exception):
    """A request is answered by us, as its final recipient (RFC 9110 §7.6.2)."""

    def __init__(self, status: int, fields: http1.Fields, body: bytes = b"") -> None:
        super().__init__("answered by the proxy itself")
        self.status = status
        self.response = http1.write_head(
            b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()), [*fields, (b"Connection", b"close")]
        )
        self.response += body


async def serve_http(door: Door, client: Stream, session: Session) -> None:
    """Serve one client connection until either side is done with it."""
    upstreams = Upstreams(door.dial)
    patience = HANDSHAKE_SECONDS
    try:
        while await _serve_one(door, client, upstreams, session, patience):
            door.ended(session)
            session = door.session(client)
            patience = KEEP_ALIVE_SECONDS
        if not client.relayed:
            await client.farewell(b"")
    except (Gone, OSError):
        if session.outcome == "open":
            session.outcome = "gone"
            session.detail = session.detail or "The client left before its request was answered."
    finally:
        upstreams.close()
        if not client.relayed:
            door.ended(session)


async def _serve_one(door: Door, client: Stream, upstreams: Upstreams, session: Session, patience: float) -> bool:
    """One request; True when the connection may carry another."""
    head: http1.RequestHead | None = None
    why: http1.Fields = []
    try:
        head = await _read_head(client, session, patience)
        if head is None:
            return False
        session.front = "connect" if head.method == b"CONNECT" else "http"
        http1.check_host(head)
        if head.method == b"CONNECT":
            auth.check_proxied(head, door.accepts)
            await _tunnel(door, client, head, session)
            return False
        route = route_of(head, door.hosts)
        if route.target is None and route.path == link.PATH:
            session.front, session.target = "link", "dconnect"
            door.link(link.check(head, door.links), client, session)
            return False
        (auth.check_proxied if route.target is not None else auth.check_own)(head, door.accepts)
        if route.target is not None and http1.max_forwards(head) == 0:
            raise _last_stop(head)
        session.target = str(route.target) if route.target else f"dconnect{route.path.decode('ascii', 'replace')}"
        return await Exchange(door, client, session, head, route).run(upstreams)
    except Answer as answer:
        session.outcome, session.status = "ok", answer.status
        await client.channel.send(answer.response)
        return False
    except auth.Challenge as challenge:
        session.outcome, session.status, session.detail = UNAUTHORIZED, challenge.status, str(challenge)
        await client.channel.send(challenge.response)
        return challenge.again
    except Refusal as error:
        status, sentence, why = error.status, str(error), error.fields
        session.outcome = error.outcome
    except DialError as error:
        status, sentence = error.failure.value.http_status, str(error)
        session.outcome = error.failure.name.lower()
        if not session.connect:  # RFC 9209 §2.3; what went wrong later has other words
            why = [(b"Proxy-Status", b"dconnect; error=" + PROXY_ERRORS[error.failure].encode())]
    except http1.Unacceptable as error:
        status, sentence = error.status, str(error)
        session.outcome = "malformed"
    except MalformedMessage as error:
        status, sentence = 400, str(error)
        session.outcome = "malformed"
    session.status, session.detail = status, sentence
    page = await _page(door, head, session)
    await client.channel.send(error_response(status, sentence, head, why, page))
    return False


async def _page(door: Door, head: http1.RequestHead | None, session: Session) -> tuple[http1.Fields, bytes] | None:
    """The same for a person, if the client wants it; else None."""
    if head is None or not http1.prefers_html(head.fields):
        return None
    from dconnect.proxy import pages  # noqa: PLC0415 - programs never need it

    return await pages.failure_page(door, head, session)


async def _read_head(client: Stream, session: Session, patience: float) -> http1.RequestHead | None:
    """The next request head; None when the client left or stayed idle between two requests."""
    session.outcome = "idle"
    try:
        client.channel.deadline(patience)
        head = await client.parse(http1.parse_request)
    except TimeoutError:
        if client.buffer:
            raise Refusal(408, "The request head did not arrive in time.") from None
        return None
    except Gone as error:
        if not error.clean:
            session.outcome, session.detail = "malformed", "The client left in the middle of a request head."
        return None
    finally:
        client.channel.deadline(None)
    session.outcome = "open"
    return head


async def _tunnel(door: Door, client: Stream, head: http1.RequestHead, session: Session) -> None:
    """CONNECT (RFC 9110 §9.3.6): a 2xx carries no framing fields; bytes after the head are the tunnel's."""
    try:
        target = parse_authority(head.target.decode("ascii"))
    except (UsageError, UnicodeDecodeError):
        raise Refusal(400, "CONNECT needs a target of the form host:port.") from None
    if http1.request_body(head)[0] is not http1.Body.NONE:  # what comes next is the tunnel's, whatever these say
        raise Refusal(400, "CONNECT has no body, so neither Content-Length nor Transfer-Encoding.")
    session.target = str(target)
    upstream = await door.dial(target, session)
    try:
        await client.channel.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if client.buffer:
            await upstream.send(client.buffer)
    except BaseException:
        upstream.close()
        raise
    session.status, session.bytes_up = 200, len(client.buffer)
    door.relay(client, upstream, session)


def _last_stop(head: http1.RequestHead) -> Answer:
    """What the final recipient of OPTIONS or TRACE says (RFC 9110 §9.3.7, §9.3.8)."""
    if head.method == b"OPTIONS":
        return Answer(204, [(b"Allow", _METHODS)])
    shown = [field for field in head.fields if field[0].lower() not in _SENSITIVE]
    body = http1.write_head(b"TRACE %s HTTP/1.%d" % (head.target, head.minor), shown)
    return Answer(200, [(b"Content-Type", b"message/http"), (b"Content-Length", b"%d" % len(body))], body)


def route_of(head: http1.RequestHead, ours: frozenset[str]) -> Route:
    """Decide where a request goes from its target and Host.

    Absolute-form is proxying (RFC 9112 §3.2.2: Host is ignored and regenerated). Origin-form is for
    us, and only with a Host that names us: otherwise a web page whose name is rebound to our address
    could talk to our API.

    Raises: Refusal 400 for what has no meaning here, 421 for another site's Host; Answer for ``OPTIONS *``.
    """
    hosts = http1.values(head.fields, b"host")
    scheme, separator, rest = head.target.partition(b"://")
    if separator and not head.target.startswith(b"/"):
        return _absolute(head, scheme, rest)
    asterisk = head.method == b"OPTIONS" and head.target == b"*"  # RFC 9112 §3.2.4
    if not head.target.startswith(b"/") and not asterisk:
        raise Refusal(400, "The request target is neither a path nor an absolute http:// URL.")
    try:
        asked = parse_authority(hosts[0].decode("ascii"), default_port=80) if len(hosts) == 1 else None
    except (UsageError, UnicodeDecodeError):
        asked = None
    if asked is None or asked.host not in ours:
        raise Refusal(
            421, "This is the dconnect proxy, not the site you asked for; configure it as a proxy to reach containers."
        )
    if asterisk:
        raise Answer(204, [(b"Allow", _METHODS)])
    return Route(None, head.target, hosts[0])


def _absolute(head: http1.RequestHead, scheme: bytes, rest: bytes) -> Route:
    port = _SCHEMES.get(scheme.lower())
    if port is None:
        name = scheme.decode("ascii", "replace")
        raise Refusal(400, f"The proxy forwards http:// URLs; a client tunnels {name}:// with CONNECT.")
    end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    try:
        target = parse_authority(authority.decode("ascii"), default_port=port)
    except (UsageError, UnicodeDecodeError):
        raise Refusal(400, "The URL has no usable host.") from None
    if not path.startswith(b"/"):
        path = b"*" if head.method == b"OPTIONS" and not path else b"/" + path
    return Route(target, path, authority)


def error_response(
    status: int,
    sentence: str,
    head: http1.RequestHead | None,
    why: http1.Fields | None = None,
    page: tuple[http1.Fields, bytes] | None = None,
) -> bytes:
    """A whole error response; the connection ends after it.

    Its body is the sentence, unless there is a page for a person. ``why`` is for programs.
    """
    described, body = page or ([(b"Content-Type", b"text/plain; charset=utf-8")], sentence.encode() + b"\n")
    fields = [
        *described,
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
        (b"Connection", b"close"),
        *(why or ()),
    ]
    if head is not None and head.method == b"HEAD":
        body = b""
    return http1.write_head(b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()), fields) + body
