"""UDP ASSOCIATE, clause by clause, against a real front door (RFC 1928 §4, §6, §7; RFC 4787 where it is silent)."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from dconnect.core.address import IPAddress
from dconnect.core.events import UdpSession
from dconnect.core.limits import UDP_ASSOCIATIONS_PER_ADDRESS, UDP_DESTINATIONS, UDP_HELD_BYTES, UDP_LOOKUPS_PER_SOURCE
from dconnect.core.rules import Rules
from dconnect.proxy.fake import FakeResolve
from dconnect.proxy.policy import Policy
from kit.door import DB, NAMES, WEB, DoorThread, exactly, inventory, reset, rest
from kit.udp import ANYBODY, Caller, Service, by_address, by_name, speaks


def _ended(door: DoorThread) -> UdpSession:
    """The record of the only association."""
    (session,) = door.recorder.sessions
    assert isinstance(session, UdpSession)
    return session


def _dropped(door: DoorThread) -> dict[str, int]:
    """All drops so far, once everything that was sent before has been handled."""

    async def look() -> dict[str, int]:
        return dict(door.associations.dropped)

    return door.call(look)


@pytest.mark.parametrize(
    "told",
    [
        ANYBODY,
        b"\x01\x7f\x00\x00\x01\x30\x39",
        by_address("192.0.2.7", 53),  # of whoever takes it for the destination
        by_address("fd00::1", 53),
        b"\x03\x010\x9c\x40",  # PySocks 1.7: the host "0" and its own port
    ],
)
def test_rfc1928_s4_whatever_the_client_expects_to_send_from_it_is_served(door: DoorThread, told: bytes) -> None:
    speaks(Caller(door, associate=told), Service(door))


@pytest.mark.parametrize("kind", [0, 2, 5, 0xFF])
def test_rfc1928_s6_other_address_types_are_answered_08(door: DoorThread, kind: int) -> None:
    client = door.client()
    client.sendall(b"\x05\x01\x00\x05\x03\x00" + bytes((kind,)) + b"\x7f\x00\x00\x01\x00\x50")
    assert rest(client) == b"\x05\x00\x05\x08\x00\x01" + bytes(6)


def test_rfc1928_s6_bnd_is_where_the_client_must_send(door: DoorThread) -> None:
    host, port = door.address
    assert Caller(door).reply == b"\x05\x00\x00\x01" + socket.inet_aton(host) + struct.pack("!H", port)


def test_rfc1928_s6_the_association_ends_with_the_tcp_connection(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        caller, service = Caller(door), Service(door)
        seen = speaks(caller, service)
        caller.tcp.shutdown(socket.SHUT_WR)
        assert rest(caller.tcp) == b""
        caller.send(service.here, b"too late")
        other = Caller(door)
        speaks(other, service)
        assert _dropped(door) == {"no_association": 1}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(seen)  # our socket towards the service is closed
    assert [session.outcome for session in door.recorder.sessions] == ["ok", "ok"]


def test_rfc1928_s6_a_client_that_is_cut_ends_it_too(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        caller, service = Caller(door), Service(door)
        seen = speaks(caller, service)
        reset(caller.tcp)
        speaks(Caller(door), service)  # accepted later
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(seen)
    assert [session.outcome for session in door.recorder.sessions] == ["reset", "ok"]


def test_rfc1928_s6_what_a_client_sends_over_tcp_means_nothing(door: DoorThread) -> None:
    caller, service = Caller(door), Service(door)
    caller.tcp.sendall(b"x" * 10_000)
    speaks(caller, service)
    caller.tcp.sendall(b"x" * 10_000)
    speaks(caller, service)


@pytest.mark.parametrize("size", [0, 1, 1200, 8000, 65_485])
def test_rfc1928_s7_datagrams_are_relayed_whole(door: DoorThread, size: int) -> None:
    speaks(Caller(door), Service(door), bytes(range(256)) * (size // 256) + bytes(size % 256))


@pytest.mark.parametrize(
    ("host", "destination"),
    [
        (WEB, lambda port: by_address(WEB, port)),
        (DB, lambda port: by_name("DB.", port)),
        (WEB, lambda port: by_name(WEB, port)),
        ("::1", lambda port: by_address("::1", port)),
        ("::1", lambda port: by_name("six", port)),
        (WEB, lambda port: by_address(f"::ffff:{WEB}", port)),
    ],
)
def test_rfc1928_s7_every_address_type_leads_there_and_the_answer_tells_its_true_source(
    door: DoorThread, host: str, destination: object
) -> None:
    assert callable(destination)
    caller, service = Caller(door), Service(door, host)
    for word in (b"one", b"two"):
        caller.send(destination(service.port), word)
        service.echo()
        assert caller.receive() == service.header + word


def test_rfc1928_s7_a_fragment_is_dropped(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        caller, service = Caller(door), Service(door)
        for fragment in (1, 0x80, 0xFF):
            caller.send(service.here, b"part", head=bytes((0, 0, fragment)))
        speaks(caller, service)
        assert _dropped(door) == {"fragment": 3}


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        bytes(4),
        b"\x00\x00\x00\x02\x7f\x00\x00\x01\x00\x50x",
        b"\x00\x00\x00\x01\x7f\x00\x00\x01\x00",
        b"\x00\x00\x00\x03\x05web\x00",
        b"\x00\x00\x00\x04" + bytes(17),
        b"\x00\x00\x00\x03\x00\x00\x50x",
        b"\x00\x00\x00\x03\x03a b\x00\x50x",
        b"\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x00x",  # port 0
    ],
)
def test_rfc1928_s7_what_has_no_header_is_dropped_in_silence(door: DoorThread, datagram: bytes) -> None:
    caller, service = Caller(door), Service(door)
    speaks(caller, service)
    caller.udp.sendto(datagram, door.address)
    speaks(caller, service)
    assert _dropped(door) == {"malformed": 1}


def test_rfc1928_s7_a_datagram_of_nobodys_is_dropped(door: DoorThread) -> None:
    service = Service(door)
    stray = Caller(door, associate=None)
    stray.send(service.here, b"stray")
    deadline = time.monotonic() + 10
    while not _dropped(door):  # else it might find the association that comes
        assert time.monotonic() < deadline
    caller = Caller(door)
    speaks(caller, service)
    stray.send(service.here, b"stray")
    speaks(caller, service)
    assert _dropped(door) == {"no_association": 2}


def test_rfc1928_s7_an_association_is_for_its_own_address(door: DoorThread) -> None:
    caller, service = Caller(door), Service(door)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind((DB, 0))
        elsewhere.sendto(service.header + b"from elsewhere", door.address)
    speaks(caller, service)
    assert _dropped(door) == {"no_association": 1}


def test_rfc1928_s7_what_cannot_be_reached_is_dropped_and_told_in_the_log(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        caller, service = Caller(door), Service(door)
        caller.send(by_name("nobody", 53), b"?")
        caller.send(by_name("metadata", 53), b"?")
        caller.send(by_address("169.254.169.254", 80), b"?")
        caller.send(by_address("0.0.0.0", service.port), b"?")
        caller.send(by_name("stranger", service.port), b"?")
        caller.send(by_name("dconnect", 80), b"?")
        speaks(caller, service)
        assert _dropped(door) == {"name_unknown": 1, "policy": 4, "refused": 1}
        caller.tcp.close()
    session = _ended(door)
    assert session.dropped == {"name_unknown": 1, "policy": 4, "refused": 1}
    assert (session.target, session.address, session.targets) == ("nobody:53", WEB, 7)
    assert session.detail.startswith("dconnect:80 refused the connection")
    assert (session.bytes_up, session.bytes_down, session.datagrams_up, session.datagrams_down) == (5, 5, 1, 1)
    assert session.told()["dropped"] == session.dropped


def test_a_name_is_judged_before_it_is_looked_up(tmp_path: Path) -> None:
    asked: list[str] = []

    class Resolve(FakeResolve):
        async def __call__(self, host: str) -> Sequence[IPAddress]:
            asked.append(host)
            return self.names[host]

    with DoorThread(tmp_path, resolve=Resolve(NAMES), rules=Rules(deny=("db",))) as door:
        caller, service = Caller(door), Service(door)
        caller.send(by_name("db", service.port), b"?")
        caller.send(by_name("web", service.port), b"!")
        assert service.receive()[0] == b"!"
    assert asked == ["web"]


def test_a_change_of_the_rules_reaches_destinations_that_were_allowed(door: DoorThread) -> None:
    caller, service, other = Caller(door), Service(door), Service(door, DB)
    speaks(caller, service)
    door.policy = Policy(inventory(), "allow", rules=Rules(deny=(WEB,)))
    caller.send(service.here, b"no more")
    speaks(caller, other)
    assert _dropped(door) == {"policy": 1}


def test_a_name_that_moves_is_followed_when_the_containers_change(tmp_path: Path) -> None:
    resolve = FakeResolve({"it": [ip_address(WEB)]})
    with DoorThread(tmp_path, resolve=resolve) as door:
        caller, before = Caller(door), Service(door, WEB)
        after = door.adopt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        after.bind((DB, before.port))
        caller.send(by_name("it", before.port), b"one")
        assert before.receive()[0] == b"one"
        resolve.names["it"] = [ip_address(DB)]
        door.policy = Policy(inventory(), "allow")
        caller.send(by_name("it", before.port), b"two")
        assert after.recv(10) == b"two"


def test_rfc4787_s4_1_a_source_has_one_port_towards_all_destinations(door: DoorThread) -> None:
    caller = Caller(door)
    assert len({speaks(caller, Service(door, host))[1] for host in (WEB, DB, WEB)}) == 1


def test_rfc4787_s5_a_datagram_from_whom_nothing_was_sent_to_is_dropped(door: DoorThread) -> None:
    caller, service, stranger = Caller(door), Service(door), Service(door)
    seen = speaks(caller, service)
    stranger.sock.sendto(b"forged answer", seen)
    service.sock.sendto(b"true answer", seen)
    assert caller.receive() == service.header + b"true answer"
    assert _dropped(door) == {"stranger": 1}
    speaks(caller, stranger)  # from now on it may


def test_a_destination_where_nothing_listens_disturbs_no_other(door: DoorThread) -> None:
    caller, service = Caller(door), Service(door)
    with Service(door) as gone:
        nobody = gone.here
    for _ in range(3):
        caller.send(nobody, b"?")
        speaks(caller, service)


def test_datagrams_that_wait_for_their_name_are_sent_in_order(door: DoorThread) -> None:
    caller, service = Caller(door), Service(door)
    for n in range(20):
        caller.send(by_name("web", service.port), bytes((n,)))
    assert [service.receive()[0][0] for _ in range(20)] == list(range(20))


def test_names_that_time_out_leave_others_their_turn(tmp_path: Path) -> None:
    class Slow(FakeResolve):
        async def __call__(self, host: str) -> Sequence[IPAddress]:
            if host.startswith("slow"):
                await door.never()
            return self.names[host]

    with DoorThread(tmp_path, resolve=Slow(NAMES)) as door:
        slow, caller, service = Caller(door), Caller(door), Service(door)
        for n in range(UDP_LOOKUPS_PER_SOURCE + 3):
            slow.send(by_name(f"slow{n}", 53), b"?")
        caller.send(by_name("web", service.port), b"quick")
        assert service.receive()[0] == b"quick"
        assert _dropped(door) == {"full": 3}


def test_what_waits_for_names_is_bounded(tmp_path: Path) -> None:
    class Slow(FakeResolve):
        async def __call__(self, host: str) -> Sequence[IPAddress]:
            if host == "slow":
                await door.never()
            return self.names[host]

    with DoorThread(tmp_path, resolve=Slow(NAMES)) as door:
        slow, caller, service = Caller(door), Caller(door), Service(door)
        for _ in range(UDP_HELD_BYTES // 60_000 + 2):
            slow.send(by_name("slow", 53), bytes(60_000))
            speaks(caller, service)  # so that the door keeps up
        assert _dropped(door) == {"full": 2}


def test_a_source_may_have_many_destinations_and_the_longest_unused_is_forgotten(door: DoorThread) -> None:
    caller = Caller(door)
    services = [Service(door) for _ in range(UDP_DESTINATIONS + 1)]
    seen = {speaks(caller, service) for service in (*services[:-1], services[0], services[-1])}
    (ours,) = seen
    services[1].sock.sendto(b"forgotten", ours)
    services[0].sock.sendto(b"known", ours)
    assert caller.receive() == services[0].header + b"known"
    assert _dropped(door) == {"stranger": 1}
    speaks(caller, services[1])


def test_the_oldest_waiting_association_is_taken_and_no_source_more_than_there_are(door: DoorThread) -> None:
    service = Service(door)
    callers = [Caller(door) for _ in range(3)]
    stray = Caller(door, associate=None)
    for caller in reversed(callers):
        speaks(caller, service)
    stray.send(service.here, b"stray")
    speaks(callers[0], service)
    assert _dropped(door) == {"no_association": 1}


def test_the_end_of_one_association_does_not_silence_another_source_of_its_address(door: DoorThread) -> None:
    """Behind docker-proxy nobody can tell whose source is whose; here each takes the other one's association."""
    service, first, second = Service(door), Caller(door), Caller(door)
    seen = speaks(second, service)
    speaks(first, service)
    first.tcp.shutdown(socket.SHUT_WR)
    assert rest(first.tcp) == b""
    assert speaks(second, service) == seen
    speaks(Caller(door), service)
    assert speaks(second, service) == seen


