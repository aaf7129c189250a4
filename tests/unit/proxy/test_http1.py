from __future__ import annotations

import pytest

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import MAX_HEAD_BYTES
from dconnect.proxy.wire import http1
from dconnect.proxy.wire.http1 import Body, RequestHead, ResponseHead, Unacceptable
from kit.feeding import feed


def test_request_of_rfc9112_s2_1() -> None:
    head = feed(
        http1.parse_request, b"GET /hello.txt HTTP/1.1\r\nUser-Agent: curl/7.64.1\r\nHost: www.example.com\r\n\r\n"
    )
    fields = [(b"User-Agent", b"curl/7.64.1"), (b"Host", b"www.example.com")]
    assert head == RequestHead(b"GET", b"/hello.txt", 1, fields)


def test_proxy_request_of_curl() -> None:
    head = feed(
        http1.parse_request,
        b"GET http://web.docker:8080/a?b=1 HTTP/1.1\r\nHost: web.docker:8080\r\nUser-Agent: curl/7.88.1\r\n"
        b"Accept: */*\r\nProxy-Connection: Keep-Alive\r\n\r\n",
    )
    assert (head.method, head.target, head.fields[-1]) == (
        b"GET",
        b"http://web.docker:8080/a?b=1",
        (b"Proxy-Connection", b"Keep-Alive"),
    )


def test_response_of_rfc9112_s4() -> None:
    head = feed(http1.parse_response, b'HTTP/1.1 200 OK\r\nServer: Apache\r\nETag: "34aa387-d-1568eb00"\r\n\r\n')
    assert head == ResponseHead(200, b"OK", 1, [(b"Server", b"Apache"), (b"ETag", b'"34aa387-d-1568eb00"')])


@pytest.mark.parametrize(
    ("line", "reason", "minor"),
    [
        (b"HTTP/1.1 404 Not Found", b"Not Found", 1),
        (b"HTTP/1.0 200 ", b"", 0),
        (b"HTTP/1.1 200", b"", 1),
        (b"HTTP/1.1 200 \xc3\x84", b"\xc3\x84", 1),
        (b"HTTP/1.9 200 OK", b"OK", 1),
    ],
)
def test_status_lines_without_or_with_odd_reasons_are_read(line: bytes, reason: bytes, minor: int) -> None:
    head = feed(http1.parse_response, line + b"\r\n\r\n")
    assert (head.reason, head.minor) == (reason, minor)


def test_empty_lines_before_a_request_are_ignored() -> None:
    parsed = http1.parse_request(bytearray(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"))
    assert parsed == (RequestHead(b"GET", b"/", 0, []), 22)


def test_values_lose_surrounding_blanks_only() -> None:
    head = feed(http1.parse_request, b"GET / HTTP/1.1\r\na: \t x \t y \t\r\nb:\r\nc:  \r\nd:\xff\x0b\r\n\r\n")
    assert head.fields == [(b"a", b"x \t y"), (b"b", b""), (b"c", b""), (b"d", b"\xff\x0b")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",  # RFC 9112 §5.1
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",  # §2.2
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",  # §5.2: obs-fold
        b"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\rY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\xe4: x\r\n\r\n",
        b"GET /\r\n\r\n",  # HTTP/0.9
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET / a HTTP/1.1\r\n\r\n",
        b"GET / http/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"\nGET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_rfc9112_calls_invalid_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        http1.parse_request(bytearray(data))


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/2 200",
        b"ICY 200 OK",
        b"200 OK",
        b"",
        # a lenient client would see another header, or even another response
        b"HTTP/1.1 200 OK\nSet-Cookie: a=b",
        b"HTTP/1.1 200 OK\rSet-Cookie: a=b",
        b"HTTP/1.1 200 O\x00K",
    ],
)
def test_a_status_line_that_is_none_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedMessage):
        http1.parse_response(bytearray(line + b"\r\nServer: x\r\n\r\n"))


def test_a_head_without_end_is_too_large_at_its_bound() -> None:
    head = b"GET / HTTP/1.1\r\nX: "
    assert http1.parse_request(bytearray(head + b"a" * (MAX_HEAD_BYTES - len(head) - 1))) is None
    with pytest.raises(Unacceptable, match="head") as refusal:
        http1.parse_request(bytearray(head + b"a" * (MAX_HEAD_BYTES - len(head))))

    assert refusal.value.status == 431


def test_a_target_without_end_is_too_long_at_the_same_bound() -> None:
    line = b"\r\nGET /"
    assert http1.parse_request(bytearray(line + b"a" * (MAX_HEAD_BYTES - len(line) - 1))) is None
    with pytest.raises(Unacceptable, match="target") as refusal:
        http1.parse_request(bytearray(line + b"a" * (MAX_HEAD_BYTES - len(line))))
    assert refusal.value.status == 414


