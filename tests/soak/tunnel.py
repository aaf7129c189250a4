"""5,000 TCP flows, 2,000 UDP flows and 100 pings a second, together and for ten minutes, over one link."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator

from bed.dconnect import Dconnect
from bed.processes import Usage, usage
from bed.session import Bed
from bed.traffic import pings
from bed.tun import tunnel_of
from bench.agent import GONE_SECONDS, agent
from bench.load import Way
from bench.programs import NETWORK, Site
from dconnect.agent.labels import AGENT_NAME, DIALER_NAME
from soak.parts import Ground, Outcome, must_be_flat
from soak.storm import all_gone, flows

TCP, UDP, PINGS_PER_SECOND, SECONDS = 5_000, 2_000, 100, 600.0
BUSY = 0.02
"""So many of the TCP flows send messages all the time; the others rest between their first byte and their last."""
WARM = 0.1
"""So much of the time is warm-up."""
WARM_BULK_SECONDS = 1.0
"""Bulk enough for a carrier at each end, a process for as long as the tunnel is up (``relay/carrier.py``): growth is
judged over all of the host's processes together, so it must be there from the beginning."""
_AT_ONCE = 50
"""Datagrams under way: what waits for a flow's socket is bounded, and so are the kernel's buffers."""
_PAUSE_SECONDS = 0.05
"""Between such batches: 1,000 datagrams a second, so that each of 2,000 flows has one every other second."""
_LOST_SECONDS = 2.0


class Datagrams(threading.Thread):
    """Flows of one datagram after the other, each with a socket of its own; none is repeated."""

    def __init__(self, bed: Bed, address: str, count: int) -> None:
        super().__init__(name="datagrams")
        self._sockets = bed.host.call(lambda: [socket.socket(type=socket.SOCK_DGRAM) for _ in range(count)])
        for each in self._sockets:
            each.connect((address, 7))
            each.setblocking(False)
        self.ended = threading.Event()
        self.answered = 0
        self.lost: list[str] = []

    def run(self) -> None:
        turn = 0
        while not self.ended.wait(_PAUSE_SECONDS):
            at = turn * _AT_ONCE % len(self._sockets)
            self._exchange(self._sockets[at : at + _AT_ONCE], turn)
            turn += 1
        for each in self._sockets:
            each.close()

    def _exchange(self, batch: list[socket.socket], turn: int) -> None:
        waiting, poll = {each.fileno(): each for each in batch}, select.poll()
        for number, each in waiting.items():
            poll.register(number, select.POLLIN)
            each.send(b"%d %d" % (turn, number))
        while waiting:
            ready = poll.poll(_LOST_SECONDS * 1000)
            if not ready:
                self.lost.append(f"{len(waiting)} of turn {turn}")
                return
            for number, _ in ready:
                try:
                    if waiting[number].recv(64) != b"%d %d" % (turn, number):
                        continue  # the answer to one that was given up
                    self.answered += 1
                except OSError as error:
                    self.lost.append(f"turn {turn}: {error!r}")
                poll.unregister(number)
                del waiting[number]


@contextlib.contextmanager
def datagrams(bed: Bed, address: str, count: int) -> Iterator[Datagrams]:
    made = Datagrams(bed, address, count)
    made.start()
    try:
        yield made
    finally:
        made.ended.set()
        made.join()


def _ended(target: Usage) -> int:
    """Connections that the target still has after a while; the tunnel must be up, or their ends would not arrive."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := usage(target.pid).descriptors - target.descriptors) > 0 and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    return max(0, left)


def measure(bed: Bed, site: Site, tcp: int, udp: int, seconds: float) -> Outcome:
    """Load a tunnel, and judge it; the agent is up and has no other clients."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    way, busy = Way(bed.host, "direct", "0.0.0.0", 0, (AGENT_NAME, DIALER_NAME)), max(1, round(tcp * BUSY))
    first, target = agent(bed), bed.address_of(bed.target("datagrams", network=NETWORK))
    outcome = Outcome({"tcp": tcp, "udp": udp, "seconds": seconds})
    try:
        with tunnel_of(bed) as tun:
            tun.up()
            with site.load.hold(way, "idle", tcp - busy) as resting:
                site.load.measure(way, "down", 2, WARM_BULK_SECONDS)
                with datagrams(bed, target, udp) as sent, pings(bed.host, target, PINGS_PER_SECOND):
                    site.load.measure(way, "rtt", busy, max(2.0, seconds * WARM))
                    warm = agent(bed) | {"pump": tun.usage()}
                    reading = site.load.measure(way, "rtt", busy, seconds)
                    last, there = agent(bed) | {"pump": tun.usage()}, flows(bed)
                # All at once, which is more than the device's queue has room for: TCP repeats, the others would not.
                end = resting.let_go()
            ended = _ended(first["target"])
            link = tun.status()["link"]["opened"]
        outcome.figures |= {"answered": sent.answered, "flows": there, "messages_per_s": reading.per_second}
        outcome.figures |= {"rtt_us": {"p50": reading.p50, "p99": reading.p99}}
        outcome.figures["idle"] = {"echoed": end.total, "late": end.open, "cut": end.failures - end.open}
        failures = tcp - busy - end.total + reading.failures
        outcome.must("no connection fails", failures, hold=not failures)
        outcome.must("no datagram is lost", sent.lost[:10], hold=not sent.lost and sent.answered > 0)
        outcome.must("all flows are there at the end", there, hold=there == {"udp": udp, "echo": 1})
        outcome.must("the link is the same all along", link, hold=link == 1)
        outcome.must("the target is told of every connection's end", ended, hold=not ended)
        left = all_gone(bed)
        outcome.must("with the link its flows are gone", left, hold=not any(left.values()))
    finally:
        bed.docker("rm", "--force", "datagrams")
    must_be_flat(outcome, bed, first, warm, last, seconds=GONE_SECONDS)
    return outcome


def run(ground: Ground) -> Outcome:
    bed, site = ground.bed, ground.site
    Dconnect(bed).up("--tun")
    seconds = max(3.0, SECONDS * ground.scale)
    return measure(bed, site, ground.scaled(TCP, 50), ground.scaled(UDP, 50), seconds)
