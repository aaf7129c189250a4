"""HTTP/1.1 message heads (RFC 9112), as a proxy reads, changes and writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import MAX_HEAD_BYTES

Fields = list[tuple[bytes, bytes]]
"""Field lines in order, names in the sender's case, values without surrounding blanks."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.([0-9])\Z")  # RFC 9112 §3
_OTHER_VERSION = re.compile(rb"[^\x00\r\n]* HTTP/[02-9](?:\.[0-9])?\Z")  # RFC 9112 §2.3
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?\Z")  # RFC 9110 §7.2, no comma
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([^\x00\r\n]*))?\Z")  # RFC 9112 §4
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):([^\x00\r\n]*)\Z")  # RFC 9112 §5, RFC 9110 §5.5
_WEIGHT = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")  # RFC 9110 §12.4.2
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")  # RFC 9112 §2.2: ignored before a request
_BLANKS = b" \t"
"""RFC 9110 §5.6.3; cut off by strip, since a regular expression would need quadratic time."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"upgrade",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"proxy-authentication-info",
    )
)
"""RFC 9110 §7.6.1, §11.7. Transfer-Encoding is absent: chunked bodies pass unchanged, framing and all."""


class Body(Enum):
    """How a message's end is found (RFC 9112 §6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """A response that ends with its connection."""


