"""The front door's guests: clients that are not relays, because they have not said what they want, or speak HTTP.

A guest that keeps what it wants to itself costs a place. While there are places it has HANDSHAKE_SECONDS; when there
are none, the one that has been silent longest is given up for the next that comes, so that thousands of silent clients
(slowloris) do not keep anybody out.
"""

from __future__ import annotations

from dconnect.core.events import Session
from dconnect.core.limits import GUESTS_PER_SEARCH
from dconnect.proxy.stream import Stream

CROWDED = "crowded"
SHUTDOWN = "shutdown"


class Guests(dict[Stream, Session]):
    """Each guest's present session, in the order in which they came."""

    __slots__ = ()

    def give_up_one(self) -> bool:
        """Cut the guest that has been silent longest, at once; False when all are busy. Not from within a fiber.

        Busy ones go to the end of the queue, so that the next search does not begin with them again.
        """
        for _ in range(min(len(self), GUESTS_PER_SEARCH)):
            client, session = next(iter(self.items()))
            del self[client]
            if not session.target:
                _give_up(client, session)
                return True
            self[client] = session
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
