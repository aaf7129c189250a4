"""10,000 idle relays and 500 busy ones, as the bench measures them, with bounds."""

from __future__ import annotations

from bench import crowd
from bench.agent import GONE_SECONDS
from soak.parts import Ground, Outcome


def judge(seen: crowd.Crowd) -> Outcome:
    """What must hold of a crowd."""
    outcome = Outcome(seen.to_json())
    outcome.must("no connection fails", seen.failures, hold=not seen.failures)
    outcome.must("no process dies", seen.died, hold=not seen.died)
    most = f"the workers together need at most {crowd.WORKERS_MIB:.0f} MiB"
    outcome.must(most, seen.workers_mib, hold=seen.workers_mib <= crowd.WORKERS_MIB)
    left = seen.descriptors_left
    outcome.must(f"descriptors are given back within {GONE_SECONDS:.0f} s", left, hold=not left)
    return outcome


def run(ground: Ground) -> Outcome:
    site, way = ground.site, ground.socks
    site.restart(way)  # memory is what the crowd needs, not what earlier parts did
    idle, busy = ground.scaled(crowd.IDLE), ground.scaled(crowd.BUSY)
    return judge(crowd.measure(site, way, idle=idle, busy=busy, seconds=max(3, crowd.SECONDS * ground.scale)))
