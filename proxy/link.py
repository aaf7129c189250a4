"""The one request that opens a link of the transparent mode (docs/link.md): ours, upgraded, with the right token.

    GET /api/v1/link HTTP/1.1
    Connection: Upgrade
    Upgrade: dconnect-link/1
    Authorization: Bearer <token>          RFC 6750 §2.1; the front door's own password is another one

Whoever has the links answers it with 101; what is wrong with it is answered here.
"""

from __future__ import annotations

from dconnect.proxy.door import Links
from dconnect.proxy.refusal import Refusal
from dconnect.proxy.socks import UNAUTHORIZED
from dconnect.proxy.wire import http1

PATH = b"/api/v1/link"
PROTOCOL = b"dconnect-link/1"


def check(head: http1.RequestHead, links: Links | None) -> Links:
    """Whoever takes the client, whose request has nothing wrong with it.

    Raises: Refusal.
    """
    if links is None:
        raise Refusal(503, "The agent has no tunnel; start it with: dconnect up --tun", outcome="not_ready")
    if head.method != b"GET" or http1.request_body(head)[0] is not http1.Body.NONE:
        raise Refusal(400, "A link is asked for with GET and without a body.")
    asked = http1.upgrade_of(head.fields) if head.minor == 1 else b""  # RFC 9110 §7.8: HTTP/1.0 cannot upgrade
    if not asked or PROTOCOL not in http1.tokens(head.fields, b"upgrade"):
        raise Refusal(
            426,
            f"A link speaks {PROTOCOL.decode()}, which the request does not offer; update the older of the two.",
            [(b"Upgrade", PROTOCOL), (b"Connection", b"Upgrade")],  # RFC 9110 §15.5.22
        )
    given = http1.values(head.fields, b"authorization")
    scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not links.opens(token.strip(b" ")):
        raise Refusal(
            401,
            "The link's token is missing or wrong; only the user who ran `dconnect up --tun` has it.",
            [(b"WWW-Authenticate", b'Bearer realm="dconnect"')],
            UNAUTHORIZED,
        )
    return links
