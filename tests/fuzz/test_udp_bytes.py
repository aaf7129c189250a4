"""Random datagrams: the header is found or the datagram is malformed, and nothing else comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dconnect.core.errors import MalformedMessage
from dconnect.proxy.wire.udp import MAX_HEADER_BYTES, header, parse_destination, parse_header
from kit.door import DoorThread
from kit.udp import Caller, Service, speaks

SEEDS = [  # PySocks 1.7.1
    b"\x00\x00\x00\x03\x0adns.docker\x00\x35query",
    b"\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x35query",
    b"\x00\x00\x00\x04\xfd" + bytes(14) + b"\x03\x14\xe9query",
]
mutations = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 255)), max_size=6)
datagrams = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda seed, changes, cut: _mutated(seed, changes)[: len(seed) - cut],
        st.sampled_from(SEEDS),
        mutations,
        st.integers(0, 20),
    ),
)


def _mutated(seed: bytes, changes: list[tuple[int, int]]) -> bytes:
    message = bytearray(seed)
    for offset, value in changes:
        message[offset % len(message)] = value
    return bytes(message)


@given(datagrams)
@settings(max_examples=500, deadline=None)
def test_a_header_is_found_or_the_datagram_is_malformed(datagram: bytes) -> None:
    try:
        destination, offset = parse_header(memoryview(datagram))
    except MalformedMessage:
        return
    assert datagram[2] == 0
    assert datagram[3:offset] == destination
    try:
        target = parse_destination(destination)
    except MalformedMessage:
        return
    assert 1 <= target.port <= 65535
    assert target.host


@given(st.ip_addresses(), st.integers(1, 65535))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(address: object, port: int) -> None:
    written = header(ip_address(str(address)), port)
    assert len(written) <= MAX_HEADER_BYTES
    destination, offset = parse_header(written + b"payload")
    assert offset == len(written)
    target = parse_destination(destination)
    assert (ip_address(target.host), target.port) == (address, port)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorThread]:
    directory: Path = tmp_path_factory.mktemp("udp")
    with DoorThread(directory, egress="deny") as running:
        yield running


@given(st.lists(datagrams, max_size=20))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_association_outlives_whatever_its_client_sends(door: DoorThread, sent: list[bytes]) -> None:
    caller, service = Caller(door), Service(door)
    try:
        speaks(caller, service)
        for datagram in sent:
            caller.udp.sendto(datagram, door.address)
        speaks(caller, service, b"still there?")
    finally:
        caller.tcp.close()
        caller.udp.close()
        service.sock.close()
