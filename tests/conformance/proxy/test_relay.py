"""The relay's contract (see ``dconnect.proxy.relay``) through a real front door."""

from __future__ import annotations

import hashlib
import select
import socket
import struct
import threading
from functools import partial

import pytest

from dconnect.core.events import Session
from dconnect.core.limits import COPY_BYTES, PIPE_BYTES
from dconnect.proxy.relay.pipes import Buffer, Pipe, PipePool
from kit.descriptors import no_descriptors
from kit.door import LOOPS, PATIENCE, DoorThread, exactly, reset, rest, stuff, was_reset


def _socks(door: DoorThread) -> tuple[socket.socket, socket.socket]:
    server, client = door.server(), door.client()
    client.sendall(b"\x05\x01\x00\x05\x01\x00\x03\x03web" + struct.pack("!H", server.port))
    upstream = server.accept()
    exactly(client, 12)
    return client, upstream


def _connect(door: DoorThread) -> tuple[socket.socket, socket.socket]:
    server, client = door.server(), door.client()
    client.sendall(b"CONNECT web:%d HTTP/1.1\r\nHost: web\r\n\r\n" % server.port)
    upstream = server.accept()
    assert exactly(client, 39) == b"HTTP/1.1 200 Connection established\r\n\r\n"
    return client, upstream


@pytest.fixture(params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[_socks, _connect], ids=["socks", "connect"])
def tunnel(request: pytest.FixtureRequest, door: DoorThread) -> tuple[socket.socket, socket.socket]:
    ends: tuple[socket.socket, socket.socket] = request.param(door)
    return ends


@pytest.mark.parametrize("speaks_first", ["client", "upstream"])
def test_what_came_before_the_relay_has_the_sockets_is_carried_with_its_fin(
    door: DoorThread, speaks_first: str
) -> None:
    """A pair from another process: nobody is told again of what came before."""
    near, client = socket.socketpair()
    far, upstream = socket.socketpair()
    first, last = (client, upstream) if speaks_first == "client" else (upstream, client)
    first.sendall(b"banner")
    first.shutdown(socket.SHUT_WR)

    async def take() -> None:
        for sock in (near, far):
            sock.setblocking(False)
        door.door.take_relay(near, far, Session("peer", "tunnel"))

    door.call(take)
    assert rest(door.adopt(last)) == b"banner"
    last.sendall(b"answer")
    last.close()
    assert rest(door.adopt(first)) == b"answer"


