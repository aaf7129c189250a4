"""A million short connections, through SOCKS and HTTP in turn; memory and descriptors must not follow."""

from __future__ import annotations

from bench.agent import GONE_SECONDS, agent, descriptors, memory
from soak.parts import Ground, Outcome, must_be_flat

COUNT = 1_000_000
CLIENTS = 64
SLICE_SECONDS = 10.0
WARM = 0.05
"""So much of the whole is warm-up: allocators find their size."""


def run(ground: Ground) -> Outcome:
    bed, load = ground.bed, ground.site.load
    ways = (ground.socks, ground.http)
    wanted, seconds = ground.scaled(COUNT), max(1.0, SLICE_SECONDS * min(1.0, 10 * ground.scale))
    first = warm = agent(bed)
    outcome, samples, made, failures, turn = Outcome(), [], 0, 0, 0
    while made < wanted:
        reading = load.measure(ways[turn % 2], "rate", CLIENTS, seconds)
        turn += 1
        made += reading.total
        failures += reading.failures
        used = agent(bed)
        if turn % 2 == 0 and warm is first and made >= wanted * WARM:
            warm = used
        samples.append({"connections": made, "rss_mib": memory(used), "descriptors": descriptors(used)})
        print(f"  {made:,} of {wanted:,}, {reading.per_second:,.0f}/s", flush=True)
    outcome.figures = {"connections": made, "clients": CLIENTS, "failures": failures, "samples": samples}
    outcome.must("no connection fails", failures, hold=not failures)
    must_be_flat(outcome, bed, first, warm, agent(bed), seconds=GONE_SECONDS)
    return outcome
