"""Passwords in HTTP: 407 where we are a proxy (RFC 9110 §11.7), 401 on our own pages (§11.6), both Basic (RFC 7617).

Open to everybody are only the pages of PUBLIC, which browsers and health checks fetch without a person.
"""

from __future__ import annotations

import binascii
from http import HTTPStatus

from dconnect.proxy.door import Accepts
from dconnect.proxy.wire import http1

PUBLIC = frozenset((b"/healthz", b"/proxy.pac", b"/wpad.dat"))
"""Our own pages for health checks and browsers' settings: they tell subnets and label domains, but of no container."""

_CHALLENGE = b'Basic realm="dconnect", charset="UTF-8"'


class Challenge(Exception):
    """The client is asked for its user name and password."""

    def __init__(self, status: int, field: bytes, sentence: str, head: http1.RequestHead) -> None:
        super().__init__(sentence)
        self.status = status
        self.again = _again(head)
        """Whether the connection may carry the next attempt."""
        body = sentence.encode() + b"\n"
        fields = [
            (field, _CHALLENGE),
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Cache-Control", b"no-store"),
            (b"Connection", b"keep-alive" if self.again else b"close"),
        ]
        self.response = http1.write_head(b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()), fields)
        self.response += b"" if head.method == b"HEAD" else body


def check_proxied(head: http1.RequestHead, accepts: Accepts | None) -> None:
    """A request to somewhere else needs the right Proxy-Authorization, which goes no further.

    Raises: Challenge 407.
    """
    if accepts is not None and not _right(head, b"proxy-authorization", accepts):
        raise Challenge(407, b"Proxy-Authenticate", "The proxy wants a user name and a password.", head)


def check_own(head: http1.RequestHead, accepts: Accepts | None) -> None:
    """A request for one of our own pages needs the right Authorization, unless the page is public.

    Raises: Challenge 401.
    """
    if accepts is None or head.target.partition(b"?")[0] in PUBLIC:
        return
    if not _right(head, b"authorization", accepts):
        raise Challenge(401, b"WWW-Authenticate", "The agent wants a user name and a password.", head)


def _right(head: http1.RequestHead, name: bytes, accepts: Accepts) -> bool:
    """Whether the field is there once, and right."""
    given = http1.values(head.fields, name)
    scheme, _, text = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if scheme.lower() != b"basic":
        return False
    try:
        user, colon, password = binascii.a2b_base64(text.strip(b" "), strict_mode=True).partition(b":")
    except binascii.Error:
        return False
    return bool(colon) and accepts(user, password)


def _again(head: http1.RequestHead) -> bool:
    """A body would be taken for the next request, so the connection ends with it; so it does where that was asked."""
    asked = (*http1.tokens(head.fields, b"connection"), *http1.tokens(head.fields, b"proxy-connection"))
    return head.minor == 1 and b"close" not in asked and http1.request_body(head)[0] is http1.Body.NONE
