"""A request that is answered by us with an error."""

from __future__ import annotations

from dconnect.proxy.wire import http1


class Refusal(Exception):
    """What it is answered with.

    Attributes:
        status: of HTTP.
        fields: to be sent along.
        outcome: the session's, in the log.
    """

    def __init__(
        self, status: int, sentence: str, fields: http1.Fields | None = None, outcome: str = "malformed"
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.fields = fields or []
        self.outcome = outcome
