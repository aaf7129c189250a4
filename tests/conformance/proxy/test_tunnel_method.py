"""The tunnel's SOCKS5 method, of those that RFC 1928 §3 leaves to private use: the token instead of a password."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dconnect.core.address import IPAddress
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure
from dconnect.core.limits import RELAY_BULK_BYTES
from dconnect.proxy.dial import OwnService
from dconnect.proxy.fake import FakeLinks, FakeResolve
from kit.door import NAMES, PATIENCE, WEB, DoorThread, exactly, rest, was_reset

TOKEN = b"0123456789abcdef0123456789abcdef"
OFFER = b"\x05\x01\x80"
SIGNED = b"\x01\x08dconnect\x20" + TOKEN
CHUNK = bytes(range(256)) * 256
WRONG = b"\x01\x08dconnect\x200123456789abcdef0123456789abcdee"


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


def named(name: bytes) -> bytes:
    return b"\x05\x01\x00\x03" + bytes((len(name),)) + name + b"\x00\x50"


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


def test_the_right_token_is_answered_together_with_its_request_and_leads_on(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(OFFER + SIGNED + connect_to(server.port) + b"early data")
    upstream = server.accept()
    assert exactly(upstream, 10) == b"early data", "and the client has read nothing yet"
    address, port = upstream.getpeername()
    granted = b"\x05\x80\x05\x00\x00\x01" + socket.inet_aton(address) + struct.pack("!H", port)
    assert exactly(client, 12) == granted
    upstream.sendall(b"answer")
    upstream.close()
    assert rest(client) == b"answer"
    client.close()
    assert ended(door) == ("tunnel", "ok", f"{WEB}:{server.port}")


def test_a_destination_by_ipv6_is_bound_by_ipv6(door: DoorThread) -> None:
    server, client = door.server("::1"), door.client()
    client.sendall(OFFER + SIGNED + b"\x05\x01\x00\x04" + bytes(15) + b"\x01" + struct.pack("!H", server.port))
    upstream = server.accept()
    granted = b"\x05\x80\x05\x00\x00\x04" + bytes(15) + b"\x01" + struct.pack("!H", upstream.getpeername()[1])
    assert exactly(client, 24) == granted


def test_all_may_arrive_byte_by_byte(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    for byte in OFFER + SIGNED + connect_to(server.port):
        client.send(bytes((byte,)))
    server.accept()
    assert exactly(client, 12)[:4] == b"\x05\x80\x05\x00"


class Late(FakeResolve):
    """Says that it was asked, and then nothing."""

    def __init__(self) -> None:
        super().__init__(NAMES)
        self.asked = threading.Event()
        self.release = threading.Event()

    async def __call__(self, host: str) -> Sequence[IPAddress] | OwnService:
        self.asked.set()
        self.release.wait(10)
        return await super().__call__(host)


def test_nothing_is_said_before_the_outcome_is_known(tmp_path: Path, links: FakeLinks) -> None:
    resolve = Late()
    with DoorThread(tmp_path, links=links, resolve=resolve) as door:
        client = door.client()
        client.sendall(OFFER + SIGNED + named(b"nobody"))
        assert resolve.asked.wait(10)
        assert not select.select([client], [], [], 0)[0], "what was sent on loopback has arrived"
        resolve.release.set()
        assert rest(client) == b"\x05\x80\x05\x04\x00\x01" + bytes(6)
        client.close()


@pytest.mark.parametrize("methods", [b"\x80\x00", b"\x00\x80", b"\x02\x80", bytes(range(255))])
def test_it_is_selected_wherever_it_is_offered(door: DoorThread, methods: bytes) -> None:
    server, client = door.server(), door.client()
    client.sendall(b"\x05" + bytes((len(methods),)) + methods + SIGNED + connect_to(server.port))
    server.accept()
    assert exactly(client, 12)[:4] == b"\x05\x80\x05\x00"


@pytest.mark.parametrize(
    "signed",
    [WRONG, b"\x01\x08dconnect\x00", b"\x01\x00\x00", SIGNED[:10] + b"\x1f" + TOKEN[1:], b"\x01\x20" + TOKEN + b"\x00"],
)
def test_a_wrong_token_leaves_no_acceptable_method(door: DoorThread, signed: bytes) -> None:
    assert answer(door, OFFER + signed + connect_to(door.server().port)) == b"\x05\xff"
    assert ended(door) == ("socks5", "unauthorized", "")
    (session,) = door.recorder.sessions
    assert TOKEN.decode() not in str(session.told())


def test_a_token_in_another_form_than_rfc1929s_ends_the_connection(door: DoorThread) -> None:
    assert answer(door, OFFER + b"\x05" + SIGNED[1:] + connect_to(80)) == b""
    assert ended(door)[1] == "malformed"


def test_an_agent_without_a_tunnel_has_no_such_method(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        assert answer(door, OFFER + SIGNED + connect_to(80)) == b"\x05\xff"
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
        server, client = door.server(), door.client()
        client.sendall(OFFER + SIGNED + connect_to(server.port))
        server.accept()
        assert exactly(client, 12)[:4] == b"\x05\x80\x05\x00"


class NotReady(FakeResolve):
    """A zone that is not there yet."""

    async def __call__(self, host: str) -> Sequence[IPAddress] | OwnService:
        raise DialError(Failure.NOT_READY, "The agent starts.")


def free_port() -> int:
    with socket.create_server((WEB, 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    ("code", "outcome"), [(5, "refused"), (4, "name_unknown"), (2, "policy"), (1, "not_ready")], ids=str
)
def test_a_failure_is_told_behind_the_method(tmp_path: Path, links: FakeLinks, code: int, outcome: str) -> None:
    requests = {
        "refused": connect_to(free_port()),
        "name_unknown": named(b"nobody"),
        "policy": connect_to(80, "169.254.169.254"),
        "not_ready": named(b"web"),
    }
    resolve = NotReady(NAMES) if outcome == "not_ready" else None
    with DoorThread(tmp_path, links=links, resolve=resolve) as door:
        assert answer(door, OFFER + SIGNED + requests[outcome]) == b"\x05\x80\x05" + bytes(
            (code,)
        ) + b"\x00\x01" + bytes(6)
        assert ended(door)[:2] == ("tunnel", outcome)


@pytest.mark.parametrize(
    ("request_", "code", "outcome"),
    [
        (b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", 7, "unsupported"),  # BIND
        (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 7, "unsupported"),  # UDP ASSOCIATE: there are packets for that
        (b"\x05\xf0\x00\x03\x03web\x00\x00", 7, "unsupported"),  # Tor's RESOLVE
        (b"\x05\xf1\x00\x01\x7f\x00\x00\x01\x00\x00", 7, "unsupported"),
        (b"\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", 8, "unsupported"),  # no such address type
        (b"\x05\x01\x00\x03\x00\x00\x50", 1, "malformed"),
    ],
)
def test_what_is_no_connect_is_refused_behind_the_method_too(
    door: DoorThread, request_: bytes, code: int, outcome: str
) -> None:
    assert answer(door, OFFER + SIGNED + request_) == b"\x05\x80\x05" + bytes((code,)) + b"\x00\x01" + bytes(6)
    assert ended(door)[:2] == ("tunnel", outcome)


def bulk(door: DoorThread, said: bytes) -> tuple[socket.socket, socket.socket]:
    """A connection that has moved much; the client's end and the server's."""
    server, client = door.server(), door.client()
    client.sendall(said + connect_to(server.port))
    upstream = server.accept()
    exactly(client, 12)
    for _ in range(RELAY_BULK_BYTES // len(CHUNK)):
        client.sendall(CHUNK)
        assert exactly(upstream, len(CHUNK)) == CHUNK
    return client, upstream


def test_a_connection_that_moves_much_goes_on_elsewhere_and_its_record_is_whole(door: DoorThread) -> None:
    client, upstream = bulk(door, OFFER + SIGNED)
    door.call(door.until(lambda: bool(door.door._carrier._relays)))
    upstream.sendall(b"answer")
    upstream.close()
    assert rest(client) == b"answer"
    client.close()
    assert ended(door)[:2] == ("tunnel", "ok")
    (session,) = door.recorder.sessions
    assert (session.bytes_up, session.bytes_down) == (RELAY_BULK_BYTES, 6)


def test_what_goes_on_elsewhere_is_cut_when_the_agent_stops(tmp_path: Path, links: FakeLinks) -> None:
    with contextlib.ExitStack() as held, DoorThread(tmp_path, links=links) as door:
        client, upstream = (held.enter_context(each.dup()) for each in bulk(door, OFFER + SIGNED))
        door.call(door.until(lambda: bool(door.door._carrier._relays)))
        door.call(door.door.drain)
        for end in (client, upstream):
            end.settimeout(PATIENCE)
            assert was_reset(end), "what is cut short must not look finished"
        assert len(door.recorder.sessions) == 1
        assert not door.door._carrier._relays


def test_what_a_browser_fetches_stays_where_it_is(door: DoorThread) -> None:
    client, upstream = bulk(door, b"\x05\x01\x00")
    upstream.close()
    assert rest(client) == b""
    client.close()
    assert ended(door)[:2] == ("socks5", "ok")
    assert door.door._carrier._link is None
