"""What a relay does with its pipe when one side resets."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from dconnect.proxy.poller import Channel, Poller
from dconnect.proxy.relay import pipes
from dconnect.proxy.relay.pipes import Pipe, PipePool
from dconnect.proxy.relay.splice import Relay


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    return near, far


async def relay_one_byte_then_reset(pool: PipePool) -> OSError | None:
    poller = Poller()
    ended: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    (client, user), (upstream, service) = tcp_pair(), tcp_pair()
    with user, service:
        channels = Channel(poller, client), Channel(poller, upstream)
        Relay(poller, pool, *channels, lambda _, error: ended.set_result(error)).start()
        user.sendall(b"x")
        assert await asyncio.to_thread(service.recv, 1) == b"x"
        user.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        user.close()
        error = await asyncio.wait_for(ended, 5)
    poller.close()
    return error


def test_an_empty_pipe_outlives_the_reset_of_its_connection() -> None:
    pool = PipePool()
    pipe = pool.borrow()
    pool.give_back(pipe)
    assert isinstance(asyncio.run(relay_one_byte_then_reset(pool)), ConnectionResetError)
    assert pool.borrow() is pipe
    pipe.close()


async def relay_to_a_side_that_has_reset(pool: PipePool) -> OSError | None:
    poller = Poller()
    ended: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    (client, user), (upstream, service) = tcp_pair(), tcp_pair()
    with user, service:
        channels = Channel(poller, client), Channel(poller, upstream)
        Relay(poller, pool, *channels, lambda _, error: ended.set_result(error)).start()
        # Both are told in one turn, in this order: bytes are in the pipe when the sink fails.
        user.sendall(b"for nobody else")
        service.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        service.close()
        error = await asyncio.wait_for(ended, 5)
    poller.close()
    return error


def test_a_pipe_with_bytes_left_in_it_is_never_lent_again() -> None:
    pool = PipePool()
    pipe = pool.borrow()
    pool.give_back(pipe)
    assert isinstance(asyncio.run(relay_to_a_side_that_has_reset(pool)), ConnectionError)
    other = pool.borrow()
    assert other is not pipe, "the next connection would get this one's bytes"
    other.close()


def test_a_pipe_that_may_not_grow_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel refuses an unknown command as it refuses a user's 58th large pipe, which root never sees.
    monkeypatch.setattr(pipes, "F_SETPIPE_SZ", -1)
    conduit = PipePool().borrow()
    assert isinstance(conduit, Pipe)
    assert conduit.slots == 16  # pipe(7)
    conduit.close()
