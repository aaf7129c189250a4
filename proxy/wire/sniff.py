"""The first byte of a connection tells its protocol."""

from __future__ import annotations

from enum import Enum


class Protocol(Enum):
    """What a client speaks."""

    SOCKS5 = "socks5"
    SOCKS4 = "socks4"
    HTTP = "http"
    UNKNOWN = "unknown"


_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CR_LF = frozenset(b"\r\n")


def sniff(first: int) -> Protocol:
    """05 and 04 are SOCKS versions (RFC 1928 §3); a method token (RFC 9110 §5.6.2) or an empty line is HTTP.

    RFC 9112 §2.2: a server should ignore an empty line before the request line.
    """
    if first == 5:
        return Protocol.SOCKS5
    if first == 4:
        return Protocol.SOCKS4
    if first in _TOKEN or first in _CR_LF:
        return Protocol.HTTP
    return Protocol.UNKNOWN