@pytest.mark.parametrize("line", [b"PRI * HTTP/2.0", b"GET / HTTP/2", b"GET / HTTP/0.9", b"GET / HTTP/3.1"])
def test_another_version_is_told_apart_from_nonsense(line: bytes) -> None:
    with pytest.raises(Unacceptable) as refusal:
        http1.parse_request(bytearray(line + b"\r\n\r\n"))
    assert refusal.value.status == 505


def test_empty_lines_count_towards_the_bound() -> None:
    assert http1.parse_request(bytearray(b"\r\n" * (MAX_HEAD_BYTES // 2 - 1))) is None
    with pytest.raises(Unacceptable):
        http1.parse_request(bytearray(b"\r\n" * (MAX_HEAD_BYTES // 2)))


@pytest.mark.timeout(10)
def test_blanks_inside_a_value_cost_no_more_than_other_bytes() -> None:
    many = b" " * (MAX_HEAD_BYTES - 100)
    for _ in range(20):  # at a cost that grows with the square this takes a minute
        parsed = http1.parse_request(bytearray(b"GET / HTTP/1.1\r\nContent-Length: 1" + many + b"2\r\n\r\n"))
        assert parsed is not None
        with pytest.raises(MalformedMessage):
            http1.request_body(parsed[0])


def _request(*fields: tuple[bytes, bytes], minor: int = 1) -> RequestHead:
    return RequestHead(b"POST", b"http://web/", minor, list(fields))


def _response(*fields: tuple[bytes, bytes], status: int = 200) -> ResponseHead:
    return ResponseHead(status, b"", 1, list(fields))


_CL, _TE = b"Content-Length", b"Transfer-Encoding"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (_request(), (Body.NONE, 0)),
        (_request((_CL, b"0")), (Body.NONE, 0)),
        (_request((_CL, b"007")), (Body.LENGTH, 7)),
        (_request((b"content-length", b"999999999999999999")), (Body.LENGTH, 999999999999999999)),
        (_request((_TE, b"chunked")), (Body.CHUNKED, 0)),
        (_request((b"TRANSFER-ENCODING", b"Chunked")), (Body.CHUNKED, 0)),
    ],
)
def test_request_bodies_of_rfc9112_s6_3(head: RequestHead, expected: tuple[Body, int]) -> None:
    assert http1.request_body(head) == expected


@pytest.mark.parametrize(
    "head",
    [
        _request((_CL, b"5"), (_TE, b"chunked")),
        _request((_TE, b""), (_CL, b"5")),
        _request((_TE, b"gzip")),
        _request((_TE, b"gzip, chunked")),  # 501
        _request((_TE, b"chunked, gzip")),
        _request((_TE, b"chunked"), (_TE, b"chunked")),
        _request((_TE, b"chunked"), (_TE, b"identity")),
        _request((_TE, b"\x0bchunked")),  # blanks are SP and HTAB (RFC 9110 §5.6.3), nothing else
        _request((_TE, b"chunked\x0c")),
        _request((_TE, b"xchunked")),
        _request((_TE, b"")),
        _request((_TE, b"chunked"), minor=0),
        _request((_CL, b"")),
        _request((_CL, b"-1")),
        _request((_CL, b"+1")),
        _request((_CL, b"1_0")),
        _request((_CL, b"0x10")),
        _request((_CL, b"1 0")),
        _request((_CL, b"\xb2")),
        _request((_CL, b"1" * 19)),
        _request((_CL, b"5"), (_CL, b"6")),
        _request((_CL, b"5, 6")),
        _request((_CL, b"5"), (_CL, b"5")),  # RFC 9110 §8.6: reject, or replace by one; we do not rewrite
        _request((_CL, b"5, 5")),
        _request((_CL, b"5,")),
    ],
)
def test_ambiguous_request_framing_is_malformed(head: RequestHead) -> None:
    with pytest.raises(MalformedMessage):
        http1.request_body(head)


@pytest.mark.parametrize(
    ("method", "head", "expected"),
    [
        (b"HEAD", _response((_CL, b"5")), (Body.NONE, 0)),
        (b"HEAD", _response((_TE, b"chunked")), (Body.NONE, 0)),
        (b"GET", _response((_CL, b"5"), status=304), (Body.NONE, 0)),
        (b"GET", _response(status=204), (Body.NONE, 0)),
        (b"GET", _response((_CL, b"5")), (Body.LENGTH, 5)),
        (b"GET", _response((_CL, b"0")), (Body.LENGTH, 0)),
        (b"GET", _response((_TE, b"chunked")), (Body.CHUNKED, 0)),
        (b"GET", _response(), (Body.CLOSE, 0)),
    ],
)
def test_response_bodies_of_rfc9112_s6_3(method: bytes, head: ResponseHead, expected: tuple[Body, int]) -> None:
    assert http1.response_body(method, head) == expected


@pytest.mark.parametrize(
    "head",
    [
        _response((_CL, b"5"), (_TE, b"chunked")),
        _response((_CL, b"5"), (_TE, b"")),
        _response((_CL, b"5"), (_CL, b"6")),
        _response((_CL, b"x")),
        _response(
            (_TE, b"gzip, chunked")
        ),  # RFC 9112 §7.4: we ask for no coding, so a server must use none but chunked
        _response((_TE, b"gzip")),
        _response((_TE, b"")),
    ],
)
def test_ambiguous_response_framing_is_malformed(head: ResponseHead) -> None:
    with pytest.raises(MalformedMessage):
        http1.response_body(b"GET", head)


def test_hop_by_hop_fields_end_here_and_named_ones_too() -> None:
    head = _request(
        (b"Host", b"evil"),
        (b"Connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"Keep-Alive", b"5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Proxy-Authorization", b"Basic QQ=="),
        (b"TE", b"trailers"),
        (b"Upgrade", b"h2c"),
        (b"Via", b"1.0 first"),
        (b"X-End", b"2"),
    )
    assert http1.forwarded_request(head, b"/p", b"web", keep_alive=True) == (
        b"POST /p HTTP/1.1\r\nHost: web\r\nVia: 1.0 first\r\nX-End: 2\r\nVia: 1.1 dconnect\r\n"
        b"Connection: keep-alive\r\n\r\n"
    )


def test_framing_fields_cannot_be_named_away() -> None:
    head = _request((b"Connection", b"content-length, transfer-encoding, host"), (_CL, b"5"))
    assert b"Content-Length: 5\r\n" in http1.forwarded_request(head, b"/", b"web", keep_alive=False)


@pytest.mark.parametrize(
    ("method", "value", "sent"),
    [(b"TRACE", b"5", b"4"), (b"OPTIONS", b"1", b"0"), (b"GET", b"5", b"5"), (b"TRACE", b"000000002", b"1")],
)
def test_max_forwards_counts_down_for_trace_and_options_only(method: bytes, value: bytes, sent: bytes) -> None:
    head = RequestHead(method, b"http://web/", 1, [(b"Max-Forwards", value)])
    assert b"\r\nMax-Forwards: %s\r\n" % sent in http1.forwarded_request(head, b"/", b"web", keep_alive=True)


@pytest.mark.parametrize("values", [[b"x"], [b""], [b"-1"], [b"1", b"1"], [b"1" * 10]])
def test_max_forwards_that_is_no_number_is_malformed(values: list[bytes]) -> None:
    head = RequestHead(b"TRACE", b"http://web/", 1, [(b"Max-Forwards", value) for value in values])
    with pytest.raises(MalformedMessage):
        http1.max_forwards(head)


@pytest.mark.parametrize(
    "value",
    [b"web", b"web:80", b"[::1]:80", b"", b"web:", b"127.0.0.1", b"my_db.docker", b"xn--bcher-kva.example", b"a%20b"],
)
def test_one_host_is_right(value: bytes) -> None:
    http1.check_host(_request((b"Host", value)))


@pytest.mark.parametrize(
    "values",
    [[], [b"a", b"a"], [b"a b"], [b"a/b"], [b"u@a"], [b"a,b"], [b"a:b"], [b"a?b"], [b"a#b"], [b"[::1"], [b"\xe4"]],
)
def test_no_host_two_hosts_and_nonsense_are_malformed(values: list[bytes]) -> None:
    with pytest.raises(MalformedMessage):
        http1.check_host(_request(*((b"Host", value) for value in values)))


def test_http_1_0_needs_no_host_but_may_not_have_two() -> None:
    http1.check_host(_request(minor=0))
    with pytest.raises(MalformedMessage):
        http1.check_host(_request((b"Host", b"a"), (b"Host", b"b"), minor=0))


def test_an_old_client_cannot_ask_for_an_upgrade() -> None:
    head = _request((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), minor=0)
    assert b"websocket" not in http1.forwarded_request(head, b"/", b"web", keep_alive=True)


@pytest.mark.parametrize("status", [103, 204])
def test_what_has_no_body_is_sent_back_without_framing(status: int) -> None:
    head = _response((_CL, b"5"), (_TE, b"chunked"), (b"X", b"1"), status=status)
    sent = http1.forwarded_response(head, keep_alive=True)
    assert b"Content-Length" not in sent
    assert b"Transfer-Encoding" not in sent
    assert b"X: 1" in sent


def test_an_upgrade_is_asked_for_again() -> None:
    head = _request((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket"))
    assert http1.forwarded_request(head, b"/", b"web", keep_alive=True).endswith(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )


def test_an_old_client_gets_no_transfer_coding() -> None:
    head = _response((_TE, b"chunked"), (b"X", b"1"))
    assert http1.forwarded_response(head, keep_alive=False, dechunk=True) == (
        b"HTTP/1.1 200 \r\nX: 1\r\nVia: 1.1 dconnect\r\nConnection: close\r\n\r\n"
    )