def test_fin_of_the_client_is_carried_and_the_answer_still_arrives(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert rest(upstream) == b"question"
    upstream.sendall(b"answer")
    upstream.close()
    assert rest(client) == b"answer"


def test_fin_of_the_server_is_carried_and_the_client_may_go_on(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    upstream.sendall(b"last words")
    upstream.shutdown(socket.SHUT_WR)
    assert rest(client) == b"last words"
    client.sendall(b"still here")
    client.close()
    assert rest(upstream) == b"still here"


def test_fin_without_a_byte_is_carried(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    client.shutdown(socket.SHUT_WR)
    assert rest(upstream) == b""
    upstream.shutdown(socket.SHUT_WR)
    assert rest(client) == b""


def test_reset_of_the_client_reaches_the_server(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    reset(client)
    assert was_reset(upstream)


def test_reset_of_the_server_reaches_the_client(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    reset(upstream)
    assert was_reset(client)


def test_reset_after_fin_reaches_the_server(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    client.shutdown(socket.SHUT_WR)
    assert rest(upstream) == b""
    reset(client)
    poll = select.poll()
    poll.register(upstream, 0)
    assert poll.poll(PATIENCE * 1000)  # its stream had ended already: only the error is left to be told


def test_fin_behind_a_full_pipe_arrives_after_the_last_byte(tunnel: tuple[socket.socket, socket.socket]) -> None:
    for source, sink in (tunnel, tunnel[::-1]):
        sent = stuff(source)
        source.shutdown(socket.SHUT_WR)
        assert len(rest(sink)) == sent


def test_reset_behind_a_full_pipe_cuts_the_other_side(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    stuff(client)
    reset(client)
    assert was_reset(upstream)


def test_data_and_fin_sent_before_the_connection_stood_arrive(door: DoorThread) -> None:
    server, client = door.server(), door.client()
    client.sendall(b"\x05\x01\x00\x05\x01\x00\x03\x03web" + struct.pack("!H", server.port) + b"all I have")
    client.shutdown(socket.SHUT_WR)
    upstream = server.accept()
    assert rest(upstream) == b"all I have"
    upstream.sendall(b"thanks")
    upstream.close()
    assert rest(client)[12:] == b"thanks"


def test_fin_in_the_same_segment_as_data_is_never_lost(door: DoorThread) -> None:
    for size in (1, 4095, 4096, 65536):  # around one page: a short read must not end the loop too early
        for _ in range(25):
            client, upstream = _socks(door)
            client.sendall(b"x" * size)
            client.shutdown(socket.SHUT_WR)
            assert len(rest(upstream)) == size
            upstream.close()
            assert rest(client) == b""
            client.close()


def test_urgent_data_does_not_stop_the_stream(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel  # telnet's Synch (RFC 854) and FTP's ABOR send it
    client.sendall(b"before")
    client.send(b"!", socket.MSG_OOB)
    assert exactly(upstream, 7) == b"before!"
    client.sendall(b"after")
    assert exactly(upstream, 5) == b"after"


def test_urgent_data_right_before_fin_is_not_taken_for_the_end(tunnel: tuple[socket.socket, socket.socket]) -> None:
    client, upstream = tunnel
    upstream.sendall(b"before")
    upstream.send(b"!", socket.MSG_OOB)
    upstream.shutdown(socket.SHUT_WR)
    assert rest(client) == b"before!"


def _pour(sock: socket.socket, chunks: int) -> str:
    digest, chunk = hashlib.sha256(), hashlib.sha256(b"seed").digest() * 8192
    for number in range(chunks):
        part = number.to_bytes(4, "big") + chunk
        digest.update(part)
        sock.sendall(part)
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def _both_ways(client: socket.socket, upstream: socket.socket) -> None:
    sent: list[str] = []
    threads = [threading.Thread(target=lambda sock=sock: sent.append(_pour(sock, 128))) for sock in (client, upstream)]
    got: list[str] = []
    threads += [
        threading.Thread(target=lambda sock=sock: got.append(hashlib.sha256(rest(sock)).hexdigest()))
        for sock in (client, upstream)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(sent) == 2
    assert got == sent


def test_thirty_megabytes_each_way_at_once_arrive_intact(tunnel: tuple[socket.socket, socket.socket]) -> None:
    _both_ways(*tunnel)


def test_without_pipes_all_bytes_arrive_by_copying(door: DoorThread) -> None:
    client, upstream = _socks(door)
    with no_descriptors():
        door.call(partial(_forget_pipes, door))
        _both_ways(client, upstream)


async def _forget_pipes(door: DoorThread) -> None:
    door.door._pipes.close()


def test_a_side_that_does_not_read_stops_the_other(door: DoorThread) -> None:
    client, upstream = _socks(door)
    # What two pairs of socket buffers and one pipe hold; all else waits at the sender.
    assert stuff(upstream) < 32 * 1024 * 1024
    client.close()


def test_a_pool_gives_buffers_when_no_descriptor_is_left_and_keeps_no_buffer() -> None:
    pool = PipePool()
    with no_descriptors():
        conduit = pool.borrow()
    assert isinstance(conduit, Buffer)
    pool.give_back(conduit)
    pipe = pool.borrow()
    assert isinstance(pipe, Pipe)
    pool.give_back(pipe)
    assert pool.borrow() is pipe
    pipe.close()


@pytest.mark.parametrize("make", [Pipe, Buffer])
def test_a_conduit_takes_and_gives_everything_in_order(make: type[Pipe | Buffer]) -> None:
    source, feeder = socket.socketpair()
    sink, reader = socket.socketpair()
    with source, feeder, sink, reader:
        source.setblocking(False)
        sink.setblocking(False)
        conduit = make()
        with pytest.raises(BlockingIOError):
            conduit.fill(source.fileno())
        feeder.sendall(b"abcdef")
        assert conduit.fill(source.fileno()) == 6
        assert conduit.drain(sink.fileno(), 6) == 6
        assert exactly(reader, 6) == b"abcdef"
        feeder.close()
        assert conduit.fill(source.fileno()) == 0
        conduit.close()


def test_slots_are_the_least_that_a_full_conduit_holds() -> None:
    pipe = Pipe()
    assert pipe.slots <= PIPE_BYTES // 4096
    pipe.close()
    assert Buffer().slots == COPY_BYTES
