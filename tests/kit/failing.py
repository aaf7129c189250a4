"""A resolver that fails as it is told."""

from __future__ import annotations

from collections.abc import Sequence

from dconnect.core.address import IPAddress
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure


class Failing:
    """Every name fails for the same reason."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    async def __call__(self, host: str) -> Sequence[IPAddress]:
        raise DialError(self._failure, f"{host} fails.")
