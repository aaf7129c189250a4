"""What a process makes of the inventory: names, answers, and a judgement. One for workers and gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import structlog

from dconnect.agent import labels, upstream
from dconnect.agent.names import Names, not_informed
from dconnect.agent.ownnet import OwnNetwork
from dconnect.agent.sockets import DialerSockets, LocalSockets
from dconnect.core.address import IPAddress
from dconnect.core.config import FRONT_DOOR_PORT, AgentConfig
from dconnect.core.inventory import Inventory
from dconnect.core.rules import Rules
from dconnect.dns import Forwarder, Resolver, Zone, build
from dconnect.proxy.dial import Dial
from dconnect.proxy.judge import Judge
from dconnect.proxy.policy import Admission, Policy
from dconnect.proxy.poller import Poller

log = structlog.get_logger()


class Knowledge:
    """Everything that follows from the configuration and the latest inventory."""

    def __init__(self, config: AgentConfig, own: OwnNetwork, further: Iterable[IPAddress] = ()) -> None:
        """Know nothing yet.

        Args:
            config: what the agent is told.
            own: the agent's own network.
            further: addresses that are the agent's too.
        """
        self._config = config
        self._own = own
        self._addresses = (*own.addresses, *further)
        self._rules = Rules(config.allow, config.deny)
        self._policy: Policy | None = None
        self._admission = Admission(Inventory(), own.subnets, own.gateways)
        self.zone: Zone | None = None
        self.informed = asyncio.Event()
        """Set by the first inventory."""
        self.sockets = LocalSockets() if config.embedded else DialerSockets(Path(labels.RUN_DIR))
        self.resolver = Resolver(forwards=self._may_ask if config.dns_forward else None)
        self.forwarder = Forwarder(upstream.servers(config), socket.gethostname(), log.warning)
        self.names = Names(lambda: self.zone, config.egress, rules=self._rules)
        self.judge = Judge(self.judgement, self.sockets.is_local)

    def publish(self, inventory: Inventory) -> None:
        """Know a new inventory from now on."""
        zone = build(inventory, self._config.suffixes, [ip_address(self._config.reach.strip("[]"))])
        self.zone = zone
        self.resolver.publish(zone)
        self._policy = Policy(inventory, self._config.egress, self._addresses, self._rules)
        self._admission = Admission(inventory, self._own.subnets, self._own.gateways)
        self.informed.set()

    def admits(self, peer: str) -> bool:
        """Whether the peer is not a container."""
        return self._admission.admits(peer)

    def judgement(self) -> Policy:
        """The policy in force; before the first inventory nothing is known to be harmless.

        Raises: DialError NOT_READY.
        """
        if self._policy is None:
            raise not_informed()
        return self._policy

    def dial(self, poller: Poller, own_service: str) -> Dial:
        """The way out; ``own_service`` is the path of the socket of our own API."""
        return Dial(
            poller=poller,
            resolve=self.names,
            sockets=self.sockets,
            judge=self.judge,
            own_service=own_service,
            own_ports=frozenset((80, FRONT_DOOR_PORT, self._config.port)),
        )

    @property
    def dialer(self) -> bool:
        """Whether sockets are to be had."""
        return not isinstance(self.sockets, DialerSockets) or self.sockets.connected

    def start(self) -> None:
        """Look for the dialer."""
        if isinstance(self.sockets, DialerSockets):
            self.sockets.start()

    async def close(self) -> None:
        """Give up sockets and questions under way."""
        await self.forwarder.close()
        await self.sockets.close()

    def _may_ask(self, name: str) -> bool:
        """Whether another domain's name may be asked elsewhere: the rules for dialing hold for looking up too."""
        if self._policy is None or self._policy.name_objection(name):
            return False
        return self.names.may_leave(name)
