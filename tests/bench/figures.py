"""What is measured, what is claimed of it, and what came out.

One test of the load generator may give several figures: a bulk transfer gives a throughput and
the processor time that it took.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bed.processes import Clock
from bench.load import Load, Reading, Way

OURS, OURS_HTTP = "dconnect", "dconnect-http"
PEERS = ("dante", "microsocks", "microsocks-quiet", "tinyproxy")
_GIB = 2**30
_BITS = 8 / 1e9


@dataclass(frozen=True, slots=True)
class Test:
    """One run of the load generator."""

    name: str
    """``load.c`` knows it."""
    clients: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    unit: str
    test: Test | None
    """What it comes from; None when it is measured in a way of its own."""
    of: Callable[[Reading, float], float]
    """From what the load generator read, and the processor seconds that the program took meanwhile."""
    digits: int = 0
    needs_containers: bool = False
    """Processor time and memory are those of the program's containers; ``direct`` has none."""


def throughput(clients: int, way: str) -> tuple[Figure, Figure]:
    """So many streams ``up`` or ``down``: bytes, and what they cost."""
    name = f"{clients} stream{'s' * (clients > 1)} {way}"
    test = Test(way, clients)
    return (
        Figure(name, "Gbit/s", test, lambda reading, _: reading.per_second * _BITS, 1),
        Figure(f"CPU, {name}", "s/GiB", test, lambda reading, cpu: cpu / (reading.total / _GIB), 2, True),
    )


def rate(clients: int) -> Figure:
    """Connections, so many at a time."""
    name = f"{clients} client{'s' * (clients > 1)}"
    return Figure(name, "connections/s", Test("rate", clients), lambda reading, _: reading.per_second)


_BULK = [throughput(clients, way) for clients in (1, 8, 64) for way in ("up", "down")]
_RTT = Test("rtt", 1)
ROUND_TRIP = (
    Figure("round trip, p50", "µs", _RTT, lambda reading, _: reading.p50),
    Figure("round trip, p99", "µs", _RTT, lambda reading, _: reading.p99),
)
IDLE_RSS = Figure("1,000 idle, RSS", "MiB", None, lambda *_: 0, 1, True)
IDLE_PSS = Figure("1,000 idle, PSS", "MiB", None, lambda *_: 0, 1, True)
FIGURES = (
    *(speed for speed, _ in _BULK),
    *map(rate, (1, 16, 64, 256)),
    *ROUND_TRIP,
    *(cost for _, cost in _BULK),
    IDLE_RSS,
    IDLE_PSS,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A program's figure divided by another's (the best of several) has a bound."""

    figure: str
    others: tuple[str, ...]
    least: float = 0.0
    most: float = float("inf")
    ours: str = OURS

    def __str__(self) -> str:
        bound = f"at least {self.least}" if self.least else f"at most {self.most}"
        other = self.others[0] if len(self.others) == 1 else "the best peer"
        return f"{self.figure}: {self.ours} {bound} × {other}"

    @property
    def best(self) -> Callable[[list[float]], float]:
        """Whoever must have more than the others is compared with the one that has most."""
        return max if self.least else min


def _claims() -> Iterator[Claim]:
    for name in ("1 stream up", "1 stream down", "8 streams up", "8 streams down"):
        yield Claim(name, ("dante",), least=1.4)
    yield Claim("1 stream up", ("direct",), least=0.55)
    yield Claim("1 stream down", ("direct",), least=0.42)
    for clients in (16, 64, 256):
        yield Claim(f"{clients} clients", ("microsocks",), least=1.15)
    yield Claim("round trip, p50", ("microsocks",), most=1.05)
    for _, cost in _BULK:
        yield Claim(cost.name, PEERS, most=1.0)
    # As fast as SOCKS: rates swing, so a twentieth less is the same.
    for name in ("1 stream up", "1 stream down", "8 streams up", "8 streams down", "16 clients", "64 clients"):
        yield Claim(name, (OURS,), least=0.95, ours=OURS_HTTP)


CLAIMS = tuple(_claims())


@dataclass(slots=True)
class Run:
    """What was measured."""

    programs: list[str]
    lines: tuple[Figure, ...] = FIGURES
    expected: tuple[Claim, ...] = CLAIMS
    values: dict[str, dict[str, list[float]]] = field(init=False)
    """By figure and program, a value for each round."""
    failures: dict[str, int] = field(init=False)
    """Connections or answers that failed, by program."""

    def __post_init__(self) -> None:
        self.values = {figure.name: {program: [] for program in self.programs} for figure in self.lines}
        self.failures = dict.fromkeys(self.programs, 0)

    def median(self, figure: str, program: str) -> float | None:
        """None when it was not measured."""
        values = self.values[figure].get(program)
        return statistics.median(values) if values else None

    def measure(self, program: str, way: Way, load: Load, clock: Clock, seconds: float) -> str:
        """All tests of one round on one program; the line that shows how it went.

        Raises: BedError.
        """
        line = ""
        for test in dict.fromkeys(figure.test for figure in self.lines if figure.test):
            before = clock.seconds()
            reading = load.measure(way, test.name, test.clients, seconds)
            cpu = clock.seconds() - before
            self.failures[program] += reading.failures
            for figure in self.lines:
                if figure.test == test and (way.containers or not figure.needs_containers):
                    self.values[figure.name][program].append(figure.of(reading, cpu))
                    if not figure.needs_containers:
                        line += f"{self.values[figure.name][program][-1]:7,.{figure.digits}f}"
        return line

    def ratio(
        self, figure: str, ours: str, others: tuple[str, ...], best: Callable[[list[float]], float] = min
    ) -> float | None:
        """Ours divided by the best of the others'."""
        mine = self.median(figure, ours)
        theirs = [value for other in others if (value := self.median(figure, other))]
        return mine / best(theirs) if mine is not None and theirs else None

    def claims(self) -> list[dict[str, Any]]:
        """What is claimed, and whether the figures bear it out."""
        made = [(claim, self.ratio(claim.figure, claim.ours, claim.others, claim.best)) for claim in self.expected]
        return [
            {"claim": str(claim), "ratio": round(ratio, 2), "holds": claim.least <= ratio <= claim.most}
            for claim, ratio in made
            if ratio is not None
        ]

    def figures(self) -> dict[str, Any]:
        """For results.json."""
        found: dict[str, Any] = {}
        for figure in self.lines:
            measured = {program: values for program, values in self.values[figure.name].items() if values}
            found[figure.name] = {
                "unit": figure.unit,
                "median": {program: round(statistics.median(values), 3) for program, values in measured.items()},
                "rounds": {program: [round(value, 3) for value in values] for program, values in measured.items()},
            }
        return found
