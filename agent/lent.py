"""What the supervisor lends to its children: descriptors that outlive them, passed by number."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from dataclasses import dataclass

from dconnect.core.config import AgentConfig


@dataclass(frozen=True, slots=True)
class Lent:
    """What every child process is told, by its environment."""

    config: AgentConfig
    engine: str
    """Docker endpoint URL, as seen by control."""
    front: int
    """Listening TCP socket of the front door."""
    front_udp: int
    """Bound UDP socket of the same number, for UDP ASSOCIATE; the first worker's."""
    dns_udp: int
    dns_tcp: int
    bus: int
    """Listening unix socket on which workers meet control."""
    api: int
    """Listening unix socket of control's HTTP API."""
    lifeline: int
    """Read end of a pipe whose write end only the supervisor has: its EOF means "end yourself"."""
    directory: str
    """Where the unix sockets are: bus.sock, api.sock and those over which processes hand clients over."""
    tun: tuple[int, ...] = ()
    """The queues of the agent's TUN device; none without one."""
    workers: int = 1
    """How many workers there are."""
    index: int = 0
    """The worker's number, from 0."""

    @property
    def bus_path(self) -> str:
        """Where workers connect to control."""
        return os.path.join(self.directory, "bus.sock")  # noqa: PTH118 - a text for connect(2)

    @property
    def handover_path(self) -> str:
        """Where the first worker listens for clients of UDP ASSOCIATE that another accepted."""
        return os.path.join(self.directory, "handover.sock")  # noqa: PTH118 - a text for connect(2)

    @property
    def link_path(self) -> str:
        """Where the gateway listens for links that a worker accepted."""
        return os.path.join(self.directory, "link.sock")  # noqa: PTH118 - a text for connect(2)

    def relay_path(self, index: int) -> str:
        """Where a worker listens for flows of the tunnel."""
        return os.path.join(self.directory, f"relay-{index}.sock")  # noqa: PTH118 - a text for connect(2)

    @property
    def api_path(self) -> str:
        """Where the front door connects for our own API."""
        return os.path.join(self.directory, "api.sock")  # noqa: PTH118 - a text for connect(2)

    def descriptors(self) -> tuple[int, ...]:
        """All lent descriptors."""
        return self.front, self.front_udp, self.dns_udp, self.dns_tcp, self.bus, self.api, self.lifeline, *self.tun

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(dataclasses.asdict(self) | {"config": self.config.to_json()})

    @classmethod
    def from_json(cls, text: str) -> Lent:
        """The inverse of ``to_json``; the caller is our own supervisor."""
        data = json.loads(text)
        return cls(**data | {"config": AgentConfig.from_json(data["config"]), "tun": tuple(data["tun"])})


def borrow(descriptor: int) -> socket.socket:
    """A non-blocking socket object over a lent descriptor; closing it leaves the lender's open."""
    sock = socket.socket(fileno=os.dup(descriptor))
    sock.setblocking(False)
    return sock
