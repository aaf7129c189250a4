"""The workers' counters added up, so that none ever falls when a worker dies and its successor begins at 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COUNTERS = (
    "accepted",
    "refused",
    "failed",
    "pauses",
    "bytes_up",
    "bytes_down",
    "sessions",
    "connects",
    "connect_seconds",
    "dns",
    "datagrams",
    "datagrams_dropped",
    "tunnel",
)
_REMEMBERED = 16
"""Workers told apart, living and dead: four times as many as live at once. The counts of others are merged."""


class Tally:
    """Everything that the workers of one control have reported."""

    def __init__(self) -> None:
        self._latest: dict[int, dict[str, Any]] = {}
        """PID → counters as last reported; who reported last stands last."""
        self._former: dict[str, Any] = {}
        """The sum of those that are remembered no more."""

    def update(self, report: Mapping[str, Any]) -> None:
        """Take a report in place of the same worker's last one."""
        pid = int(report["pid"])
        counters = {name: report[name] for name in _COUNTERS if name in report}
        before = self._latest.pop(pid, {})
        for name in ("bytes_up", "bytes_down"):
            now = counters.get(name, 0) + report.get(f"open_{name}", 0)  # these only when a report was asked for
            counters[name] = max(now, before.get(name, 0))
        self._latest[pid] = counters
        if len(self._latest) > _REMEMBERED:
            oldest = next(iter(self._latest))
            self._former = _sum(self._former, self._latest.pop(oldest))

    def total(self) -> dict[str, Any]:
        """Counters since control began, named as in a report; what nobody has reported is missing."""
        total = self._former
        for counters in self._latest.values():
            total = _sum(total, counters)
        return total


def _sum(left: Any, right: Any) -> Any:
    """Numbers added, lists element by element, objects key by key."""
    if isinstance(left, dict):
        both = {name: _sum(left[name], right[name]) for name in left.keys() & right.keys()}
        return left | right | both
    if isinstance(left, list):
        return [a + b for a, b in zip(left, right, strict=True)]
    return left + right
