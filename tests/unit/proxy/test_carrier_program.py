"""The process that carries, with its owner's end of the link in the test's hands."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from kit.door import PATIENCE, exactly, rest, was_reset
from kit.pairs import give_carrier


@contextlib.contextmanager
def program(room: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The carrier's program, and its owner's end of the link; ``room``: bytes that the owner does not hear at once."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE)
    with ours:
        with theirs:
            if room is not None:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
            argv = [sys.executable, "-P", "-m", "dconnect.proxy.relay.carrying", str(theirs.fileno())]
            process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),))
        try:
            yield process, ours
        finally:
            process.kill()
            process.wait()


def test_the_process_ends_with_its_owner_and_cuts_what_it_carries() -> None:
    with program() as (process, link):
        user, service = give_carrier(link, 1)
        with user, service:
            user.sendall(b"x")
            assert exactly(service, 1) == b"x"
            link.close()
            assert process.wait(PATIENCE) == 0
            assert was_reset(user)
            assert was_reset(service)


def test_what_a_busy_owner_has_no_room_for_is_told_later_and_cuts_nobody() -> None:
    count = 64
    with program(room=1) as (_, link), contextlib.ExitStack() as held:  # the kernel gives a few KiB
        pairs = [give_carrier(link, number) for number in range(count)]
        for user, service in pairs:
            held.enter_context(user)
            held.enter_context(service)
        for number, (user, service) in enumerate(pairs):
            user.sendall(bytes((number,)))
            user.shutdown(socket.SHUT_WR)
            assert rest(service) == bytes((number,))
            service.close()
            assert rest(user) == b""
        ended: dict[int, tuple[int, int, int]] = {}
        while len(ended) < count:
            told = link.recv(65536)
            assert told, "it ended"
            records = [struct.unpack("!QQQi", told[at : at + 28]) for at in range(0, len(told), 28)]
            ended.update({number: (up, down, state) for number, up, down, state in records if state != -1})
        assert ended == dict.fromkeys(range(count), (1, 0, 0))
