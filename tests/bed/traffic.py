"""Somebody else's traffic, in which nothing may be lost whatever happens beside it: a train of pings and an upload."""

from __future__ import annotations

import hashlib
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bed.client import receive_all
from bed.namespace import Namespace

_PINGS_PER_SECOND = 20
_BLOCK = bytes(range(256)) * 64
_PACE_SECONDS = 0.005
"""Between two blocks: a stream of 3 MB/s, beside which others still have the processor."""
_PATIENCE = 30.0
_LEAST = 0.3
"""Of the pings that are wanted so many must have been sent: a busy machine sends fewer, one that stopped far fewer."""
_SUMMARY = re.compile(rb"(\d+) packets transmitted")
_ANSWER = re.compile(rb" bytes from .* icmp_seq=(\d+) ")


class _Upload(threading.Thread):
    """Sends until it is told to end; then the target (``target_server``'s port 9) has told what it got."""

    def __init__(self, host: Namespace, address: str) -> None:
        super().__init__(name="upload")
        self._socket = host.connect(address, 9, timeout=_PATIENCE)
        self.ended = threading.Event()
        self.sent = 0
        self.outcome = ""
        """Empty: the target got what was sent."""

    def run(self) -> None:
        state = hashlib.sha256()
        try:
            with self._socket as sock:
                while not self.ended.wait(_PACE_SECONDS):
                    sock.sendall(_BLOCK)
                    state.update(_BLOCK)
                    self.sent += len(_BLOCK)
                sock.shutdown(1)
                got = receive_all(sock).decode()
            self.outcome = "" if got == state.hexdigest() else f"the target got {got}"
        except OSError as error:
            self.outcome = repr(error)


@contextmanager
def pings(host: Namespace, address: str, per_second: int = _PINGS_PER_SECOND) -> Iterator[None]:
    """Within the block there is a train of pings; at its end all of them have been answered.

    Raises: AssertionError.
    """
    with tempfile.TemporaryFile() as said_to:  # a pipe that nobody reads would stop it after a while
        train = host.popen(["ping", f"-i{1 / per_second}", address], stdout=said_to)
        begun = time.monotonic()
        try:
            yield
        finally:
            train.send_signal(signal.SIGINT)
            seconds = time.monotonic() - begun
            try:
                train.communicate(timeout=_PATIENCE)
            finally:
                train.kill()
        said_to.seek(0)
        said = said_to.read()
    summary = _SUMMARY.search(said)
    assert summary is not None, said
    sent, answered = int(summary[1]), {int(number) for number in _ANSWER.findall(said)}
    assert sent >= _LEAST * per_second * seconds, f"only {sent} pings were sent in {seconds:.1f} s"
    assert answered, said
    lost = set(range(1, max(answered))) - answered
    assert not lost, f"of {sent} pings {len(lost)} were lost: {sorted(lost)[:20]}"
    assert sent - max(answered) <= per_second, f"the last of {sent} pings that was answered is {max(answered)}"


@contextmanager
def traffic(host: Namespace, address: str) -> Iterator[None]:
    """Within the block there is traffic, pings and an upload; at its end all of it has come through.

    Raises: AssertionError.
    """
    upload = _Upload(host, address)
    upload.start()
    try:
        with pings(host, address):
            yield
    finally:
        upload.ended.set()
        upload.join(_PATIENCE)
    assert not upload.outcome, upload.outcome
    assert upload.sent, "nothing was sent"
