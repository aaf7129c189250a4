"""Whether a client is still there while it awaits its response.

    RST, or FIN both ways   it is gone: the server's connection is closed at once
    FIN                     it may be gone, or have nothing more to ask (``nc -N``): TCP does not tell

Only bytes tell: whoever is gone answers them with RST. So a client that ended its stream is sent
``100 Continue`` after a second, which every client must pass over that did not ask for it (RFC 9110
§15.2), and whoever merely half-closed still gets its answer. Without this, a long poll whose browser
tab was closed would hold its server's connection for an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dconnect.core.limits import STILL_THERE_SECONDS
from dconnect.proxy.poller import CUT, Channel

_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Leaving:
    """Watches one client during one exchange."""

    __slots__ = ("_asks", "_client", "_left", "_timer")

    def __init__(self, client: Channel, left: Callable[[], None]) -> None:
        """``left`` is called from the event loop, once the client is known to be gone."""
        self._client = client
        self._left = left
        self._asks = False
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, *, asks: bool) -> None:
        """Begin. ``asks``: the client knows interim responses, so it may be asked.

        Raises: ConnectionResetError: it is gone already.
        """
        self._asks = asks
        self._client.on_hangup = self._hung_up
        if self._client.hung_up & CUT:
            raise ConnectionResetError
        if self._client.hung_up:
            self._hung_up()

    def answered(self) -> None:
        """The response has begun: from now on its own bytes tell."""
        self._asks = False
        self._forget()

    def end(self) -> None:
        """Watch no longer."""
        self._client.on_hangup = None
        self._forget()

    def _hung_up(self) -> None:
        if self._client.hung_up & CUT:
            self._forget()
            self._left()
        elif self._asks and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STILL_THERE_SECONDS, self._ask)

    def _ask(self) -> None:
        self._client.send_if_free(_PROBE)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
