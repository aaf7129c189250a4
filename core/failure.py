"""The one table of failures: errno → SOCKS5 REP → SOCKS4 code → HTTP status → ICMP.

Four fronts (SOCKS5, SOCKS4, HTTP, the tunnel) tell a client why a destination was not
reached. They all translate from here, so they cannot disagree.

Sources: RFC 1928 §6 (REP), RFC 9110 §15 (status), RFC 792 / RFC 4443 (ICMP codes).
RFC 1928 has no code for a timeout; 06 (TTL expired) is what dante and microsocks send and
what clients print as a timeout.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Outcome:
    """How each front spells one failure."""

    socks5_rep: int
    http_status: int
    icmp: tuple[int, int] | None
    """(type, code) of the ICMPv4 destination-unreachable message; None means TCP RST or silence."""


class Failure(Enum):
    """Why a destination was not reached."""

    REFUSED = Outcome(5, 502, None)
    """The destination answered RST."""
    NETWORK_UNREACHABLE = Outcome(3, 502, (3, 0))
    HOST_UNREACHABLE = Outcome(4, 502, (3, 1))
    TIMEOUT = Outcome(6, 504, None)
    """Nothing answered before the deadline."""
    NAME_UNKNOWN = Outcome(4, 502, (3, 7))
    """Neither a container nor, where egress is allowed, anything else has this name."""
    STOPPED = Outcome(4, 503, (3, 1))
    """The name belongs to a container that is not running."""
    POLICY = Outcome(2, 403, (3, 13))
    NOT_READY = Outcome(1, 503, None)
    """The agent itself cannot dial now: starting, dialer gone, descriptors exhausted."""
    GENERAL = Outcome(1, 502, (3, 1))


PROXY_ERRORS = {
    Failure.REFUSED: "connection_refused",
    Failure.NETWORK_UNREACHABLE: "destination_ip_unroutable",
    Failure.HOST_UNREACHABLE: "destination_ip_unroutable",
    Failure.TIMEOUT: "connection_timeout",
    Failure.NAME_UNKNOWN: "dns_error",
    Failure.STOPPED: "destination_unavailable",
    Failure.POLICY: "destination_ip_prohibited",
    Failure.NOT_READY: "proxy_internal_error",
    Failure.GENERAL: "proxy_internal_error",
}
"""The ``error`` of the HTTP field Proxy-Status (RFC 9209 §2.3): why a destination was not reached, for programs."""

SOCKS4_REJECTED = 0x5B
"""SOCKS4 knows one code for every failure ("request rejected or failed")."""

_BY_ERRNO = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.REFUSED,
    errno.ENETUNREACH: Failure.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: Failure.NOT_READY,
    errno.EAFNOSUPPORT: Failure.NETWORK_UNREACHABLE,
    errno.ENETDOWN: Failure.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Failure.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Failure.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EACCES: Failure.POLICY,
    errno.EPERM: Failure.POLICY,
    errno.EMFILE: Failure.NOT_READY,
    errno.ENFILE: Failure.NOT_READY,
    errno.ENOBUFS: Failure.NOT_READY,
    errno.ENOMEM: Failure.NOT_READY,
}


_BY_REP = {failure.value.socks5_rep: failure for failure in reversed(Failure)}
"""The first that has the code; of those that say 1 the one after which trying again may help."""


def from_socks5_rep(code: int) -> Failure:
    """What a SOCKS5 server of ours meant by its reply code; unknown ones are GENERAL."""
    return _BY_REP.get(code, Failure.GENERAL)


def from_errno(code: int) -> Failure:
    """Translate the errno of a failed ``connect(2)``; unknown ones are GENERAL."""
    return _BY_ERRNO.get(code, Failure.GENERAL)
