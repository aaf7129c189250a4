"""What the host takes from the link."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest

from dconnect.tunnel.gate import Gate
from kit import packets

GATE = Gate(
    (ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")), (ip_network("172.17.0.0/16"), ip_network("fd17::/64"))
)


@pytest.mark.parametrize(
    "packet", [packets.PONG4, packets.PONG6, packets.RST_OF_SYN4, packets.RST_OF_SYN6, packets.PORT4]
)
def test_answers_of_containers_come_in(packet: bytes) -> None:
    assert GATE.admits(memoryview(bytearray(packet)))
    assert GATE.admits(memoryview(bytearray(packet)))  # known now


@pytest.mark.parametrize("packet", [packets.PING4, packets.PING6, packets.DATA4], ids=["ping4", "ping6", "tcp"])
def test_what_is_for_somebody_else_does_not(packet: bytes) -> None:
    assert not GATE.admits(memoryview(bytearray(packet)))


@pytest.mark.parametrize("packet", [packets.PONG4, packets.PONG6])
def test_what_comes_from_where_the_tunnel_does_not_lead_does_not(packet: bytes) -> None:
    gate = Gate((ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")), (ip_network("172.18.0.0/16"),))
    assert not gate.admits(memoryview(bytearray(packet)))


@pytest.mark.parametrize("packet", [packets.SYN4, packets.SYN6])
def test_a_container_opens_no_connection_to_the_host(packet: bytes) -> None:
    gate = Gate(
        (ip_interface("172.17.0.2/24"), ip_interface("fd17::2/64")),
        (ip_network("10.0.0.0/16"), ip_network("fd00::/64")),
    )
    assert not gate.admits(memoryview(bytearray(packet)))


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x00" * 40, packets.PONG4[:-1]])
def test_what_is_no_packet_does_not(packet: bytes) -> None:
    assert not GATE.admits(memoryview(bytearray(packet)))
