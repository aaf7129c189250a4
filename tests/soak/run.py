"""``make soak``: long and many, and soak/results.json. README.md in this folder says more."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, for ``bed``; -P leaves it out

from bed.namespace import BedError
from bed.session import why_not
from bench.facts import ROOT, commit, machine
from soak import aborts, changes, connections, crowd, faults, fuzz, slowloris, storm, tunnel
from soak.parts import Bound, Ground, Outcome

RESULTS = ROOT / "soak" / "results.json"
PARTS: dict[str, Callable[[Ground], Outcome]] = {
    "fuzz": fuzz.run,
    "changes": changes.run,
    "connections": connections.run,
    "aborts": aborts.run,
    "crowd": crowd.run,
    "slowloris": slowloris.run,
    "faults": faults.run,
    "storm": storm.run,
    "tunnel": tunnel.run,
}
"""By the name that the command line and the results have, in the order in which they run."""


def soak(parts: list[str], scale: float, output: Path) -> list[str]:
    """Run some parts, in a bed of their own if one of them needs it, and write what each found; the broken bounds."""
    broken = []
    with contextlib.ExitStack() as stack:
        ground = Ground(stack, scale)
        for name in parts:
            print(f"{name} …", flush=True)
            facts = circumstances(scale)
            begun = time.monotonic()
            try:
                outcome = PARTS[name](ground)
            except BedError as error:  # the other parts may still tell something
                outcome = Outcome(bounds=[Bound("it can be measured", str(error), holds=False)])
            write(output, name, {**facts, "took_s": round(time.monotonic() - begun, 1), **asdict(outcome)})
            for bound in outcome.bounds:
                seen = f": {bound.measured}" if bound.measured else ""
                print(f"  {'holds' if bound.holds else 'BROKEN':7}{bound.what}{seen}", flush=True)
            broken += [f"{name}: {bound.what}" for bound in outcome.bounds if not bound.holds]
    return broken


def circumstances(scale: float) -> dict[str, Any]:
    """What every part's results begin with."""
    date = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {"date": date, "commit": commit(), "machine": machine(), "scale": scale}


def write(output: Path, name: str, found: dict[str, Any]) -> None:
    """Put one part's results in the place of its last ones; those of the others stay."""
    written = (json.loads(output.read_text()) if output.exists() else {}) | {name: found}
    in_order = {part: written[part] for part in PARTS if part in written}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(in_order, indent=1, ensure_ascii=False) + "\n")


def part_list(text: str) -> list[str]:
    """The argument of ``--parts``."""
    names = text.split(",")
    if unknown := sorted(set(names) - set(PARTS)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(PARTS)}")
    return names


def main() -> int:
    """The program; 1 when a bound is broken or nothing could be measured."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end the bed in order
    parser = argparse.ArgumentParser(description="Load dconnect for long, and see that nothing stays.")
    parser.add_argument("--parts", type=part_list, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="of counts and durations; 0.01 for a try")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: soak/results.json")
    options = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    try:
        broken = soak(options.parts, options.scale, options.output)
    except BedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"Written to {options.output}. " + (f"{len(broken)} bounds are broken." if broken else "Every bound holds."))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
