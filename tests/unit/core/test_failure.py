from __future__ import annotations

import errno

import pytest

from dconnect.core.failure import PROXY_ERRORS, SOCKS4_REJECTED, Failure, from_errno, from_socks5_rep

# REP as RFC 1928 §6 numbers it, status as RFC 9110 §15 defines it.
_SPELLED = {
    Failure.REFUSED: (5, 502),
    Failure.NETWORK_UNREACHABLE: (3, 502),
    Failure.HOST_UNREACHABLE: (4, 502),
    Failure.TIMEOUT: (6, 504),
    Failure.NAME_UNKNOWN: (4, 502),
    Failure.STOPPED: (4, 503),
    Failure.POLICY: (2, 403),
    Failure.NOT_READY: (1, 503),
    Failure.GENERAL: (1, 502),
}


def test_every_failure_has_its_own_name() -> None:
    assert {failure.name for failure in _SPELLED} == set(Failure.__members__), "two equal rows would become one"


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_is_spelled_for_socks_and_http(failure: Failure) -> None:
    assert (failure.value.socks5_rep, failure.value.http_status) == _SPELLED[failure]


# The proxy error types that RFC 9209 §2.3 registers, as far as they are about a destination.
_REGISTERED = [
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "proxy_internal_error",
]


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_is_spelled_for_programs(failure: Failure) -> None:
    assert PROXY_ERRORS[failure] in _REGISTERED
    assert (PROXY_ERRORS[failure] == "dns_error") == (failure is Failure.NAME_UNKNOWN)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (errno.ECONNREFUSED, Failure.REFUSED),
        (errno.ENETUNREACH, Failure.NETWORK_UNREACHABLE),
        (errno.EHOSTUNREACH, Failure.HOST_UNREACHABLE),
        (errno.ETIMEDOUT, Failure.TIMEOUT),
        (errno.EACCES, Failure.POLICY),
        (errno.EMFILE, Failure.NOT_READY),
        (errno.EXDEV, Failure.GENERAL),
        (0, Failure.GENERAL),
    ],
)
def test_errno_is_translated(code: int, failure: Failure) -> None:
    assert from_errno(code) is failure


def test_socks4_rejects_with_its_one_code() -> None:
    assert SOCKS4_REJECTED == 91


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (1, Failure.NOT_READY),  # of those that say 1, the one after which trying again may help
        (2, Failure.POLICY),
        (3, Failure.NETWORK_UNREACHABLE),
        (4, Failure.HOST_UNREACHABLE),
        (5, Failure.REFUSED),
        (6, Failure.TIMEOUT),
        (7, Failure.GENERAL),
        (0xFF, Failure.GENERAL),
    ],
)
def test_a_socks5_reply_is_understood(code: int, failure: Failure) -> None:
    assert from_socks5_rep(code) is failure
