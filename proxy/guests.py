"""The front door's guests: clients that are not relays, because they have not said what they want, or speak HTTP.

A guest that keeps what it wants to itself costs a place. While there are places it has HANDSHAKE_SECONDS; when there
are none, the one that has been silent longest is given up for the next that comes, so that thousands of silent clients
(slowloris) do not keep anybody out.

One that has only just come is not silent: its words are on their way, which takes a while on a busy machine. So a full
worker whose guests are all fresh gives up nobody, and leaves whoever waits to its siblings for a moment.
"""

from __future__ import annotations

import time

from dconnect.core.events import SHUTDOWN, Session
from dconnect.core.limits import FRESH_SECONDS, GUESTS_PER_SEARCH, LISTEN_BACKLOG, PAUSE_SECONDS
from dconnect.proxy.stream import Stream

CROWDED = "crowded"


def patience_of(places: int) -> float:
    """How many seconds a guest of a full worker is safe.

    With fewer places than the backlog holds, proportionally less: so many guests pass in that time, and
    a backlog full of silent ones must be through in about a second. Less than a pause is not worth one.
    """
    seconds = min(FRESH_SECONDS, places / LISTEN_BACKLOG)
    return seconds if seconds > PAUSE_SECONDS else 0.0


class Guests(dict[Stream, Session]):
    """Each guest's present session, the longest silent first; busy ones stand anywhere."""

    __slots__ = ("_patience",)

    def __init__(self, places: int) -> None:
        super().__init__()
        self._patience = patience_of(places)

    def renew(self, client: Stream, session: Session) -> None:
        """A guest has begun another session, so it is not the one that has been silent longest any more."""
        self.pop(client, None)
        self[client] = session

    def give_up_one(self) -> bool:
        """Cut the guest that has been silent longest, at once; False when all are busy or fresh. Not within a fiber.

        Busy ones go to the end of the queue, so that the next search does not begin with them again.
        """
        for _ in range(min(len(self), GUESTS_PER_SEARCH)):
            client, session = next(iter(self.items()))
            if not session.target:
                if time.monotonic() - session.started < self._patience:
                    return False  # those behind it came later, or are busy
                del self[client]
                _give_up(client, session)
                return True
            self.renew(client, session)
        return False

    def dismiss_if_idle(self, client: Stream) -> None:
        """Close, politely, an HTTP connection that waits between two requests."""
        session = self.get(client)
        if session is not None and session.outcome == "idle" and not client.buffer:
            client.channel.close()

    def stop(self) -> None:
        """Note of all that are still busy that it is us who end them."""
        for session in self.values():
            if session.outcome == "open":
                session.outcome, session.detail = SHUTDOWN, "The agent stopped."


def _give_up(client: Stream, session: Session) -> None:
    if session.outcome == "idle" and not client.buffer:
        client.channel.close()  # between two requests: a client knows that, and comes again
        return
    if session.outcome in ("open", "idle"):  # otherwise it has had its answer, and lingers
        session.outcome = CROWDED
        session.detail = "All places were taken, and this client had not said what it wants."
    client.channel.reset()
