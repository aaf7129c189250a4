from __future__ import annotations

from ipaddress import ip_address

import pytest

from dconnect.core.address import Target
from dconnect.core.errors import MalformedMessage
from dconnect.proxy.wire.socks4 import CONNECT, GRANTED, RESOLVE, Request, parse_request, reply
from kit.feeding import feed


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        # Ying-Da Lee's notes, as curl 7.88 sends them: --socks4 http://172.18.0.3/, --socks4a http://web/
        (b"\x04\x01\x00\x50\xac\x12\x00\x03\x00", Request(CONNECT, Target("172.18.0.3", 80))),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00web\x00", Request(CONNECT, Target("web", 80))),
        # curl --socks4 fred@…: the USERID
        (b"\x04\x01\x1f\x90\xac\x12\x00\x03fred\x00", Request(CONNECT, Target("172.18.0.3", 8080))),
        (
            b"\x04\x01\xff\xff\x00\x00\x00\xff" + b"u" * 255 + b"\x00WEB.Docker.\x00",
            Request(1, Target("web.docker", 65535)),
        ),
        # tor-resolve 0.4.9 -4 web.docker
        (b"\x04\xf0\x00\x00\x00\x00\x00\x01\x00web.docker\x00", Request(RESOLVE, Target("web.docker", 0))),
        # 0.0.0.0 announces no domain: x is not 0 in 4A
        (b"\x04\x02\x00\x50\x00\x00\x00\x00\x00", Request(2, Target("0.0.0.0", 80))),
        (b"\x04\x01\x00\x50\x00\x00\x00\x07\x00" + b"a" * 255 + b"\x00", Request(1, Target("a" * 255, 80))),
    ],
)
def test_request(data: bytes, request_: Request) -> None:
    assert feed(parse_request, data) == request_


_HEAD = b"\x04\x01\x00\x50\x00\x00\x00\x01"


@pytest.mark.parametrize(
    "data",
    [
        b"\x05\x01\x00",
        _HEAD + b"u" * 256,
        _HEAD + b"u" * 256 + b"\x00web\x00",
        _HEAD + b"\x00" + b"a" * 256,
        _HEAD + b"\x00" + b"a" * 256 + b"\x00",
        _HEAD + b"\x00\x00",
        _HEAD + b"\x00.\x00",
        _HEAD + b"\x00a b\x00",
        _HEAD + b"\x00\xc3\xa4\x00",
    ],
)
def test_request_of_another_version_or_beyond_its_bounds_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_request(data)


def test_replies_as_the_notes_have_them() -> None:
    assert reply(91) == b"\x00\x5b" + bytes(6)
    assert reply(GRANTED, (ip_address("172.18.0.1"), 0x1234)) == b"\x00\x5a\x12\x34\xac\x12\x00\x01"
    assert reply(GRANTED, (ip_address("fd00::1"), 0x1234)) == b"\x00\x5a\x12\x34\x00\x00\x00\x00"
