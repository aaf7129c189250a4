"""One forwarded HTTP request and its response.

The request body and the response travel at the same time: a server may answer, or ask for the
body with 100 (Continue), before the body is there. When a server answers for good while the body
is still coming, neither connection can be used again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from dconnect.core.address import Target
from dconnect.core.errors import DialError, MalformedMessage
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.limits import BODY_BUFFER_BYTES, MAX_INTERIM_RESPONSES, RESPONSE_SECONDS
from dconnect.core.tasks import Tasks
from dconnect.proxy.door import Door
from dconnect.proxy.fiber import Gone
from dconnect.proxy.leaving import Leaving
from dconnect.proxy.poller import Channel
from dconnect.proxy.stream import Stream
from dconnect.proxy.upstreams import Upstreams
from dconnect.proxy.wire import http1
from dconnect.proxy.wire.chunked import ChunkScanner
from dconnect.proxy.wire.http1 import Body


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. ``target`` None is the agent itself."""

    target: Target | None
    path: bytes
    """The target in origin-form."""
    host: bytes
    """The Host to send."""


_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class _Stale(Exception):
    """A kept-alive server connection turned out to be dead before it answered."""


class Exchange:
    """Carries one request to its server and the response back."""

    def __init__(self, door: Door, client: Stream, session: Session, head: http1.RequestHead, route: Route) -> None:
        self._door = door
        self._client = client
        self._session = session
        self._head = head
        self._route = route
        self._framing = http1.request_body(head)
        self._fault: OSError | Gone | MalformedMessage | None = None
        """What the client did wrong while sending its body, or that it left."""

    async def run(self, upstreams: Upstreams) -> bool:
        """Do it; True when the client's connection may carry another request.

        Raises: DialError and MalformedMessage while nothing was answered yet; Gone and OSError when
            the client left.
        """
        target = self._route.target
        stream = await upstreams.reuse(target)
        if stream is not None:
            self._session.address = _peer(stream)
            try:
                return await self._attempt(upstreams, stream, reused=True)
            except _Stale:
                pass
        stream = await upstreams.open(target, self._session)
        return await self._attempt(upstreams, stream, reused=False)

    async def _attempt(self, upstreams: Upstreams, upstream: Stream, *, reused: bool) -> bool:
        head, route, framing = self._head, self._route, self._framing
        tasks = Tasks()
        kept = False
        leaving = Leaving(self._client.channel, lambda: self._left(upstream.channel))
        try:
            leaving.watch(asks=head.minor == 1)
            upload = None
            try:
                await upstream.channel.send(http1.forwarded_request(head, route.path, route.host, keep_alive=True))
                if framing[0] is not Body.NONE:
                    upload = tasks.start(self._upload(upstream.channel, framing), "request body")
                response = await self._response(upstream)
            except (OSError, Gone, TimeoutError, MalformedMessage) as error:
                # A repeated request must be safe to repeat: nothing of a body may have left (RFC 9110 §9.2.2).
                unanswered = not isinstance(error, TimeoutError | MalformedMessage) and not upstream.buffer
                unanswered = unanswered and self._fault is None
                if reused and unanswered and framing[0] is Body.NONE and head.method in _IDEMPOTENT:
                    raise _Stale from None
                raise self._no_response(error) from None
            leaving.answered()
            if response.status == 101:
                if not self._asked_for(response) or (upload is not None and not upload.done()):
                    # What the client sends next is a request, maybe to another host: not for this server's eyes.
                    raise DialError(Failure.GENERAL, f"{self._session.target} switched protocols without being asked.")
                leaving.end()  # the relay sees for itself
                await self._switch(upstream, response)
                kept = True
                return False
            again, kept = await self._download(upstream, response)
            if upload is not None and not (upload.done() and upload.result()):
                again = kept = False  # the rest of the body would be taken for the next request
            if kept:
                upstreams.keep(route.target, upstream)
            return again
        finally:
            leaving.end()
            await tasks.cancel()
            if not kept:
                upstream.close()

    def _left(self, upstream: Channel) -> None:
        """The client is gone: nobody needs the answer any more, and the server is told so."""
        self._fault = self._fault or Gone(clean=False)
        upstream.reset()

    def _asked_for(self, response: http1.ResponseHead) -> bool:
        """Whether the client offered what the server switches to (RFC 9110 §7.8)."""
        offered = http1.tokens(self._head.fields, b"upgrade") if http1.upgrade_of(self._head.fields) else []
        chosen = http1.tokens(response.fields, b"upgrade")
        return self._head.minor == 1 and bool(chosen) and set(chosen) <= set(offered)

    async def _response(self, upstream: Stream) -> http1.ResponseHead:
        """The final response head; interim ones are passed on (RFC 9110 §15.2), not to HTTP/1.0 clients."""
        for _ in range(MAX_INTERIM_RESPONSES):
            upstream.channel.deadline(RESPONSE_SECONDS)
            response = await upstream.parse(http1.parse_response)
            upstream.channel.deadline(None)
            if response.status >= 200 or response.status == 101:
                return response
            if self._head.minor == 1:
                await self._client.channel.send(http1.forwarded_response(response, keep_alive=True))
        raise MalformedMessage("interim responses without end.")

    def _no_response(self, error: Exception) -> DialError | MalformedMessage | Gone:
        if self._fault is not None:
            return self._fault if isinstance(self._fault, MalformedMessage) else Gone(clean=False)
        target = self._session.target
        match error:
            case TimeoutError():
                return DialError(Failure.TIMEOUT, f"{target} accepted the request and did not answer it in time.")
            case MalformedMessage():
                return DialError(Failure.GENERAL, f"{target} sent a response that is not HTTP: {error}")
            case _:
                return DialError(Failure.GENERAL, f"{target} closed the connection without answering the request.")

    async def _switch(self, upstream: Stream, response: http1.ResponseHead) -> None:
        """101: both sides now speak something else, so the rest is a relay."""
        client = self._client
        await client.channel.send(http1.forwarded_response(response, keep_alive=True) + upstream.buffer)
        if client.buffer:
            await upstream.channel.send(client.buffer)
        self._session.status = 101
        self._session.bytes_up, self._session.bytes_down = len(client.buffer), len(upstream.buffer)
        self._door.relay(client, upstream.channel, self._session)

    async def _download(self, upstream: Stream, response: http1.ResponseHead) -> tuple[bool, bool]:
        """Pass the response on. Returns (client connection reusable, server connection reusable)."""
        session, client, head = self._session, self._client.channel, self._head
        session.status = response.status
        try:
            framing = http1.response_body(head.method, response)
        except MalformedMessage as error:
            raise self._no_response(error) from None
        dechunk = framing[0] is Body.CHUNKED and head.minor == 0
        asked = (*http1.tokens(head.fields, b"connection"), *http1.tokens(head.fields, b"proxy-connection"))
        again = head.minor == 1 and b"close" not in asked and framing[0] is not Body.CLOSE
        try:
            await client.send(http1.forwarded_response(response, keep_alive=again, dechunk=dechunk))
            async for data in _body(upstream, framing, dechunk=dechunk):
                session.bytes_down += len(data)
                await client.send(data)
        except (OSError, Gone, TimeoutError, MalformedMessage) as error:
            # The response is cut short; a polite FIN would make it look complete.
            session.outcome, session.detail = "cut", f"The response ended early: {error}."
            if self._fault is not None:
                session.outcome, session.detail = "gone", "The client left before its response was complete."
            client.reset()
            return False, False
        session.outcome = "ok"
        closing = b"close" in http1.tokens(response.fields, b"connection")
        return again, framing[0] is not Body.CLOSE and response.minor == 1 and not closing

    async def _upload(self, upstream: Channel, framing: tuple[Body, int]) -> bool:
        """Pass the request body on; True when all of it went."""
        try:
            async for data in _body(self._client, framing, dechunk=False):
                self._session.bytes_up += len(data)
                try:
                    await upstream.send(data)
                except OSError:
                    return False  # the server took no more; it may have answered why
        except (OSError, Gone, MalformedMessage) as error:
            self._fault = error
            upstream.reset()  # the server must not take an incomplete body for whole
            return False
        return True


async def _body(
    source: Stream, framing: tuple[Body, int], *, dechunk: bool
) -> AsyncGenerator[bytes | memoryview, None]:
    """The bytes of a message body as framed, or its bare payload.

    Raises: Gone, TimeoutError, OSError, MalformedMessage.
    """
    kind, left = framing
    if kind is Body.LENGTH:
        while left:
            data = await source.body_bytes(left, RESPONSE_SECONDS)
            left -= len(data)
            yield data
    elif kind is Body.CLOSE:
        with contextlib.suppress(Gone):
            while True:
                yield await source.body_bytes(BODY_BUFFER_BYTES, RESPONSE_SECONDS)
    elif kind is Body.CHUNKED:
        scanner = ChunkScanner()
        while not scanner.done:
            data = await source.body_bytes(BODY_BUFFER_BYTES, RESPONSE_SECONDS)
            used, payload = scanner.feed(data)
            source.push_back(data[used:])
            for part in payload if dechunk else (data[:used],):
                yield part


def _peer(stream: Stream) -> str:
    try:
        name = stream.channel.sock.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else "the agent"
