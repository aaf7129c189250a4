"""``make bench``: dconnect beside its peers, in one run, and bench/results.json.

It has three parts, ``proxy``, ``dns`` and ``tun``; one that is not run keeps its results.

In every round each program is measured in turn, so that whatever else the machine does meets
all of them alike; the figures are medians over the rounds. README.md in this folder says more.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, for ``bed``; -P leaves it out

from rich.console import Console
from rich.table import Table

from bed.namespace import BedError
from bed.processes import Clock, total
from bed.session import Bed, why_not
from bench import crowd, freshness
from bench.facts import ROOT, machine
from bench.figures import IDLE_PSS, IDLE_RSS, OURS, Run
from bench.load import Way
from bench.names import Names, dnsperf_version
from bench.programs import PROGRAMS, Site, engine_version
from bench.transparent import Transparent
from bench.tunnels import TUNNELS

RESULTS = ROOT / "bench" / "results.json"
ROUNDS = 7
SECONDS = 0.7
"""Of one test, after a fifth of a second that is not counted."""
IDLE = 1000
ALL = tuple(dict.fromkeys((*PROGRAMS, *TUNNELS)))
PARTS = ("proxy", "dns", "tun")
_MIB = 2**20


def measure_rounds(site: Site, ways: Mapping[str, Way], run: Run, rounds: int, seconds: float) -> None:
    """All rounds; a line for each program's turn shows how it goes."""
    clocks = {program: Clock(site.bed, way.containers) for program, way in ways.items()}
    for number in range(rounds):
        for program, way in ways.items():
            line = run.measure(program, way, site.load, clocks[program], seconds)
            print(f"round {number + 1} of {rounds}  {program:17}{line}", flush=True)


def measure_idle(site: Site, ways: Mapping[str, Way], run: Run, idle: int) -> None:
    """What a program, freshly started, needs for 1,000 relays that rest, and how many of them were lost."""
    seen: set[tuple[str, ...]] = set()
    for program, way in ways.items():
        if not way.containers or way.containers in seen:
            continue
        seen.add(way.containers)
        site.restart(way)
        site.load.measure(way, "rate", 1, 0.1)  # what a first connection loads is not counted
        before = total(site.bed, way.containers)
        with site.load.hold(way, "idle", idle) as held:
            there = total(site.bed, way.containers)
            run.failures[program] += idle - held.let_go().total
        for figure, more in ((IDLE_RSS, there.rss - before.rss), (IDLE_PSS, there.pss - before.pss)):
            run.values[figure.name][program].append(more / _MIB * 1000 / idle)