def test_all_sources_of_an_address_end_with_its_last_association(door: DoorThread) -> None:
    service, first, second = Service(door), Caller(door), Caller(door)
    speaks(first, service)
    speaks(second, service)
    for caller in (first, second):
        caller.tcp.shutdown(socket.SHUT_WR)
        assert rest(caller.tcp) == b""
    fresh = Caller(door)
    speaks(fresh, service)
    for caller in (first, second):
        caller.send(service.here, b"too late")
    speaks(fresh, service)
    assert _dropped(door) == {"no_association": 2}


def test_rfc4787_s4_3_an_idle_source_is_forgotten_and_its_association_is_free_again(tmp_path: Path) -> None:
    with DoorThread(tmp_path, udp_idle_seconds=0.2) as door:
        service, caller = Service(door), Caller(door)
        seen = speaks(caller, service)
        door.call(door.until(lambda: not door.associations._flows))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(seen)
        caller.udp = door.adopt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))  # docker-proxy's new port
        speaks(caller, service)


def test_more_associations_than_an_address_may_have_are_answered_01(tmp_path: Path) -> None:
    most = UDP_ASSOCIATIONS_PER_ADDRESS
    with DoorThread(tmp_path, max_clients=most + 10) as door:
        callers = [Caller(door) for _ in range(most)]
        client = door.client()
        client.sendall(b"\x05\x01\x00\x05\x03\x00" + ANYBODY)
        assert rest(client) == b"\x05\x00\x05\x01\x00\x01" + bytes(6)
        callers[0].tcp.shutdown(socket.SHUT_WR)
        assert rest(callers[0].tcp) == b""
        speaks(Caller(door), Service(door))
    (refused,) = (session for session in door.recorder.sessions if session.outcome == "not_ready")
    assert refused.front == "associate"
    assert refused.detail.startswith(f"127.0.0.1 has {most} UDP associations")


