"""What the agent, the dialer and the target hold, and whether they give it back."""

from __future__ import annotations

import time

from bed.processes import Usage, processes, usage
from bed.session import Bed
from bench.programs import TARGET
from dconnect.agent.labels import AGENT_NAME, DIALER_NAME
from dconnect.core.limits import DIALER_BATCH, FREE_PIPES, PROBE_BATCH

GONE_SECONDS = 10.0
"""Within this after the last connection its descriptors must be given back."""
_UNUSED = DIALER_BATCH + DIALER_BATCH // 2 + PROBE_BATCH + PROBE_BATCH // 2
"""Sockets of one IP version: a batch is asked for while half of one is left."""
KEPT = 2 * FREE_PIPES + 2 * _UNUSED
"""Descriptors that a worker, control or the gateway may keep, all bounded: empty pipes, and sockets not used yet."""
PAUSE = 0.1
_MIB = 2**20

Usages = dict[str, Usage]
"""By process: agent (the supervisor), control, worker 0, …, dialer; and ``target``, which sees what relays hold."""


def agent(bed: Bed) -> Usages:
    """All processes that are there to stay, now."""
    found = processes(bed, AGENT_NAME) | processes(bed, DIALER_NAME)
    used = {name.removeprefix("agent."): usage(pid) for name, pid in found.items() if name != "agent.health"}
    return used | {"target": usage(bed.inspect(TARGET)["State"]["Pid"])}


def memory(used: Usages) -> dict[str, float]:
    """MiB of each process of ours."""
    return {name: round(each.rss / _MIB, 1) for name, each in used.items() if name != "target"}


def workers(figures: dict[str, float]) -> float:
    """A figure of all workers together."""
    return round(sum(value for name, value in figures.items() if name.startswith("worker")), 1)


def descriptors(used: Usages) -> dict[str, int]:
    return {name: each.descriptors for name, each in used.items()}


def died(before: Usages, after: Usages) -> list[str]:
    """Processes that are there no more, or are others by now."""
    return [name for name, each in before.items() if name not in after or after[name].pid != each.pid]


def left_after(bed: Bed, before: Usages, seconds: float = GONE_SECONDS) -> dict[str, int]:
    """Wait until all descriptors are given back; how many too many a process still has, if not in time."""
    deadline = time.monotonic() + seconds
    while True:
        now = agent(bed)
        more = {
            name: now[name].descriptors
            - each.descriptors
            - (KEPT if name.startswith(("worker", "control", "gateway")) else 0)
            for name, each in before.items()
            if name in now
        }
        more = {name: count for name, count in more.items() if count > 0}
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(PAUSE)
