"""2,000 clients that send a byte a second and never finish; what that costs everybody else.

They come back as soon as the front door gives them up, so 2,000 are always there.
"""

from __future__ import annotations

from bench.agent import agent, died
from bench.load import Reading
from soak.parts import Ground, Outcome

CLIENTS = 2000
PER_SECOND = 10
"""Normal requests: connect, handshake, one byte there and back, close."""
SECONDS = 60.0
MORE_MS = 50.0
"""A normal request may take this much longer, at the median and at the 99th percentile."""


def run(ground: Ground) -> Outcome:
    load, way = ground.site.load, ground.socks
    seconds, half = max(3.0, SECONDS * ground.scale), ground.scaled(CLIENTS, 2) // 2
    before = agent(ground.bed)
    alone = load.measure(way, "fresh", PER_SECOND, seconds)
    with load.hold(way, "drip", half) as socks, load.hold(ground.http, "drip", half) as http:
        beset = load.measure(way, "fresh", PER_SECOND, seconds)
        slow = socks.let_go(), http.let_go()
    outcome = Outcome({"clients": 2 * half, "seconds": seconds, "alone_ms": _ms(alone), "beset_ms": _ms(beset)})
    outcome.figures["given_up"] = sum(each.failures for each in slow)
    open_still = sum(each.open for each in slow)
    outcome.figures["open"] = open_still
    failures = alone.failures + beset.failures
    outcome.must("no normal request fails", failures, hold=not failures)
    for name in ("p50", "p99"):
        more = round(_ms(beset)[name] - _ms(alone)[name], 2)
        outcome.must(f"{name} of a normal request rises by at most {MORE_MS:.0f} ms", more, hold=more <= MORE_MS)
    dead = died(before, agent(ground.bed))
    outcome.must("no process dies", dead, hold=not dead)
    return outcome


def _ms(reading: Reading) -> dict[str, float]:
    return {"p50": round(reading.p50 / 1000, 2), "p99": round(reading.p99 / 1000, 2)}
