"""Connections that are aborted at every moment of their life; nothing of them may stay.

Which moment, which front and which farewell is drawn from a seed, so a run can be had again.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bed.client import destination, receive_all, receive_exactly
from bed.session import Bed
from bench.agent import agent
from bench.load import Way
from bench.programs import TARGET_PORT, Site
from dconnect.core.limits import CONNECT_SECONDS
from soak.parts import Ground, Outcome, must_be_flat

COUNT = 10_000
AT_ONCE = 16
WARM = 0.1
"""So much of the whole is warm-up: allocators find their size."""
SILENT_PORT = 7001
"""Of the target; what it answers there is swallowed, so that a dial to it goes on."""
CONNECTING = 0.02
"""So many leave during the dial; fewer than at other moments, for ..."""
GONE_SECONDS = CONNECT_SECONDS + 5
"""... a dial goes on to its deadline when its client has ended its side: that may be all it had to say."""
SECONDS = 30.0
"""Nothing that an aborted connection waits for takes this long."""
_BLOCK = b"x" * (1 << 16)


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection at the front door."""

    connection: socket.socket
    front: str
    """socks5 or http."""
    target: str
    chance: random.Random

    def request(self, port: int = TARGET_PORT) -> bytes:
        if self.front == "http":
            return f"CONNECT {self.target}:{port} HTTP/1.1\r\nHost: {self.target}:{port}\r\n\r\n".encode()
        return b"\x05\x01\x00" + destination(self.target, port)

    def greet(self) -> None:
        """What comes before the request: nothing in HTTP."""
        if self.front == "socks5":
            self.connection.sendall(b"\x05\x01\x00")
            assert receive_exactly(self.connection, 2) == b"\x05\x00", "the greeting is not accepted"

    def open(self) -> None:
        """Up to the reply, which must be success."""
        self.greet()
        self.connection.sendall(self.request())
        if self.front == "socks5":
            assert receive_exactly(self.connection, 10)[:2] == b"\x05\x00", "no success"
            return
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.connection.recv(1)
            assert byte, f"no reply but {head!r}"
            head += byte
        assert head.split()[1] == b"200", head

    def part_of(self, message: bytes) -> bytes:
        return message[: self.chance.randrange(1, len(message))]


def connected(visit: Visit) -> None:
    """Nothing is ever said."""


def greeting(visit: Visit) -> None:
    visit.connection.sendall(visit.part_of(b"\x05\x02\x00" if visit.front == "socks5" else b"CONNECT "))


def request(visit: Visit) -> None:
    visit.greet()
    visit.connection.sendall(visit.part_of(visit.request()))


def connecting(visit: Visit) -> None:
    visit.greet()
    visit.connection.sendall(visit.request(SILENT_PORT))


def rushed(visit: Visit) -> None:
    """Everything at once, and gone before the first reply."""
    early = b"\x05\x01\x00" if visit.front == "socks5" else b""
    visit.connection.sendall(early + visit.request() + b"e" + _BLOCK[:1000])


def replied(visit: Visit) -> None:
    visit.open()


def uploading(visit: Visit) -> None:
    visit.open()
    visit.connection.sendall(b"u")
    for _ in range(visit.chance.randrange(1, 64)):
        visit.connection.sendall(_BLOCK)


def downloading(visit: Visit) -> None:
    visit.open()
    visit.connection.sendall(b"d")
    for _ in range(visit.chance.randrange(1, 64)):
        assert visit.connection.recv(len(_BLOCK)), "the download ended"


def half_closed(visit: Visit) -> None:
    """Our side is done, the target's answer is on its way or was read to its end."""
    visit.open()
    visit.connection.sendall(b"p" + _BLOCK[:1000])
    visit.connection.shutdown(socket.SHUT_WR)
    if visit.chance.random() < 0.5:
        assert receive_all(visit.connection) == b"p" + _BLOCK[:1000], "the echo is not whole"


def half_closed_download(visit: Visit) -> None:
    visit.open()
    visit.connection.sendall(b"d")
    visit.connection.shutdown(socket.SHUT_WR)
    assert visit.connection.recv(len(_BLOCK)), "the download ended with our own side"


MOMENTS: tuple[Callable[[Visit], None], ...] = (
    connected,
    greeting,
    request,
    rushed,
    replied,
    uploading,
    downloading,
    half_closed,
    half_closed_download,
)


def leave(connection: socket.socket, *, by_reset: bool) -> None:
    if by_reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def abort_many(site: Site, way: Way, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """So many aborted connections, a few at once: how many of each kind, and what went wrong."""
    kinds: Counter[str] = Counter()
    wrong: list[str] = []

    def one(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        moment = connecting if chance.random() < CONNECTING else chance.choice(MOMENTS)
        front = chance.choice(("socks5", "http"))
        by_reset = chance.random() < 0.5
        kind = f"{moment.__name__}, {front}, {'RST' if by_reset else 'FIN'}"
        kinds[kind] += 1
        try:
            connection = way.namespace.connect(way.address, way.port, timeout=SECONDS)
            try:
                moment(Visit(connection, front, site.target, chance))
            finally:
                leave(connection, by_reset=by_reset)
        except (OSError, AssertionError) as error:
            wrong.append(f"{number}: {kind}: {error!r}")

    with site.bed.blackhole(site.target, SILENT_PORT), ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(count)))
    return kinds, wrong


def measure(bed: Bed, site: Site, way: Way, count: int, seed: int) -> Outcome:
    """Abort so many and judge what is left."""
    first = agent(bed)
    warm_kinds, wrong = abort_many(site, way, max(1, round(count * WARM)), seed)
    warm = agent(bed)
    kinds, more = abort_many(site, way, count, seed + 1)
    wrong += more
    outcome = Outcome({"connections": (warm_kinds + kinds).total(), "seed": seed, "kinds": dict(sorted(kinds.items()))})
    outcome.must("up to its abortion each is served rightly", wrong[:10], hold=not wrong)
    must_be_flat(outcome, bed, first, warm, agent(bed), seconds=GONE_SECONDS)
    return outcome


def run(ground: Ground) -> Outcome:
    return measure(ground.bed, ground.site, ground.socks, ground.scaled(COUNT), random.randrange(1 << 32))
