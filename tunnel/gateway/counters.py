"""What a gateway has done."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """All only grow, but for what is open now."""

    links: int = 0
    """Open now."""
    links_opened: int = 0
    flows: dict[str, int] = field(default_factory=lambda: {"udp": 0, "echo": 0})
    """Open now; TCP's are connections of the workers."""
    packets: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    """Of all links; up is towards the containers."""
    bytes: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason → packets that went no further."""

    def drop(self, reason: str) -> None:
        """Count a packet that goes no further."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
