"""``make bench``: dconnect beside dante and microsocks, in one run, and bench/results.json.

In every round each program is measured in turn, so that whatever else the machine does meets
all of them alike; the figures are medians over the rounds. README.md in this folder says more.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, for ``bed``; -P leaves it out

from rich.console import Console
from rich.table import Table

from bed.namespace import BedError
from bed.session import Bed, why_not
from bench import freshness
from bench.programs import PROGRAMS, Site, engine_version

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results.json"
OURS = "dconnect"
ROUNDS = 7
SECONDS = 0.8
"""Of one figure, after a fifth of a second that is not counted."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    test: str
    clients: int
    unit: str
    scale: float = 1
    peer: str = ""
    """The program that ours is held against, if any."""
    least: float = 0
    """Ours divided by the peer's must be at least this."""


BITS = 8 / 1e9
FIGURES = (
    Figure("1 stream up", "up", 1, "Gbit/s", BITS, "dante", 1.3),
    Figure("1 stream down", "down", 1, "Gbit/s", BITS, "dante", 1.3),
    Figure("8 streams up", "up", 8, "Gbit/s", BITS, "dante", 1.3),
    Figure("8 streams down", "down", 8, "Gbit/s", BITS, "dante", 1.3),
    Figure("16 clients", "rate", 16, "connections/s", 1, "microsocks", 1.0),
    Figure("64 clients", "rate", 64, "connections/s", 1, "microsocks", 1.0),
    Figure("round trip, p50", "rtt", 1, "µs"),
)

Values = dict[str, dict[str, list[float]]]
"""By figure and program, a value for each round."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured."""

    values: Values
    failures: dict[str, int]
    """Connections that failed in the connection-rate tests, by program."""

    def median(self, figure: Figure, program: str) -> float:
        return statistics.median(self.values[figure.name][program])

    def ratio(self, figure: Figure, program: str) -> float | None:
        """Ours divided by the program's."""
        if OURS not in self.failures or program not in self.failures:
            return None
        return self.median(figure, OURS) / self.median(figure, program)

    def claims(self) -> list[dict[str, Any]]:
        """What is claimed, and whether the figures bear it out."""
        made = [(figure, self.ratio(figure, figure.peer)) for figure in FIGURES if figure.peer]
        return [
            {
                "claim": f"{figure.name}: at least {figure.least} × {figure.peer}",
                "ratio": round(ratio, 2),
                "holds": ratio >= figure.least,
            }
            for figure, ratio in made
            if ratio is not None
        ]


def measure(site: Site, programs: Sequence[str], rounds: int, seconds: float) -> Run:
    """All rounds; a line for each program's turn shows how it goes."""
    ways = {program: PROGRAMS[program](site) for program in programs}
    run = Run({figure.name: {program: [] for program in programs} for figure in FIGURES}, dict.fromkeys(programs, 0))
    for number in range(rounds):
        for program, way in ways.items():
            line = []
            for figure in FIGURES:
                value, failed = site.measure(way, figure.test, figure.clients, seconds)
                run.values[figure.name][program].append(value * figure.scale)
                run.failures[program] += failed
                line.append(f"{value * figure.scale:9,.2f}" if figure.scale != 1 else f"{value:9,.0f}")
            print(f"round {number + 1} of {rounds}  {program:14}{''.join(line)}", flush=True)
    return run


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
    }


def document(run: Run, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of results.json; its keys are explained in README.md."""
    figures = {
        figure.name: {
            "unit": figure.unit,
            "median": {program: round(run.median(figure, program), 2) for program in run.failures},
            "rounds": {
                program: [round(value, 2) for value in values] for program, values in run.values[figure.name].items()
            },
        }
        for figure in FIGURES
    }
    return {**facts, "figures": figures, "failed_connections": run.failures, "claims": run.claims()}


def show(run: Run, console: Console) -> None:
    """The table, then what was claimed."""
    note = "in brackets: dconnect's figure divided by this one" if OURS in run.failures else ""
    table = Table(caption=note, caption_justify="left")
    table.add_column("")
    table.add_column("unit")
    for program in run.failures:
        table.add_column(program, justify="right")
    for figure in FIGURES:
        cells = []
        for program in run.failures:
            ratio = None if program == OURS else run.ratio(figure, program)
            value = f"{run.median(figure, program):,.{1 if figure.scale != 1 else 0}f}"
            cells.append(value if ratio is None else f"{value} ({ratio:.2f})")
        table.add_row(figure.name, figure.unit, *cells)
    console.print(table)
    for program, failed in run.failures.items():
        if failed:
            console.print(f"{program}: {failed} connections failed.")
    for claim in run.claims():
        console.print(f"{'holds' if claim['holds'] else 'FAILS':7}{claim['claim']}: {claim['ratio']:.2f}")


def bench(options: argparse.Namespace) -> None:
    """The whole run, in a bed of its own.

    Raises: BedError.
    """
    facts: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "seconds_per_figure": options.seconds,
    }
    with Bed.start() as bed:
        site = Site(bed)
        run = measure(site, options.programs, options.rounds, options.seconds)
        facts["versions"] = {
            "python": platform.python_version(),
            "dockerd": engine_version(bed),
            **site.versions,
        }
        if OURS in options.programs and options.freshness:
            print(f"names of {options.freshness} containers …", flush=True)
            found = freshness.measure(bed, options.freshness)
            facts["freshness_ms"] = {name: freshness.summary(values) for name, values in found.items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document(run, facts), indent=1, ensure_ascii=False) + "\n")
    console = Console(width=max(120, shutil.get_terminal_size().columns))
    show(run, console)
    for name, values in facts.get("freshness_ms", {}).items():
        console.print(f"{name}, ms: " + "  ".join(f"{key} {value}" for key, value in values.items()))
    console.print(f"Written to {options.output}.")


def program_list(text: str) -> list[str]:
    """The argument of ``--programs``."""
    names = text.split(",")
    if unknown := sorted(set(names) - set(PROGRAMS)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(PROGRAMS)}")
    return names


def main() -> int:
    """The program; 1 when nothing could be measured."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end the bed in order
    parser = argparse.ArgumentParser(description="Compare dconnect with its peers.")
    parser.add_argument("--programs", type=program_list, default=list(PROGRAMS), help=f"of {','.join(PROGRAMS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one figure; default: %(default)s")
    parser.add_argument("--freshness", type=int, default=freshness.COUNT, metavar="CONTAINERS", help="0: leave it out")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: bench/results.json")
    options = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    try:
        bench(options)
    except BedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
