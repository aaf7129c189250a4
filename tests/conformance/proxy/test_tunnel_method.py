"""The tunnel's SOCKS5 method, of those that RFC 1928 §3 leaves to private use: the token instead of a password."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from dconnect.core.events import Session
from dconnect.core.limits import RELAY_BULK_BYTES
from dconnect.proxy.fake import FakeLinks
from kit.door import PATIENCE, WEB, DoorThread, exactly, head, rest, was_reset
from kit.pairs import tcp_pair

TOKEN = b"0123456789abcdef0123456789abcdef"
OFFER = b"\x05\x01\x80"
SIGNED = b"\x01\x08dconnect\x20" + TOKEN
WRONG = b"\x01\x08dconnect\x200123456789abcdef0123456789abcdee"
CHUNK = bytes(range(256)) * 256

KEY = b"\x80\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\xff"
TRUNK_KEY, MOVE_KEY = KEY + b"\x00\x00\x00\x00", KEY + b"\x00\x01\x02\x03"
TRUNK = b"\x05\x80\x00\x04" + TRUNK_KEY + b"\x00\x00"  # RFC 1928 §4, with commands of our own
MOVE = b"\x05\x81\x00\x04" + MOVE_KEY + b"\x00\x00"
BOTH = pytest.mark.parametrize(
    ("request_", "front", "key"), [(TRUNK, "trunk", TRUNK_KEY), (MOVE, "tunnel", MOVE_KEY)], ids=["trunk", "move"]
)


@pytest.fixture
def links() -> Iterator[FakeLinks]:
    with contextlib.closing(FakeLinks(TOKEN)) as made:
        yield made


@pytest.fixture
def door(tmp_path: Path, links: FakeLinks) -> Iterator[DoorThread]:
    with DoorThread(tmp_path, links=links) as made:
        yield made


def connect_to(port: int, host: str = WEB) -> bytes:
    return b"\x05\x01\x00\x01" + socket.inet_aton(host) + struct.pack("!H", port)


def refused(code: int) -> bytes:
    """The method, and right behind it a reply that has no address."""
    return b"\x05\x80\x05" + bytes((code,)) + b"\x00\x01" + bytes(6)


def answer(door: DoorThread, said: bytes) -> bytes:
    """All that a client is told that says something and nothing else."""
    with door.client() as client:
        client.sendall(said)
        return rest(client)


def ended(door: DoorThread) -> tuple[str, str, str]:
    """Front, outcome and target of the only session, once it has ended."""
    door.call(door.until(lambda: bool(door.recorder.sessions)))
    (session,) = door.recorder.sessions
    return session.front, session.outcome, session.target


def taken(client: socket.socket) -> bool:
    """Whether the client is told by whoever took it, and by nobody before."""
    return head(client) == b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


@BOTH
def test_the_right_token_leads_to_whoever_has_the_trunks(
    door: DoorThread, links: FakeLinks, request_: bytes, front: str, key: bytes
) -> None:
    client = door.client()
    client.sendall(OFFER + SIGNED + request_)
    assert taken(client)
    assert links.taken == [(":".join(map(str, client.getsockname())), b"")]
    assert links.keys == [(front, key)]


@BOTH
def test_what_comes_right_behind_the_request_goes_along(
    door: DoorThread, links: FakeLinks, request_: bytes, front: str, key: bytes
) -> None:
    client = door.client()
    client.sendall(OFFER + SIGNED + request_ + b"\x04\x00\x00\x00\x00\x00\x00\x01")
    assert taken(client)
    assert [early for _, early in links.taken] == [b"\x04\x00\x00\x00\x00\x00\x00\x01"]
    assert links.keys == [(front, key)]


def test_of_much_that_comes_behind_the_request_nothing_is_lost(door: DoorThread, links: FakeLinks) -> None:
    client = door.client()
    client.sendall(OFFER + SIGNED + TRUNK + CHUNK)
    assert taken(client)
    door.call(door.until(lambda: door.door._clients == 0))
    ((_, early),) = links.taken
    (sock,) = links._kept
    sock.settimeout(PATIENCE)
    assert early + exactly(sock, len(CHUNK) - len(early)) == CHUNK


@BOTH
def test_the_connection_is_another_process_business_from_then_on(
    door: DoorThread, links: FakeLinks, request_: bytes, front: str, key: bytes
) -> None:
    client = door.client()
    client.sendall(OFFER + SIGNED + request_)
    assert taken(client)
    door.call(door.until(lambda: door.door._clients == 0))
    assert not door.recorder.sessions, "its record is whose the connection is"
    assert not door.door._guests
    links._kept[0].sendall(b"!")
    assert exactly(client, 1) == b"!"


@pytest.mark.parametrize(
    "key",
    [bytes(16), b"\xff" * 16, bytes(15) + b"\x01", b"\xfe\x80" + bytes(13) + b"\x01", bytes(12) + b"\x7f\x00\x00\x01"],
    ids=bytes.hex,
)
def test_a_key_is_no_address_and_nothing_is_asked_of_it(door: DoorThread, links: FakeLinks, key: bytes) -> None:
    client = door.client()
    client.sendall(OFFER + SIGNED + b"\x05\x80\x00\x04" + key + b"\x00\x00")
    assert taken(client)
    assert links.keys == [("trunk", key)]


@BOTH
def test_all_may_arrive_byte_by_byte(
    door: DoorThread, links: FakeLinks, request_: bytes, front: str, key: bytes
) -> None:
    client = door.client()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in OFFER + SIGNED + request_:
        client.send(bytes((byte,)))
    assert taken(client)
    assert links.keys == [(front, key)]


def test_nothing_is_said_before_the_request_is_there(door: DoorThread, links: FakeLinks) -> None:
    client = door.client()
    client.sendall(OFFER + SIGNED)
    door.call(door.until(lambda: [each.front for each in door.door._guests.values()] == ["tunnel"]))
    assert not select.select([client], [], [], 0)[0], "what was sent on loopback has arrived"
    client.sendall(connect_to(80))
    assert rest(client) == refused(7)


@pytest.mark.parametrize("methods", [b"\x80\x00", b"\x00\x80", b"\x02\x80", bytes(range(255))])
def test_it_is_selected_wherever_it_is_offered(door: DoorThread, links: FakeLinks, methods: bytes) -> None:
    client = door.client()
    client.sendall(b"\x05" + bytes((len(methods),)) + methods + SIGNED + TRUNK)
    assert taken(client)
    assert links.keys == [("trunk", TRUNK_KEY)]


@pytest.mark.parametrize(
    "signed",
    [WRONG, b"\x01\x08dconnect\x00", b"\x01\x00\x00", SIGNED[:10] + b"\x1f" + TOKEN[1:], b"\x01\x20" + TOKEN + b"\x00"],
)
def test_a_wrong_token_leaves_no_acceptable_method(door: DoorThread, links: FakeLinks, signed: bytes) -> None:
    assert answer(door, OFFER + signed + TRUNK) == b"\x05\xff"
    assert ended(door) == ("socks5", "unauthorized", "")
    (session,) = door.recorder.sessions
    assert TOKEN.decode() not in str(session.told())
    assert not links.taken


def test_a_token_in_another_form_than_rfc1929s_ends_the_connection(door: DoorThread, links: FakeLinks) -> None:
    assert answer(door, OFFER + b"\x05" + SIGNED[1:] + TRUNK) == b""
    assert ended(door)[1] == "malformed"
    assert not links.taken


def test_an_agent_without_a_tunnel_has_no_such_method(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        assert answer(door, OFFER + SIGNED + TRUNK) == b"\x05\xff"
        assert ended(door) == ("socks5", "no method", "")


def test_an_agent_without_a_tunnel_takes_another_that_is_offered(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        server, client = door.server(), door.client()
        client.sendall(b"\x05\x02\x80\x00" + connect_to(server.port))
        server.accept()
        assert exactly(client, 12)[:4] == b"\x05\x00\x05\x00"


def test_clients_that_do_not_offer_it_are_served_as_ever(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(b"\x05\x01\x00" + connect_to(server.port))
    server.accept().close()
    assert exactly(client, 12)[:4] == b"\x05\x00\x05\x00"
    client.close()
    assert ended(door)[0] == "socks5"


def test_whoever_has_the_token_needs_no_password(tmp_path: Path, links: FakeLinks) -> None:
    with DoorThread(tmp_path, links=links, accepts=lambda _user, _password: False) as door:
        client = door.client()
        client.sendall(OFFER + SIGNED + TRUNK)
        assert taken(client)
    assert links.keys == [("trunk", TRUNK_KEY)]


@pytest.mark.parametrize("request_", [TRUNK, MOVE], ids=["trunk", "move"])
def test_without_the_method_its_commands_are_not_known(door: DoorThread, links: FakeLinks, request_: bytes) -> None:
    assert answer(door, b"\x05\x01\x00" + request_) == b"\x05\x00" + b"\x05\x07\x00\x01" + bytes(6)
    assert ended(door) == ("socks5", "unsupported", "")
    assert not links.taken


@pytest.mark.parametrize("request_", [TRUNK, MOVE], ids=["trunk", "move"])
def test_whoever_has_the_password_only_does_not_know_its_commands(
    tmp_path: Path, links: FakeLinks, request_: bytes
) -> None:
    with DoorThread(tmp_path, links=links, accepts=lambda _user, _password: True) as door:
        told = answer(door, b"\x05\x01\x02" + b"\x01\x01u\x01p" + request_)
        assert told == b"\x05\x02" + b"\x01\x00" + b"\x05\x07\x00\x01" + bytes(6)
        assert ended(door) == ("socks5", "unsupported", "")
    assert not links.taken


def test_connect_is_no_more_of_it_and_nothing_is_dialed(door: DoorThread, links: FakeLinks) -> None:
    server = door.server()
    assert answer(door, OFFER + SIGNED + connect_to(server.port) + b"early data") == refused(7)
    assert ended(door) == ("tunnel", "unsupported", "")
    assert not select.select([server.listener], [], [], 0)[0], "whoever connects on loopback is there"
    assert not links.taken


@pytest.mark.parametrize(
    ("request_", "code", "outcome"),
    [
        (b"\x05\x01\x00\x04" + TRUNK_KEY + b"\x00\x50", 7, "unsupported"),  # CONNECT
        (b"\x05\x01\x00\x03\x03web\x00\x50", 7, "unsupported"),
        (b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", 7, "unsupported"),  # BIND
        (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 7, "unsupported"),  # UDP ASSOCIATE: there are packets for that
        (b"\x05\xf0\x00\x03\x03web\x00\x00", 7, "unsupported"),  # Tor's RESOLVE
        (b"\x05\xf1\x00\x01\x7f\x00\x00\x01\x00\x00", 7, "unsupported"),
        (b"\x05\x00\x00\x04" + TRUNK_KEY + b"\x00\x00", 7, "unsupported"),
        (b"\x05\x7f\x00\x04" + TRUNK_KEY + b"\x00\x00", 7, "unsupported"),
        (b"\x05\x82\x00\x04" + TRUNK_KEY + b"\x00\x00", 7, "unsupported"),
        (b"\x05\x80\x00\x02\x7f\x00\x00\x01\x00\x50", 8, "unsupported"),  # no such address type
        (b"\x05\x80\x00\x01\x7f\x00\x00\x01\x00\x00", 8, "malformed"),  # what is no key
        (b"\x05\x81\x00\x01\x7f\x00\x00\x01\x00\x00", 8, "malformed"),
        (b"\x05\x80\x00\x03\x03web\x00\x00", 8, "malformed"),
        (b"\x05\x81\x00\x03\x03web\x00\x00", 8, "malformed"),
        (b"\x05\x80\x00\x03\x00\x00\x00", 1, "malformed"),
    ],
)
def test_what_is_neither_trunk_nor_move_is_refused_behind_the_method(
    door: DoorThread, links: FakeLinks, request_: bytes, code: int, outcome: str
) -> None:
    assert answer(door, OFFER + SIGNED + request_) == refused(code)
    assert ended(door) == ("tunnel", outcome, "")
    assert not links.taken


@BOTH
def test_while_the_gateway_restarts_the_client_is_told_behind_the_method(
    door: DoorThread, links: FakeLinks, request_: bytes, front: str, key: bytes
) -> None:
    links.away = True
    assert answer(door, OFFER + SIGNED + request_) == refused(1)
    assert ended(door) == (front, "not_ready", "")


def through_socks(door: DoorThread) -> tuple[socket.socket, socket.socket]:
    """What a browser has; its end and the server's."""
    server, client = door.server(), door.client()
    client.sendall(b"\x05\x01\x00" + connect_to(server.port))
    upstream = server.accept()
    exactly(client, 12)
    return client, upstream


