"""What the pump counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_SAMPLE_SECONDS = 2.0


@dataclass(slots=True)
class Stats:
    """Counts since the beginning; sent is from the host to the agent."""

    sent: int = 0
    received: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    dropped: int = 0
    """Packets from the link that the system did not take."""
    refused: int = 0
    """Packets from the link that were not for this host, or from where the tunnel does not lead."""
    unreachable: int = 0
    """Packets from the host that found no link."""
    links: int = 0
    """How often a link was opened."""
    since: float = field(default_factory=time.time)
    """When the link came, or went: seconds since 1970."""
    carried: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """Bytes sent and received beside the link, so far."""
    _samples: list[tuple[float, int, int]] = field(default_factory=lambda: [(time.monotonic(), 0, 0)] * 2)

    def linked(self, now: float) -> None:
        """There is a link."""
        self.links += 1
        self.since = now

    def lost(self, now: float) -> None:
        """It is gone."""
        self.since = now

    def sample(self, now: float) -> None:
        """Note the counts now and then, for ``rates``."""
        if now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples = [self._samples[-1], (now, *self.totals())]

    def rates(self, now: float) -> tuple[float, float]:
        """Bits per second sent and received, lately."""
        moment, sent, received = self._samples[0]
        seconds = max(now - moment, 0.001)
        sent_now, received_now = self.totals()
        return (sent_now - sent) * 8 / seconds, (received_now - received) * 8 / seconds

    def totals(self) -> tuple[int, int]:
        """All bytes sent and received."""
        sent, received = self.carried()
        return self.sent_bytes + sent, self.received_bytes + received
