"""Whatever arrives, split wherever: a documented error, or a result that does not depend on the split."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import string
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dconnect.core.address import Target, parse_authority, parse_ip
from dconnect.core.config import AgentConfig
from dconnect.core.errors import MalformedMessage, UsageError
from dconnect.core.inventory import Container, Endpoint, Inventory, Network
from dconnect.core.limits import MAX_HEAD_BYTES
from dconnect.proxy import auth
from dconnect.proxy.http import route_of
from dconnect.proxy.refusal import Refusal
from dconnect.proxy.wire import http1, socks4, socks5
from dconnect.proxy.wire.chunked import ChunkScanner
from dconnect.proxy.wire.http1 import Body, RequestHead

T = TypeVar("T")
Parser = Callable[[bytearray], tuple[T, int] | None]

_PROFILE = settings(max_examples=300, deadline=None, derandomize=True)

_HTTP_BITS = st.sampled_from(
    [
        b"GET ",
        b"CONNECT ",
        b"http://web/",
        b"web:80",
        b"/",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 101 ",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"Host: web",
        b"Content-Length: 5",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: ",
        b"Connection: upgrade, x",
        b"Upgrade: websocket",
        b",",
        b"5",
        b"0",
        b"\x00",
        b"\xff",
    ]
)
_HTTP = st.lists(_HTTP_BITS | st.binary(max_size=3), max_size=20).map(b"".join)
_SOCKS = st.binary(max_size=30) | st.builds(
    lambda command, kind, data: bytes((5, command, 0, kind)) + data,
    st.integers(0, 3),
    st.sampled_from([1, 3, 4, 9]),
    st.binary(max_size=30),
)


_WORDS = (st.binary(max_size=255), st.binary(max_size=255))
_NUL_ENDED = st.binary(max_size=6) | st.integers(250, 260).map(lambda count: b"u" * count)
_SOCKS4 = st.builds(
    lambda command, address, user, domain: bytes((4, command, 0, 80)) + address + user + b"\0" + domain + b"\0",
    st.integers(0, 255),
    st.sampled_from([b"\x7f\0\0\x01", bytes(4), b"\0\0\0\x01", b"\0\0\0\xff", b"\0\0\x01\x01"]),
    _NUL_ENDED,
    _NUL_ENDED,
)
_FIELD = st.binary(max_size=12).map(lambda raw: b"Basic " + base64.b64encode(raw))


def _whole(parser: Parser[T], data: bytes) -> tuple[T, int] | str | None:
    try:
        return parser(bytearray(data))
    except MalformedMessage as error:
        return str(error)


def _stepwise(parser: Parser[T], data: bytes) -> tuple[T, int] | str | None:
    """As a stream feeds it: the first answer counts."""
    for end in range(1, len(data) + 1):
        parsed = _whole(parser, data[:end])
        if parsed is not None:
            return parsed
    return None


def _same_at_any_split(parser: Parser[Any], data: bytes) -> None:
    whole, stepwise = _whole(parser, data), _stepwise(parser, data)
    if isinstance(whole, str) or isinstance(stepwise, str):
        # Both are refused, though maybe for another of several faults.
        assert isinstance(whole, str)
        assert isinstance(stepwise, str)
    else:
        assert whole == stepwise
    if isinstance(whole, tuple):
        assert 0 < whole[1] <= len(data)


@_PROFILE
@given(_SOCKS)
def test_socks5_greetings(data: bytes) -> None:
    _same_at_any_split(socks5.parse_greeting, data)


@_PROFILE
@given(_SOCKS)
def test_socks5_requests(data: bytes) -> None:
    whole = _whole(socks5.parse_request, data)
    if isinstance(whole, tuple) and whole[0].target is None:
        return  # an unknown address type: whatever came is taken
    _same_at_any_split(socks5.parse_request, data)
    if isinstance(whole, tuple) and whole[0].target is not None:
        assert whole[0].target.host == whole[0].target.host.lower()
        assert whole[0].target.host


@_PROFILE
@given(_SOCKS | st.builds(lambda user, word: bytes((1, len(user))) + user + bytes((len(word),)) + word, *_WORDS))
def test_socks5_passwords(data: bytes) -> None:
    _same_at_any_split(socks5.parse_password, data)


@_PROFILE
@given(_SOCKS4, st.integers(0, 600), st.binary(max_size=2))
@example(b"\x04\x01\x00\x50\x00\x00\x00\x01" + b"u" * 255 + b"\x00" + b"a" * 255 + b"\x00", 600, b"")
def test_socks4_requests(data: bytes, place: int, other: bytes) -> None:
    for each in (data, data[:place], data[:place] + other + data[place + len(other) :]):
        _same_at_any_split(socks4.parse_request, each)
        whole = _whole(socks4.parse_request, each)
        if isinstance(whole, tuple):
            assert 0 < len(whole[0].target.host) <= 255
            assert whole[0].target.host == whole[0].target.host.lower()


@_PROFILE
@given(_FIELD | st.binary(max_size=40), st.binary(max_size=5))
def test_passwords_in_http(value: bytes, user: bytes) -> None:
    head = RequestHead(b"GET", b"http://web/", 1, [(b"Proxy-Authorization", value)])
    asked: list[bytes] = []

    def accepts(name: bytes, _: bytes) -> bool:
        asked.append(name)
        return name == user

    refused: auth.Challenge | None = None
    try:
        auth.check_proxied(head, accepts)
    except auth.Challenge as challenge:
        refused = challenge
    assert (refused is None) == (asked == [user])
    assert refused is None or (refused.status, refused.again) == (407, True)


@_PROFILE
@given(_HTTP)
@example(b"\r\nGET / HTTP/1.1\r\n\r\n")
def test_http_request_heads(data: bytes) -> None:
    _same_at_any_split(http1.parse_request, data)


@_PROFILE
@given(_HTTP)
def test_http_response_heads(data: bytes) -> None:
    _same_at_any_split(http1.parse_response, data)


_NAMES = (b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"TE", b"X", b"content-length")
_VALUES = (b"", b"0", b"5", b"5, 5", b"chunked", b"gzip", b"x, upgrade", b"close", b"websocket", b"web:80")
_FIELDS = st.lists(
    st.tuples(
        st.sampled_from(_NAMES),
        st.sampled_from(_VALUES)
        | st.binary(max_size=4).map(lambda raw: raw.translate(None, b"\x00\r\n").strip(b" \t")),
    ),
    max_size=5,
)
_HEADS = st.builds(
    RequestHead,
    st.sampled_from([b"GET", b"HEAD", b"OPTIONS", b"POST"]),
    st.sampled_from([b"/", b"*", b"http://web", b"http://web:80/a?b", b"HTTP://[::1]/", b"ws://a", b"a:1"])
    | st.text(string.ascii_letters + string.punctuation, min_size=1, max_size=12).map(str.encode),
    st.integers(0, 1),
    _FIELDS,
)


@_PROFILE
@given(_HEADS)
def test_what_is_sent_on_is_read_by_the_next_as_we_read_it(head: RequestHead) -> None:
    try:
        framing = http1.request_body(head)
        route = route_of(head, frozenset(("localhost",)))
    except (MalformedMessage, Refusal):
        return
    sent = http1.forwarded_request(head, route.path, route.host, keep_alive=True)
    assume(len(sent) < MAX_HEAD_BYTES)
    parsed = http1.parse_request(bytearray(sent))
    assert parsed is not None
    again, consumed = parsed
    assert consumed == len(sent), "the head ends where we think"
    assert http1.request_body(again) == framing, "the body ends where we think"
    assert http1.values(again.fields, b"host") == [route.host]
    assert again.method == head.method
    assert route.target is None or parse_authority(route.host.decode(), 80) == route.target


@_PROFILE
@given(_FIELDS, st.sampled_from([b"GET", b"HEAD"]), st.sampled_from([200, 204, 304, 404]))
def test_what_is_sent_back_is_read_by_the_client_as_we_read_it(
    fields: http1.Fields, method: bytes, status: int
) -> None:
    head = http1.ResponseHead(status, b"", 1, fields)
    try:
        framing = http1.response_body(method, head)
    except MalformedMessage:
        return
    parsed = http1.parse_response(bytearray(http1.forwarded_response(head, keep_alive=False)))
    assert parsed is not None
    assert http1.response_body(method, parsed[0]) == framing
    assert not http1.upgrade_of(parsed[0].fields)


def _chunks(data: bytes, cuts: list[int]) -> tuple[int, bytes, bool] | str:
    scanner, used, payload = ChunkScanner(), 0, b""
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for start, end in itertools.pairwise(bounds):
            consumed, slices = scanner.feed(data[start:end])
            assert scanner.done or consumed == end - start
            used += consumed
            payload += b"".join(slices)
    except MalformedMessage:
        return "malformed"
    return used, payload, scanner.done


_CHUNKED = st.lists(
    st.sampled_from([b"0\r\n\r\n", b"5\r\nhello\r\n", b"\r\n", b"0", b"a", b";x", b"\n", b"\r", b"T: x\r\n", b"1\r\n"])
    | st.binary(max_size=3),
    max_size=12,
).map(b"".join)


@_PROFILE
@given(_CHUNKED, st.lists(st.integers(0, 100), max_size=6))
def test_chunked_bodies(data: bytes, cuts: list[int]) -> None:
    assert _chunks(data, cuts) == _chunks(data, []) == _chunks(data, list(range(len(data))))


@_PROFILE
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=10), st.lists(st.integers(0, 200)))
def test_a_good_chunked_body_gives_its_payload(parts: list[bytes], tail: bytes, cuts: list[int]) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert _chunks(body + tail, cuts) == (len(body), b"".join(parts), True)


@_PROFILE
@given(st.text(max_size=20) | st.text("[]:.%@/0123456789abcdef", max_size=20), st.none() | st.just(80))
def test_authorities(text: str, default: int | None) -> None:
    try:
        target = parse_authority(text, default)
    except UsageError:
        return
    assert 1 <= target.port <= 65535
    assert target.host == target.host.lower()
    assert target.host
    assert parse_authority(str(target)) == target


@_PROFILE
@given(st.text(max_size=20) | st.text("[]:.%0123456789abcdef", max_size=40))
def test_literals(text: str) -> None:
    address = parse_ip(text)
    assert address is None or parse_ip(str(address)) == address


_JSON = st.none() | st.integers(-1, 70000) | st.sampled_from(["::1", "deny", "docker"]) | st.text(max_size=4)
_CONFIGS = st.dictionaries(
    st.sampled_from([*(field.name for field in dataclasses.fields(AgentConfig)), "other"]),
    _JSON | st.lists(_JSON, max_size=2),
    max_size=3,
).map(json.dumps)


@_PROFILE
@given(_CONFIGS | st.text(max_size=20))
def test_configurations(text: str) -> None:
    try:
        config = AgentConfig.from_json(text)
    except UsageError:
        return
    assert AgentConfig.from_json(config.to_json()) == config


_TEXTS = st.lists(st.text(max_size=4), max_size=2).map(tuple)
_ENDPOINTS = st.builds(
    Endpoint, st.text(max_size=4), st.text(max_size=4), st.none() | st.text(max_size=4), st.none(), _TEXTS
)
_CONTAINERS = st.builds(
    Container,
    st.text(max_size=4),
    st.text(max_size=4),
    st.sampled_from(["running", "exited"]),
    number=st.integers(0, 9),
    oneoff=st.booleans(),
    labels=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=2).map(tuple),
    ports=_TEXTS,
    endpoints=st.lists(_ENDPOINTS, max_size=2).map(tuple),
)
_NETWORKS = st.builds(
    Network, st.text(max_size=4), st.text(max_size=4), st.just("bridge"), st.booleans(), _TEXTS, _TEXTS
)


@settings(_PROFILE, max_examples=100)
@given(st.builds(Inventory, st.lists(_CONTAINERS, max_size=3).map(tuple), st.lists(_NETWORKS, max_size=3).map(tuple)))
def test_inventories(inventory: Inventory) -> None:
    assert Inventory.from_json(inventory.to_json()) == inventory


def test_the_forwarded_target_is_what_was_asked_for() -> None:
    head = RequestHead(b"GET", b"http://WEB.docker:81/x", 1, [(b"Host", b"y")])
    route = route_of(head, frozenset())
    assert (route.target, route.path, route.host) == (Target("web.docker", 81), b"/x", b"WEB.docker:81")
    assert http1.request_body(head) == (Body.NONE, 0)
