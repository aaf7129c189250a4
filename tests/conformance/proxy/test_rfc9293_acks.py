"""RFC 9293 §3.8.6.3 (delayed acknowledgements) and §3.7.4 (Nagle): who waits for an ACK, and who carries one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.door import WEB, DoorThread, exactly


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DoorThread]:
    """One whose listener puts ACKs off, as the agent's does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        with DoorThread(tmp_path, listener=listener) as made:
            yield made


def acknowledges_soon(door: DoorThread) -> bool:
    """Whether the one client's bytes are acknowledged before something is sent to it."""
    sides = [guest.channel for guest in door.door._guests] or [relay._client for relay in door.door._relays]
    assert len(sides) == 1
    return bool(sides[0].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))


def waits(door: DoorThread) -> bool:
    """Whether the one client has been read, and more is expected of it."""
    return [bool(guest.buffer) for guest in door.door._guests] == [True]


def test_s3_8_6_3_the_answers_of_a_handshake_carry_its_acknowledgements_and_a_relay_goes_on_without(
    door: DoorThread,
) -> None:
    client, server = door.client(), door.server()
    client.sendall(b"\x05\x01\x00")
    assert exactly(client, 2) == b"\x05\x00"
    assert not acknowledges_soon(door)
    client.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(WEB) + server.port.to_bytes(2))
    assert exactly(client, 10)[:2] == b"\x05\x00"
    server.accept()
    door.call(door.until(lambda: bool(door.door._relays)))
    assert acknowledges_soon(door)


@pytest.mark.parametrize("half", [b"\x05", b"\x04\x01", b"GET http://web/ HT"])
def test_s3_7_4_a_client_that_says_the_rest_after_an_acknowledgement_gets_it(door: DoorThread, half: bytes) -> None:
    client = door.client()
    client.sendall(half)
    door.call(door.until(lambda: waits(door)))
    assert acknowledges_soon(door)


def test_s3_7_4_a_request_of_http_is_acknowledged_for_its_body_may_come_after_that(door: DoorThread) -> None:
    client, server = door.client(), door.server()
    client.sendall(b"POST http://web:%d/ HTTP/1.1\r\nHost: web:%d\r\nContent-Length: 1\r\n\r\n" % ((server.port,) * 2))
    server.accept()
    assert acknowledges_soon(door)