def show(run: Run, claims: Sequence[Mapping[str, Any]], console: Console, failures: str) -> None:
    """The table, then what was claimed; ``failures`` says what may have failed."""
    note = f"in brackets: {OURS}'s figure divided by this one" if OURS in run.programs else ""
    table = Table(caption=note, caption_justify="left")
    table.add_column("")
    table.add_column("unit")
    for program in run.programs:
        table.add_column(program, justify="right")
    for figure in run.lines:
        cells = []
        for program in run.programs:
            value = run.median(figure.name, program)
            ratio = None if program == OURS else run.ratio(figure.name, OURS, (program,))
            text = "–" if value is None else f"{value:,.{figure.digits}f}"
            cells.append(text if ratio is None else f"{text} ({ratio:.2f})")
        table.add_row(figure.name, figure.unit, *cells)
    console.print(table)
    for program, failed in run.failures.items():
        if failed:
            console.print(f"{program}: {failed} {failures} failed.")
    for claim in claims:
        console.print(f"{'holds' if claim['holds'] else 'FAILS':7}{claim['claim']}: {claim['ratio']:.2f}")


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    """What every part's results begin with."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "seconds_per_test": options.seconds,
    }


def bench_proxy(site: Site, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The proxies.

    Raises: BedError.
    """
    facts = circumstances(options)
    begun = time.monotonic()
    run = Run([program for program in PROGRAMS if program in options.programs])
    seen: crowd.Crowd | None = None
    ways = {program: PROGRAMS[program](site) for program in run.programs}
    measure_rounds(site, ways, run, options.rounds, options.seconds)
    facts["versions"] = {"python": platform.python_version(), "dockerd": engine_version(site.bed), **site.versions}
    if OURS in ways and options.freshness:
        print(f"names of {options.freshness} containers …", flush=True)
        found = freshness.measure(site.bed, options.freshness)
        facts["freshness_ms"] = {name: freshness.summary(values) for name, values in found.items()}
    print(f"{options.idle:,} idle relays …", flush=True)
    measure_idle(site, ways, run, options.idle)
    if OURS in ways and options.crowd:
        busy = max(1, options.crowd * crowd.BUSY // crowd.IDLE)
        print(f"{options.crowd:,} idle and {busy:,} busy relays …", flush=True)
        site.restart(ways[OURS])
        seen = crowd.measure(site, ways[OURS], idle=options.crowd, busy=busy, seconds=options.crowd_seconds)
        facts["crowd"] = seen.to_json()
    facts["took_s"] = round(time.monotonic() - begun)
    show(run, run.claims(), console, "connections")
    for name, values in facts.get("freshness_ms", {}).items():
        console.print(f"{name}, ms: " + "  ".join(f"{key} {value}" for key, value in values.items()))
    if seen:
        console.print(seen.sentence())
    return {**facts, "figures": run.figures(), "failed_connections": run.failures, "claims": run.claims()}


def bench_dns(site: Site, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The DNS servers.

    Raises: BedError.
    """
    facts = circumstances(options)
    begun = time.monotonic()
    names = Names(site, PROGRAMS[OURS](site), options.seconds)
    names.measure(options.rounds)
    show(names.run, names.claims(), console, "answers")
    return {**facts, "took_s": round(time.monotonic() - begun), **names.to_json()}


def bench_tun(site: Site, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The transparent mode.

    Raises: BedError.
    """
    facts = circumstances(options)
    begun = time.monotonic()
    with Transparent(site, [program for program in TUNNELS if program in options.programs], options.seconds) as tun:
        tun.measure(options.rounds)
    show(tun.run, tun.claims(), console, "connections")
    return {**facts, "took_s": round(time.monotonic() - begun), **tun.to_json()}


def bench(options: argparse.Namespace) -> None:
    """The whole run, in a bed of its own.

    Raises: BedError.
    """
    if "dns" in options.part:
        dnsperf_version()  # rather now than after the proxies
    before = json.loads(options.output.read_text()) if options.output.exists() else {}
    parts = {key: before.pop(key) for key in PARTS if key in before}
    console = Console(width=max(160, shutil.get_terminal_size().columns))
    with Bed.start() as bed:
        site = Site(bed)
        if "proxy" in options.part:
            before = bench_proxy(site, options, console)
        if "dns" in options.part:
            parts["dns"] = bench_dns(site, options, console)
        if "tun" in options.part:
            parts["tun"] = bench_tun(site, options, console)
    document = before | parts
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    console.print(f"Written to {options.output}.")


def program_list(text: str) -> list[str]:
    """The argument of ``--programs``."""
    names = text.split(",")
    if unknown := sorted(set(names) - set(ALL)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(ALL)}")
    return names


def main() -> int:
    """The program; 1 when nothing could be measured."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end the bed in order
    parser = argparse.ArgumentParser(description="Compare dconnect with its peers.")
    parser.add_argument("part", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--programs", type=program_list, default=ALL, help=f"of {','.join(ALL)}; each part has its own")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one test; default: %(default)s")
    parser.add_argument("--freshness", type=int, default=freshness.COUNT, metavar="CONTAINERS", help="0: leave it out")
    parser.add_argument("--idle", type=int, default=IDLE, metavar="RELAYS", help="for memory; default: %(default)s")
    parser.add_argument("--crowd", type=int, default=crowd.IDLE, metavar="RELAYS", help="idle ones; 0: leave it out")
    parser.add_argument("--crowd-seconds", type=float, default=crowd.SECONDS, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: bench/results.json")
    options = parser.parse_args()
    if unknown := sorted(set(options.part) - set(PARTS)):
        parser.error(f"{', '.join(unknown)} is none of {', '.join(PARTS)}")
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
