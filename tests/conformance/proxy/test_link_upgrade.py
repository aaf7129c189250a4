"""The upgrade to a link: RFC 9110 §7.8 (Upgrade), §15.5.22 (426), §15.5.2 (401), RFC 6750 (Bearer), our own rules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dconnect.proxy.fake import FakeLinks
from kit.door import DoorThread, exactly, head, rest

TOKEN = b"0123456789abcdef0123456789abcdef"
FIELDS = {
    b"Host": b"127.0.0.1:1080",
    b"Connection": b"Upgrade",
    b"Upgrade": b"dconnect-link/1",
    b"Authorization": b"Bearer " + TOKEN,
}


def request(line: bytes = b"GET /api/v1/link HTTP/1.1", /, **changes: bytes | None) -> bytes:
    """The right request with some fields changed, or left out."""
    fields: dict[bytes, bytes | None] = {**FIELDS, **{name.encode(): value for name, value in changes.items()}}
    lines = [name + b": " + value for name, value in fields.items() if value is not None]
    return b"\r\n".join((line, *lines, b"", b""))


@pytest.fixture
def links() -> Iterator[FakeLinks]:
    with contextlib.closing(FakeLinks(TOKEN)) as made:
        yield made


@pytest.fixture
def door(tmp_path: Path, links: FakeLinks) -> Iterator[DoorThread]:
    with DoorThread(tmp_path, links=links) as made:
        yield made


def answer(door: DoorThread, data: bytes) -> bytes:
    with door.client() as client:
        client.sendall(data)
        return rest(client)


def outcomes(door: DoorThread) -> list[str]:
    """Of the sessions that have ended, when one has."""
    door.call(door.until(lambda: bool(door.recorder.sessions)))
    return [session.outcome for session in door.recorder.sessions]


def test_the_right_request_is_handed_over_and_answered_with_101(door: DoorThread, links: FakeLinks) -> None:
    client = door.client()
    client.sendall(request())
    assert head(client).startswith(b"HTTP/1.1 101 ")
    peer = ":".join(map(str, client.getsockname()))
    assert links.taken == [(peer, b"")]


def test_what_comes_right_behind_the_request_goes_along(door: DoorThread, links: FakeLinks) -> None:
    client = door.client()
    client.sendall(request() + b"\x02\x00\x00\x02{}")
    head(client)
    assert links.taken[0][1] == b"\x02\x00\x00\x02{}"


def test_the_connection_is_another_process_business_from_then_on(door: DoorThread, links: FakeLinks) -> None:
    client = door.client()
    client.sendall(request())
    head(client)
    client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    door.call(door.until(lambda: door.door._clients == 0))
    assert not door.recorder.sessions
    links._kept[0].sendall(b"!")
    assert exactly(client, 1) == b"!"


def test_an_agent_without_a_tunnel_names_the_command(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        told = answer(door, request())
        assert told.startswith(b"HTTP/1.1 503 ")
        assert told.endswith(b"The agent has no tunnel; start it with: dconnect up --tun\n")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"Bearer",
        b"Bearer 0123456789abcdef0123456789abcdee",
        TOKEN,
        b"Basic " + TOKEN,
        b"Bearer " + TOKEN + b" " + TOKEN,
        b"Bearer " + TOKEN + b"\r\nAuthorization: Bearer " + TOKEN,
    ],
)
def test_another_token_is_unauthorized(door: DoorThread, links: FakeLinks, authorization: bytes | None) -> None:
    told = answer(door, request(Authorization=authorization))
    assert told.startswith(b"HTTP/1.1 401 ")
    assert b'\r\nWWW-Authenticate: Bearer realm="dconnect"\r\n' in told
    assert TOKEN not in told
    assert not links.taken
    assert outcomes(door) == ["unauthorized"]


@pytest.mark.parametrize("scheme", [b"bearer ", b"BEARER  "])
def test_the_scheme_is_read_in_any_case(door: DoorThread, links: FakeLinks, scheme: bytes) -> None:
    """RFC 9110 §11.1."""
    client = door.client()
    client.sendall(request(Authorization=scheme + TOKEN))
    assert head(client).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": None},
        {"Upgrade": b"dconnect-link/2"},
        {"Upgrade": b"websocket"},
        {"Connection": b"keep-alive"},  # RFC 9110 §7.8: Upgrade without it is not for us
        {"Connection": None},
    ],
)
def test_a_request_that_does_not_offer_the_protocol_is_told_which_is_required(
    door: DoorThread, links: FakeLinks, changes: dict[str, bytes | None]
) -> None:
    told = answer(door, request(**changes))
    assert told.startswith(b"HTTP/1.1 426 ")
    assert b"\r\nUpgrade: dconnect-link/1\r\n" in told
    assert not links.taken


def test_http_1_0_cannot_upgrade(door: DoorThread, links: FakeLinks) -> None:
    assert answer(door, request(b"GET /api/v1/link HTTP/1.0")).startswith(b"HTTP/1.1 426 ")
    assert not links.taken


@pytest.mark.parametrize("changes", [{"Content-Length": b"2"}, {"Transfer-Encoding": b"chunked"}])
def test_a_body_is_refused(door: DoorThread, links: FakeLinks, changes: dict[str, bytes | None]) -> None:
    assert answer(door, request(**changes) + b"{}").startswith(b"HTTP/1.1 400 ")
    assert not links.taken


def test_another_method_is_refused(door: DoorThread) -> None:
    assert answer(door, request(b"POST /api/v1/link HTTP/1.1")).startswith(b"HTTP/1.1 400 ")


def test_a_web_page_under_another_name_cannot_ask(door: DoorThread, links: FakeLinks) -> None:
    assert answer(door, request(Host=b"evil.example")).startswith(b"HTTP/1.1 421 ")
    assert not links.taken


def test_it_is_not_to_be_had_through_the_proxy(door: DoorThread, links: FakeLinks) -> None:
    answer(door, request(b"GET http://127.0.0.1/api/v1/link HTTP/1.1"))
    assert not links.taken


def test_the_password_of_the_front_door_is_another_one(tmp_path: Path, links: FakeLinks) -> None:
    with DoorThread(tmp_path, links=links, accepts=lambda _user, _password: False) as door:
        client = door.client()
        client.sendall(request())
        assert head(client).startswith(b"HTTP/1.1 101 ")


def test_while_the_gateway_restarts_the_client_is_told(door: DoorThread, links: FakeLinks) -> None:
    links.away = True
    assert answer(door, request()).startswith(b"HTTP/1.1 503 ")
    assert outcomes(door) == ["not_ready"]