class Unacceptable(MalformedMessage):
    """A request that is refused with another status than 400.

    Attributes:
        status: 414 target too long (RFC 9112 §3), 431 head too large (RFC 6585 §5), 501 a transfer coding that we
            do not know (RFC 9112 §6.1), 505 not HTTP/1 (RFC 9110 §15.6.6).
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class RequestHead:
    """A request line and its fields."""

    method: bytes
    target: bytes
    minor: int
    """0 or 1: the client speaks HTTP/1.0 or 1.1."""
    fields: Fields


@dataclass(slots=True)
class ResponseHead:
    """A status line and its fields."""

    status: int
    reason: bytes
    minor: int
    fields: Fields


def parse_request(buffer: bytearray) -> tuple[RequestHead, int] | None:
    """Parse a request head.

    Returns: (head, bytes consumed), or None when more bytes are needed.
    Raises:  Unacceptable: no end within MAX_HEAD_BYTES, another version of HTTP.
             MalformedMessage: what RFC 9112 says to answer with 400: a bad request line, white space
             before a colon, obs-fold, control characters in a value.
    """
    empty = _EMPTY_LINES.match(buffer, 0, MAX_HEAD_BYTES)
    split = _split(buffer, empty.end() if empty else 0)
    if split is None:
        return None
    line, fields, end = split
    match = _REQUEST_LINE.match(line)
    if match is None:
        if _OTHER_VERSION.match(line):
            raise Unacceptable(505, "This proxy speaks HTTP/1.1 and HTTP/1.0.")
        raise MalformedMessage("The request line is not METHOD TARGET HTTP/1.1.")
    method, target, minor = match.groups()
    return RequestHead(method, target, min(int(minor), 1), fields), end


def parse_response(buffer: bytearray) -> tuple[ResponseHead, int] | None:
    """Parse a response head; the same contract as ``parse_request``."""
    split = _split(buffer, 0)
    if split is None:
        return None
    line, fields, end = split
    match = _STATUS_LINE.match(line)
    if match is None:
        raise MalformedMessage("The server's status line is not HTTP/1.1 and three digits.")
    minor, status, reason = match.groups()
    return ResponseHead(int(status), reason or b"", min(int(minor), 1), fields), end


def _split(buffer: bytearray, start: int) -> tuple[bytes, Fields, int] | None:
    end = buffer.find(b"\r\n\r\n", start, MAX_HEAD_BYTES)
    if end < 0:
        if len(buffer) >= MAX_HEAD_BYTES:
            if buffer.find(b"\r", start) < 0 and len(buffer) > start:
                raise Unacceptable(414, f"The request's target is longer than {MAX_HEAD_BYTES // 1024} KiB.")
            raise Unacceptable(431, f"The message head is larger than {MAX_HEAD_BYTES // 1024} KiB.")
        if b"\n\n" in buffer or buffer.startswith(b"\n", start):
            raise MalformedMessage("Lines of a message head must end with CRLF.")
        return None
    line, *rest = bytes(buffer[start:end]).split(b"\r\n")
    return line, [_field(text) for text in rest], end + 4


def _field(text: bytes) -> tuple[bytes, bytes]:
    match = _FIELD_LINE.match(text)
    if match is None:
        raise MalformedMessage("A header line is not NAME: VALUE.")
    return match[1], match[2].strip(_BLANKS)


def values(fields: Fields, name: bytes) -> list[bytes]:
    """Every value of a field, name compared without case; ``name`` must be lower case."""
    return [value for key, value in fields if key.lower() == name]


def tokens(fields: Fields, name: bytes) -> list[bytes]:
    """The comma-separated members of a field, lower case, empty ones dropped (RFC 9110 §5.6.1)."""
    members = (member.strip(_BLANKS).lower() for value in values(fields, name) for member in value.split(b","))
    return [member for member in members if member]


def request_body(head: RequestHead) -> tuple[Body, int]:
    """How a request's body is framed, and its length where that is known (RFC 9112 §6.1 to §6.3).

    Raises: MalformedMessage: ambiguous framing, which request smuggling lives from.
    """
    if values(head.fields, b"transfer-encoding"):
        if values(head.fields, b"content-length"):
            raise MalformedMessage("The request has both Content-Length and Transfer-Encoding.")
        codings = tokens(head.fields, b"transfer-encoding")
        if head.minor == 1 and codings[-1:] == [b"chunked"] and b"chunked" not in codings[:-1] and len(codings) > 1:
            raise Unacceptable(501, "The proxy knows no transfer coding but chunked.")
        if head.minor == 0 or codings != [b"chunked"]:
            raise MalformedMessage("The request's Transfer-Encoding is not chunked.")
        return Body.CHUNKED, 0
    length = _content_length(head.fields)
    return (Body.LENGTH, length) if length else (Body.NONE, 0)


def response_body(method: bytes, head: ResponseHead) -> tuple[Body, int]:
    """How a response's body is framed, and its length where that is known (RFC 9112 §6.3).

    Raises: MalformedMessage: contradicting lengths, or a coding that hides the end.
    """
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return Body.NONE, 0
    if values(head.fields, b"transfer-encoding"):
        if values(head.fields, b"content-length"):
            raise MalformedMessage("The response has both Content-Length and Transfer-Encoding.")
        if tokens(head.fields, b"transfer-encoding") != [b"chunked"]:  # we ask for no other (RFC 9112 §7.4)
            raise MalformedMessage("The response's Transfer-Encoding is not chunked.")
        return Body.CHUNKED, 0
    if not values(head.fields, b"content-length"):
        return Body.CLOSE, 0
    return Body.LENGTH, _content_length(head.fields)


def _content_length(fields: Fields) -> int:
    lengths = values(fields, b"content-length")
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:  # equal ones too: we would have to rewrite
        raise MalformedMessage("Content-Length is not one number.")
    return int(lengths[0])


def check_host(head: RequestHead) -> None:
    """Refuse any number of Host fields but one, and what is no host; HTTP/1.0 needs none (RFC 9112 §3.2).

    Raises: MalformedMessage.
    """
    hosts = values(head.fields, b"host")
    if len(hosts) > 1 or (not hosts and head.minor == 1) or not all(map(_HOST.match, hosts)):
        raise MalformedMessage("A request needs exactly one Host header, with a host in it.")


def prefers_html(fields: Fields) -> bool:
    """Whether a client names text/html and likes plain text no better: a person's browser (RFC 9110 §12.5.1)."""
    weights = {b"text/html": 0.0}
    for member in tokens(fields, b"accept"):
        kind, *parameters = (part.strip(_BLANKS) for part in member.split(b";"))
        weight = next((text[2:] for text in parameters if text.startswith(b"q=")), b"1")
        weights[kind] = float(weight) if _WEIGHT.match(weight) else 0.0
    plain = next((weights[kind] for kind in (b"text/plain", b"text/*", b"*/*") if kind in weights), 0.0)
    return weights[b"text/html"] > 0 and weights[b"text/html"] >= plain


