"""The transparent mode beside OpenVPN and wireguard-go: rate, latency and processor time.

Also what a ping and a new connection wait while other streams move all that the tunnel carries.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from bed.namespace import BedError
from bench.figures import OURS, ROUND_TRIP, Claim, Figure, Run, Test, rate, throughput
from bench.load import Way
from bench.programs import Site
from bench.tunnels import MTUS, Tunnels

VPNS = ("openvpn", "wireguard-go")
PINGS_PER_SECOND, CONNECTIONS_PER_SECOND = 50, 100
"""With less than 10 ms between two pings iputils' ping spins, and is a load itself: at 200 a second it took two thirds
of a processor."""
LONGER = 5
"""Times the seconds of another test: a 99th percentile wants many."""
LOAD_WARM_UP = 0.2
"""Seconds of the load generator that it does not count."""
MOST_MS = 5.0
"""What is claimed of a ping and of a new connection beside bulk."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What is measured while bulk streams go on."""

    bulk: Test
    name: str

    def _figure(self, what: str, unit: str, digits: int) -> Figure:
        return Figure(f"{what}{self.name}", unit, None, lambda *_: 0, digits)

    @property
    def ping(self) -> Figure:
        return self._figure("ping p99, beside ", "ms", 2)

    @property
    def lost(self) -> Figure:
        return self._figure("pings lost, beside ", "%", 1)

    @property
    def connection(self) -> Figure:
        """Connect, one byte there and back."""
        return self._figure("new connection p99, beside ", "ms", 2)

    @property
    def meanwhile(self) -> Figure:
        """Whoever carries less has less to be beside."""
        return self._figure("meanwhile: ", "Gbit/s", 1)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return (self.ping, self.lost, self.connection, self.meanwhile)


BESIDE = (Beside(Test("up", 1), "1 upload"), Beside(Test("down", 4), "4 downloads"))
_BULK = [throughput(clients, way) for clients in (1, 4, 8) for way in ("up", "down")]
FIGURES = (
    *(speed for speed, _ in _BULK),
    *map(rate, (1, 16, 64)),
    *ROUND_TRIP,
    *(figure for beside in BESIDE for figure in beside.figures),
    *(cost for _, cost in _BULK),
)
CLAIMS = (
    Claim("1 stream up", VPNS, least=12.0),
    Claim("1 stream down", VPNS, least=12.0),
    Claim("1 stream up", ("direct",), least=0.35),
    Claim("1 stream down", ("direct",), least=0.22),
    Claim("16 clients", ("openvpn",), least=0.85),
    Claim(ROUND_TRIP[0].name, ("openvpn",), most=1.4),
)


class Transparent:
    """The measurement; a context manager that ends the tunnels."""

    def __init__(self, site: Site, programs: list[str], seconds: float) -> None:
        """Start the programs.

        Raises: BedError.
        """
        self._load = site.load
        self._seconds = seconds
        self.tunnels = Tunnels(site, programs)
        self.run = Run(programs, FIGURES, CLAIMS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tunnels.close()

    def measure(self, rounds: int) -> None:
        """All rounds; a line for each program's turn shows how it goes."""
        for number in range(rounds):
            for program, way in self.tunnels.ways.items():
                line = self.run.measure(program, way, self._load, self.tunnels.turn(program), self._seconds)
                for beside in BESIDE:
                    line += self._beside(beside, program, way)
                print(f"round {number + 1} of {rounds}  {program:17}{line}", flush=True)

    def _beside(self, beside: Beside, program: str, way: Way) -> str:
        """Pings and new connections while the bulk goes on; their part of the line."""
        seconds = self._seconds * LONGER
        with ThreadPoolExecutor(2) as pool:
            bulk = pool.submit(self._load.measure, way, beside.bulk.name, beside.bulk.clients, seconds + LOAD_WARM_UP)
            fresh = pool.submit(self._load.measure, way, "fresh", CONNECTIONS_PER_SECOND, seconds)
            pinged = ping(way, way.target or self._load.target, seconds)
        self.run.failures[program] += fresh.result().failures
        found = {
            beside.ping: pinged.p99_ms,
            beside.lost: 100 * pinged.lost / pinged.sent,
            beside.connection: fresh.result().p99 / 1000,
            beside.meanwhile: bulk.result().per_second * 8 / 1e9,
        }
        for figure, value in found.items():
            self.run.values[figure.name][program].append(value)
        return "".join(f"{value:7.{figure.digits}f}" for figure, value in found.items())

    def claims(self) -> list[dict[str, Any]]:
        """As ``Run.claims``, and what nothing is to wait beside bulk."""
        prompt = [
            (figure, value)
            for beside in BESIDE
            for figure in (beside.ping, beside.connection)
            if (value := self.run.median(figure.name, OURS)) is not None
        ]
        return [
            *self.run.claims(),
            *(
                {
                    "claim": f"{figure.name}: {OURS} less than {MOST_MS} {figure.unit}",
                    "ratio": round(value, 2),
                    "holds": value < MOST_MS,
                }
                for figure, value in prompt
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "versions": self.tunnels.versions,
            "mtus": MTUS,
            "figures": self.run.figures(),
            "failed_connections": self.run.failures,
            "claims": self.claims(),
        }


@dataclass(frozen=True, slots=True)
class Pinged:
    """What ping saw."""

    sent: int
    lost: int
    p99_ms: float
    """Of those that came back."""


def ping(way: Way, target: str, seconds: float) -> Pinged:
    """One run of ping.

    Raises: BedError.
    """
    count = round(seconds * PINGS_PER_SECOND)
    words = ["ping", "-n", "-i", str(1 / PINGS_PER_SECOND), "-c", str(count), "-W", "1", target]
    return parse(way.namespace.run(words, timeout=seconds + 30).stdout)


def parse(text: str) -> Pinged:
    """What ping printed.

    Raises: BedError when that is no result, or nothing came back.
    """
    times = sorted(float(took) for took in re.findall(r"icmp_seq=\d+ .*time=([\d.]+) ms$", text, re.MULTILINE))
    counts = re.search(r"^(\d+) packets transmitted, (\d+) received", text, re.MULTILINE)
    if not counts or not times:
        raise BedError(f"ping gave no result: {text[-500:]}")
    sent, received = map(int, counts.groups())
    return Pinged(sent, sent - received, times[int(len(times) * 0.99)])
