"""Turns of datagrams on real sockets on loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dconnect.core.limits import DNS_QUERIES_PER_TURN, DNS_QUERY_BYTES, DNS_UDP_BYTES
from dconnect.dns.batch import Datagrams, plain_address

DUAL_STACK = "dual stack"
BINDINGS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6, DUAL_STACK: socket.AF_INET6}


class Ends:
    """A server's socket and its clients."""

    def __init__(self, stack: ExitStack, binding: str) -> None:
        self._stack = stack
        self.host = "127.0.0.1" if binding == DUAL_STACK else binding
        server = stack.enter_context(socket.socket(BINDINGS[binding], socket.SOCK_DGRAM))
        if binding == DUAL_STACK:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::" if binding == DUAL_STACK else binding, 0))
        self._port = server.getsockname()[1]
        self.datagrams = Datagrams(server, timed=True)

    def client(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        client = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        client.settimeout(5)
        client.connect((self.host, self._port))
        return client


@pytest.fixture(params=BINDINGS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack, request.param)


def test_every_peer_has_the_answer_to_its_own_query(ends: Ends) -> None:
    clients = [ends.client() for _ in range(3)]
    queries = [b"long query", b"", b"query"]
    for query, client in zip(queries, clients, strict=True):
        client.send(query)
    arrived = ends.datagrams.receive()
    assert [query for query, _ in arrived] == queries
    assert {ends.datagrams.host(peer) for _, peer in arrived} == {ends.host}
    ends.datagrams.send([(query + b" answered", peer) for query, peer in reversed(arrived)])
    assert [client.recv(100) for client in clients] == [query + b" answered" for query in queries]


def test_nothing_is_received_where_nothing_arrived(ends: Ends) -> None:
    assert ends.datagrams.receive() == []
    ends.datagrams.send([])


def test_a_turn_takes_so_many_and_the_next_takes_the_others(ends: Ends) -> None:
    client = ends.client()
    for number in range(DNS_QUERIES_PER_TURN + 3):
        client.send(bytes([number]))
    turns = [[query[0] for query, _ in ends.datagrams.receive()] for _ in range(3)]
    assert turns == [
        list(range(DNS_QUERIES_PER_TURN)),
        list(range(DNS_QUERIES_PER_TURN, DNS_QUERIES_PER_TURN + 3)),
        [],
    ]


def test_a_datagram_keeps_nothing_of_a_longer_one_before_it(ends: Ends) -> None:
    client = ends.client()
    for payload in (b"a" * (DNS_QUERY_BYTES + 1), b"", b"bc"):
        client.send(payload)
        ((received, peer),) = ends.datagrams.receive()
        assert received == payload[:DNS_QUERY_BYTES]
        ends.datagrams.send([(received[:DNS_UDP_BYTES], peer)])
        assert client.recv(DNS_QUERY_BYTES) == payload[:DNS_UDP_BYTES]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_answer_that_cannot_be_sent_keeps_no_other_back(ends: Ends, place: int) -> None:
    client = ends.client()
    client.send(b"query")
    ((_, peer),) = ends.datagrams.receive()
    nowhere = peer[:2] + bytes(2) + peer[4:]  # port 0: EINVAL
    answers = [(b"first", peer), (b"second", peer)]
    answers.insert(place, (b"lost", nowhere))
    ends.datagrams.send(answers)
    assert [client.recv(100), client.recv(100)] == [b"first", b"second"]


def test_a_closed_socket_receives_and_sends_nothing() -> None:
    with ExitStack() as stack:
        ends = Ends(stack, "127.0.0.1")
        ends.client().send(b"query")
        ((_, peer),) = ends.datagrams.receive()
    assert ends.datagrams.receive() == []
    ends.datagrams.send([(b"answer", peer)])


@pytest.mark.parametrize(
    ("host", "plain"),
    [("::ffff:172.17.0.1", "172.17.0.1"), ("172.17.0.1", "172.17.0.1"), ("fd00::1", "fd00::1"), ("::1", "::1")],
)
def test_an_ipv4_mapped_address_is_unwrapped(host: str, plain: str) -> None:
    assert plain_address(host) == plain


def test_the_next_datagram_tells_for_how_long_it_has_waited(ends: Ends) -> None:
    assert ends.datagrams.waited() == 0
    before = time.time()
    for query in (b"first", b"second"):
        ends.client().send(query)
    between = time.time()
    told = [ends.datagrams.waited(), ends.datagrams.waited()]
    assert 0 < told[0] < told[1] <= time.time() - before
    assert [query for query, _ in ends.datagrams.receive()] == [b"first", b"second"]  # asking took nothing
    assert ends.datagrams.waited() == 0
    ends.client().send(b"third")
    assert ends.datagrams.waited() < time.time() - between
