"""Flows that have large packets, and so are no company for those that have none."""

from __future__ import annotations

import time
from collections.abc import Callable

from dconnect.core.limits import BULK_FLOWS, BULK_SECONDS
from dconnect.tunnel.wire.checksum import Bytes
from dconnect.tunnel.wire.packets import answer_key, flow_key


class BulkFlows:
    """Knows which flows had a large packet lately, by what goes the other way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know none; ``clock`` gives seconds."""
        self._clock = clock
        self._seen: dict[bytes, float] = {}
        """The key of what answers the flow → when its last large packet was seen."""

    def saw(self, packet: Bytes) -> None:
        """A large packet went by."""
        seen = self._seen
        seen[answer_key(packet)] = self._clock()
        if len(seen) > BULK_FLOWS:
            del seen[next(iter(seen))]

    def answered_by(self, packet: Bytes) -> bool:
        """Whether a packet answers such a flow: its acknowledgements do."""
        if not self._seen or not packet:
            return False
        key = flow_key(packet)
        at = self._seen.get(key)
        if at is None:
            return False
        if self._clock() < at + BULK_SECONDS:
            return True
        del self._seen[key]
        return False