def test_sources_of_ended_associations_are_bounded_and_the_longest_idle_makes_room(door: DoorThread) -> None:
    service, kept = Service(door), Caller(door)
    speaks(kept, service)
    old = [Caller(door)]
    speaks(old[0], service)
    for _ in range(UDP_ASSOCIATIONS_PER_ADDRESS):
        caller = Caller(door)
        speaks(caller, service)
        caller.tcp.close()
        caller.udp.close()

    async def flows() -> int:
        return len(door.associations._flows)

    assert door.call(flows) <= UDP_ASSOCIATIONS_PER_ADDRESS
    speaks(kept, service)
    speaks(old[0], service)


def test_the_agents_end_closes_associations_at_once(tmp_path: Path) -> None:
    with DoorThread(tmp_path) as door:
        caller = Caller(door)
        speaks(caller, Service(door))
        door.call(door.door.drain)
        assert rest(caller.tcp) == b""
    assert (_ended(door).outcome, _ended(door).front) == ("shutdown", "associate")


def test_an_open_association_is_listed_with_its_bytes(door: DoorThread) -> None:
    async def listed() -> tuple[list[tuple[str, str, int, int]], tuple[int, int]]:
        found = [(str(s.front), s.target, up, down) for s, up, down in door.door.connections(10)]
        return found, door.door.bytes_moved()

    caller, service = Caller(door), Service(door)
    speaks(caller, service, b"12345")
    assert door.call(listed) == ([("associate", f"{WEB}:{service.port}", 5, 5)], (5, 5))


def test_a_client_that_leaves_at_once_leaves_nothing(door: DoorThread) -> None:
    for leave in (socket.socket.close, reset):
        client = door.client()
        client.sendall(b"\x05\x01\x00\x05\x03\x00" + ANYBODY)
        leave(client)
    caller = Caller(door)
    speaks(caller, Service(door))
    assert exactly(caller.tcp, 0) == b""
