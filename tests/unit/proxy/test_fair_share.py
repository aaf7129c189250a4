"""Who transfers without end leaves the others their turns: counted in bytes moved, not in seconds."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

from dconnect.core.inventory import Inventory
from dconnect.core.limits import RELAY_TURN_BYTES
from dconnect.proxy.dial import Dial
from dconnect.proxy.fake import (
    EndlessPool,
    FakeDescribe,
    FakeResolve,
    FakeReverse,
    FakeSockets,
    NoAssociates,
    Recorder,
)
from dconnect.proxy.frontdoor import FrontDoor
from dconnect.proxy.judge import Judge
from dconnect.proxy.lookup import Lookup
from dconnect.proxy.policy import Policy
from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay.splice import Relay

BULK = 64
"""Relays whose peers always have more to send and always take it."""
TURNS = 4
"""Until a client's whole handshake is served: it is accepted, read, dialed and answered within one or two."""


def front_door(poller: Poller, listener: socket.socket) -> FrontDoor:
    sockets = FakeSockets()
    names = {"web": [ip_address("127.0.0.1")]}
    resolve, judge = FakeResolve(names), Judge(lambda: Policy(Inventory(), "allow"), sockets.is_local)
    dial = Dial(
        poller=poller,
        resolve=resolve,
        sockets=sockets,
        judge=judge,
        own_service="/none",
        own_ports=frozenset(),
    )
    return FrontDoor(
        poller=poller,
        listener=listener,
        dial=dial,
        describe=FakeDescribe({}),
        associates=NoAssociates(),
        observer=Recorder(),
        admits=lambda _: True,
        hosts=frozenset(),
        max_clients=10,
        lookup=Lookup(resolve=resolve, reverse=FakeReverse(names), judge=judge),
    )


async def bytes_moved_meanwhile() -> list[int]:
    """What each bulk relay moved from a client's first byte to the reply to its request."""
    loop, poller, pool = asyncio.get_running_loop(), Poller(), EndlessPool()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        door = front_door(poller, listener)
        door.start()
        peers, relays = [], []
        for _ in range(BULK):
            (client, user), (upstream, service) = socket.socketpair(), socket.socketpair()
            peers += [user, service]
            for sock in (client, upstream, user, service):
                sock.setblocking(False)
            channels = Channel(poller, client), Channel(poller, upstream)
            relays.append(Relay(poller, pool, *channels, lambda _relay, _error: None))
            relays[-1].start()
            user.send(b"go")
        while not all(relay.moved[0] for relay in relays):  # noqa: ASYNC110 - a turn of the loop is what we wait for
            await asyncio.sleep(0)
        with socket.socket() as visitor:
            visitor.setblocking(False)
            await loop.sock_connect(visitor, listener.getsockname())
            before = [relay.moved[0] for relay in relays]
            await loop.sock_sendall(visitor, b"\x05\x01\x00\x05\x01\x00\x03\x03nay\x00\x50")
            answer = b""
            while len(answer) < 12:
                answer += await loop.sock_recv(visitor, 12 - len(answer))
            after = [relay.moved[0] for relay in relays]
        for relay in relays:
            relay.abort()
        await door.drain()
    for sock in peers:
        sock.close()
    poller.close()
    assert answer == b"\x05\x00\x05\x04\x00\x01" + bytes(6)
    return [end - begin for begin, end in zip(before, after, strict=True)]


def test_a_handshake_among_bulk_relays_waits_for_a_few_of_their_turns_and_no_more() -> None:
    moved = asyncio.run(bytes_moved_meanwhile())
    assert max(moved) <= TURNS * RELAY_TURN_BYTES
    assert min(moved) > 0, "the relays stood still, so nothing was shown"


def test_bulk_relays_have_equal_shares() -> None:
    moved = asyncio.run(bytes_moved_meanwhile())
    assert max(moved) - min(moved) <= 2 * RELAY_TURN_BYTES