def off_the_trunk(door: DoorThread, *, up: int = 0, down: int = 0) -> tuple[socket.socket, socket.socket]:
    """A connection of the tunnel that the gateway gave away, which has carried so many bytes; its two ends."""
    (near, client), (far, upstream) = tcp_pair(), tcp_pair()

    async def take() -> None:
        door.door.take_relay(near, far, Session("peer", "tunnel", bytes_up=up, bytes_down=down))

    door.call(take)
    return door.adopt(client), door.adopt(upstream)


def bulk(client: socket.socket, upstream: socket.socket) -> None:
    """Move much."""
    for _ in range(RELAY_BULK_BYTES // len(CHUNK)):
        client.sendall(CHUNK)
        assert exactly(upstream, len(CHUNK)) == CHUNK


@pytest.mark.parametrize(("up", "down"), [(0, 0), (16_384, 0), (0, 1), (7, 32_768)])
def test_a_connection_that_moves_much_goes_on_elsewhere_and_its_record_is_whole(
    door: DoorThread, up: int, down: int
) -> None:
    client, upstream = off_the_trunk(door, up=up, down=down)
    bulk(client, upstream)
    door.call(door.until(lambda: bool(door.door._carrier._relays)))
    upstream.sendall(b"answer")
    upstream.close()
    assert rest(client) == b"answer"
    client.close()
    assert ended(door)[:2] == ("tunnel", "ok")
    (session,) = door.recorder.sessions
    assert (session.bytes_up, session.bytes_down) == (up + RELAY_BULK_BYTES, down + 6)
    door.call(door.until(lambda: door.recorder.open == 0))


def test_what_goes_on_elsewhere_is_cut_when_the_agent_stops(tmp_path: Path, links: FakeLinks) -> None:
    with contextlib.ExitStack() as held, DoorThread(tmp_path, links=links) as door:
        client, upstream = (held.enter_context(each.dup()) for each in off_the_trunk(door))
        bulk(client, upstream)
        door.call(door.until(lambda: bool(door.door._carrier._relays)))
        door.call(door.door.drain)
        for end in (client, upstream):
            end.settimeout(PATIENCE)
            assert was_reset(end), "what is cut short must not look finished"
        assert len(door.recorder.sessions) == 1
        assert not door.door._carrier._relays


def test_what_a_browser_fetches_stays_where_it_is(door: DoorThread) -> None:
    client, upstream = through_socks(door)
    bulk(client, upstream)
    upstream.close()
    assert rest(client) == b""
    client.close()
    assert ended(door)[:2] == ("socks5", "ok")
    assert door.door._carrier._link is None