def max_forwards(head: RequestHead) -> int | None:
    """How many more times an OPTIONS or TRACE may be forwarded, if it says so (RFC 9110 §7.6.2).

    Raises: MalformedMessage: not one number.
    """
    found = values(head.fields, b"max-forwards")
    if not found or head.method not in (b"OPTIONS", b"TRACE"):
        return None
    if len(found) > 1 or not found[0].isdigit() or len(found[0]) > 9:
        raise MalformedMessage("Max-Forwards is not one number.")
    return int(found[0])


def upgrade_of(fields: Fields) -> bytes:
    """The protocol that a message asks or agrees to switch to, or empty (RFC 9110 §7.8)."""
    if b"upgrade" in tokens(fields, b"connection"):
        return b", ".join(values(fields, b"upgrade"))
    return b""


def forwarded_request(head: RequestHead, path: bytes, host: bytes, *, keep_alive: bool) -> bytes:
    """The head that a proxy sends on (RFC 9110 §7.6, RFC 9112 §3.2.2).

    Args:
        head: as the client sent it.
        path: the target in origin-form.
        host: regenerated from the target; whatever Host the client sent is ignored.
        keep_alive: whether we may use the connection again.
    """
    kept = _end_to_end(head.fields, {b"host"})
    left = max_forwards(head)
    if left is not None:
        kept = [field for field in kept if field[0].lower() != b"max-forwards"]
        kept.append((b"Max-Forwards", b"%d" % max(0, left - 1)))
    upgrade = upgrade_of(head.fields) if head.minor == 1 else b""  # RFC 9110 §7.8: not of an HTTP/1.0 client
    connection = b"Upgrade" if upgrade else b"keep-alive" if keep_alive else b"close"
    fields = [(b"Host", host), *kept, (b"Via", b"1.%d dconnect" % head.minor), (b"Connection", connection)]
    if upgrade:
        fields.append((b"Upgrade", upgrade))
    return write_head(b"%s %s HTTP/1.1" % (head.method, path), fields)


def forwarded_response(head: ResponseHead, *, keep_alive: bool, dechunk: bool = False) -> bytes:
    """The response head that a proxy sends back.

    Args:
        head: as the server sent it.
        keep_alive: whether the client may send another request on its connection.
        dechunk: the client speaks HTTP/1.0 and gets the payload bare, ended by close.
    """
    drop = {b"transfer-encoding", b"trailer"} if dechunk else set[bytes]()
    if head.status < 200 or head.status == 204:  # they have no body, whoever believes otherwise (RFC 9110 §8.6)
        drop = {b"transfer-encoding", b"content-length"}
    kept = _end_to_end(head.fields, drop)
    upgrade = upgrade_of(head.fields) if head.status == 101 else b""
    connection = b"Upgrade" if upgrade else b"keep-alive" if keep_alive else b"close"
    fields = [*kept, (b"Via", b"1.%d dconnect" % head.minor), (b"Connection", connection)]
    if upgrade:
        fields.append((b"Upgrade", upgrade))
    return write_head(b"HTTP/1.1 %d %s" % (head.status, head.reason), fields)


def _end_to_end(fields: Fields, drop: set[bytes]) -> Fields:
    named = set(tokens(fields, b"connection")) - {b"transfer-encoding", b"content-length", b"host"}
    gone = _HOP_BY_HOP | named | drop
    return [(name, value) for name, value in fields if name.lower() not in gone]


def write_head(line: bytes, fields: Fields) -> bytes:
    """Serialise a start line and fields."""
    return b"\r\n".join((line, *(name + b": " + value for name, value in fields), b"", b""))
