"""Who goes to another process, and what is told of them (``passing`` has the wire).

    UDP ASSOCIATE    to the one worker that holds the UDP port and all associations
    a link           to the gateway, with the bytes that came after its request
    a trunk          likewise, with its key
    a stream's own   likewise, with the trunk's key and the stream's number
    a tunnel's flow  from the gateway to a worker, both sockets, to be relayed

``started`` is monotonic time, which all processes of a machine share. Whoever gets a client answers it; while there is
no such process, the client is refused.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Sequence
from typing import Any

from dconnect.agent.passing import Receiver, Sender
from dconnect.core.errors import DialError
from dconnect.core.events import Session, UdpSession
from dconnect.core.failure import Failure
from dconnect.proxy.door import Ended
from dconnect.proxy.poller import Channel


class Handover:
    """``door.Associates`` of a worker that does not hold the UDP port."""

    def __init__(self, path: str) -> None:
        """Prepare; ``path`` is where the holder of the port listens."""
        self._sender = Sender(path)

    def take(self, channel: Channel, record: UdpSession, ended: Ended) -> bool:  # noqa: ARG002 - it ends elsewhere
        try:
            self._sender.send({"peer": record.peer, "started": record.started}, channel.fd)
        except OSError:
            raise DialError(
                Failure.NOT_READY, "The worker that holds the UDP port is away or very busy; try again shortly."
            ) from None
        channel.leave()
        return False

    def sessions(self) -> list[UdpSession]:
        return []

    async def close(self) -> None:
        self._sender.close()


def reception(path: str, adopt: Callable[[socket.socket, Session], None]) -> Receiver:
    """The other side: gives the front door the clients that other workers hand over."""

    def take(told: dict[str, Any], sockets: list[socket.socket]) -> None:
        adopt(sockets[0], Session(str(told["peer"]), "associate", started=float(told["started"])))

    return Receiver(path, 1, take)


class LinkHandover:
    """``door.Links`` of a worker: knows the token, and the way to the gateway."""

    def __init__(self, path: str, proof: str) -> None:
        """Prepare.

        Args:
            path: where the gateway listens.
            proof: of the token.
        """
        self._sender = Sender(path)
        from dconnect.core import credentials  # noqa: PLC0415 - hashing is wanted by few, and takes memory

        self._verifier = credentials.Verifier(proof)
        self._user = credentials.GENERATED_USER.encode()

    def opens(self, token: bytes) -> bool:
        return self._verifier.accepts(self._user, token)

    def take(self, channel: Channel, record: Session, early: bytes, key: bytes) -> None:
        told = {
            "peer": record.peer,
            "front": record.front,
            "started": record.started,
            "early": base64.b64encode(early).decode(),
            "key": key.hex(),
        }
        try:
            self._sender.send(told, channel.fd)
        except OSError:
            raise DialError(Failure.NOT_READY, "The agent's gateway is away or very busy; try again shortly.") from None
        channel.leave()

    def close(self) -> None:
        """Give up the connection."""
        self._sender.close()


def link_reception(path: str, adopt: Callable[[socket.socket, Session, bytes, bytes], None]) -> Receiver:
    """The gateway's side of it; ``adopt`` gets what ``door.Links.take`` has."""

    def take(told: dict[str, Any], sockets: list[socket.socket]) -> None:
        session = Session(str(told["peer"]), told["front"], started=float(told["started"]))
        adopt(sockets[0], session, base64.b64decode(told["early"]), bytes.fromhex(told["key"]))

    return Receiver(path, 1, take)


class RelayHandover:
    """Gives the tunnel's flows to the workers, in turn."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Prepare; ``paths`` are where the workers listen."""
        self._senders = [Sender(path) for path in paths]

    def give(self, client: socket.socket, upstream: socket.socket, session: Session) -> bool:
        """Pass a flow's two sockets on, and close ours; False when no worker takes them."""
        told = {
            "peer": session.peer,
            "target": session.target,
            "address": session.address,
            "started": session.started,
            "connect": session.connect,
            "bytes": [session.bytes_up, session.bytes_down],
        }
        for _ in self._senders:
            sender = self._senders.pop(0)
            self._senders.append(sender)
            try:
                sender.send(told, client.fileno(), upstream.fileno())
            except OSError:
                continue
            client.close()
            upstream.close()
            return True
        return False

    def close(self) -> None:
        """Give up the connections."""
        for sender in self._senders:
            sender.close()


def relay_reception(path: str, relay: Callable[[socket.socket, socket.socket, Session], None]) -> Receiver:
    """A worker's side of it."""

    def take(told: dict[str, Any], sockets: list[socket.socket]) -> None:
        session = Session(
            str(told["peer"]),
            "tunnel",
            target=str(told["target"]),
            address=str(told["address"]),
            started=float(told["started"]),
            connect=float(told["connect"]),
        )
        session.bytes_up, session.bytes_down = map(int, told["bytes"])
        client, upstream = sockets
        relay(client, upstream, session)

    return Receiver(path, 2, take)
