"""What a worker counts, and the one line in the log that it tells of each session."""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_left

import structlog

from dconnect.agent.log import LogBuffer
from dconnect.core.events import Session
from dconnect.core.limits import REFUSALS_TOLD_PER_SECOND

CONNECT_BUCKETS = (0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds: a container on this machine answers within the first two."""

log = structlog.get_logger()


@dataclasses.dataclass
class Counters:
    """What this worker has done. All only grow, but for ``open``."""

    open: int = 0
    """Clients that are here now."""
    accepted: int = 0
    refused: int = 0
    """Connections from a forbidden source, closed unread."""
    failed: int = 0
    """Sessions whose outcome was not ``ok``."""
    pauses: int = 0
    """How often accepting had to pause; what goes on for a while counts once."""
    bytes_up: int = 0
    """Payload of the sessions that have ended."""
    bytes_down: int = 0
    sessions: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    """Front → outcome → sessions that have ended."""
    connects: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(CONNECT_BUCKETS) + 1))
    """Successful connects, by the bucket of the time that they took."""
    connect_seconds: float = 0.0
    """The sum of these times."""


class Sessions:
    """The front door's ``Observer``: counts, and tells one line per session."""

    def __init__(self, log: LogBuffer) -> None:
        self.counters = Counters()
        self._log = log
        self._second = 0
        self._told = 0
        """Refusals that were logged in this second."""

    def opened(self) -> None:
        self.counters.open += 1
        self.counters.accepted += 1

    def adopted(self) -> None:
        self.counters.open += 1

    def closed(self) -> None:
        self.counters.open -= 1

    def refused_by_source(self, peer: str) -> None:
        self.counters.refused += 1
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= REFUSALS_TOLD_PER_SECOND:
            log.warning("connection refused: only the host may use the front door, not a container", peer=peer)

    def paused(self, reason: str) -> None:
        self.counters.pauses += 1
        log.warning("clients wait: the front door takes no more for the moment", reason=reason)

    def resumed(self) -> None:
        log.info("the front door takes all clients again")

    def ended(self, session: Session) -> None:
        outcome, counters = session.outcome, self.counters
        if outcome in ("idle", "open"):
            return  # nothing was asked
        outcomes = counters.sessions.setdefault(session.front, {})
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if session.front != "link":  # what it carried are others' sessions
            counters.bytes_up += session.bytes_up
            counters.bytes_down += session.bytes_down
        seconds = round(time.monotonic() - session.started, 4)
        level = "info" if outcome == "ok" else "warning"
        counters.failed += outcome != "ok"
        # Not by way of structlog: at thousands of connections a second its pipeline is felt.
        record = {"event": "session", "level": level, **session.told(), "seconds": seconds}
        if connect := session.connect:
            counters.connects[bisect_left(CONNECT_BUCKETS, connect)] += 1
            counters.connect_seconds += connect
            record["connect_seconds"] = round(connect, 4)
        self._log.put(record)
