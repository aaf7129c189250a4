"""What the agent's own API says to a path or method that it does not have: a page to people, a line to programs."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from dconnect.proxy import pages
from dconnect.proxy.wire import http1

_PLACES = (
    'The agent\'s own pages: <a href="/">/</a>, <a href="/api/v1/status">/api/v1/status</a>, '
    '<a href="/api/v1/names">/api/v1/names</a>, <a href="/api/v1/connections">/api/v1/connections</a>, '
    '<a href="/proxy.pac">/proxy.pac</a>, <a href="/metrics">/metrics</a>, <a href="/healthz">/healthz</a>.'
)


@web.middleware
async def missing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put 404 and 405 in our own words; other answers pass."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        status, headers = error.status, {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    path = request.rel_url.raw_path  # as it was sent: without control characters
    sentence = f"The agent has no page {path}; docs/api.md lists those it has."
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        sentence = f"The agent has no method {request.method} for {path}; its API can only be read, with GET."
    headers |= {"Cache-Control": "no-store", "Content-Type": "text/plain; charset=utf-8"}
    body = sentence.encode(errors="replace") + b"\n"
    if http1.prefers_html(list(request.raw_headers)):
        headers |= {name.decode(): value.decode() for name, value in pages.FIELDS}
        body = pages.render(status, sentence, f"{request.method} {request.raw_path}", [_PLACES])
    return web.Response(status=status, body=body, headers=headers)
