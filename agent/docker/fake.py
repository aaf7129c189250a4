"""An engine in memory: what ``watch.Source`` promises, with the JSON that a real engine writes.

For tests. It answers like engine 20.10 (API 1.41), as far as the model reads, sends the events
that engine sends, in its order, and can go away, hang, or lose its stream.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dconnect.core.errors import EngineUnreachable


class FakeEngine:
    """Containers and networks to play with; ``connect`` is what a ``Watcher`` takes."""

    def __init__(self) -> None:
        self.refusing = False
        """Whether connections are refused."""
        self.answering = asyncio.Event()
        """Cleared, every call hangs and events are withheld: a half-dead engine."""
        self.answering.set()
        self.locked: dict[str, asyncio.Event] = {}
        """Container id → set when its inspect may answer; as while an engine starts a container."""
        self.odd: dict[str, Any] = {}
        """Container id → what inspect gives instead of the truth; an exception is raised."""
        self.calls: list[str] = []
        """What was asked, such as ``inspect web``, in order."""
        self._containers: dict[str, dict[str, Any]] = {}
        self._networks: dict[str, dict[str, Any]] = {}
        self._streams: list[asyncio.Queue[dict[str, Any] | None]] = []
        self._subnets = itertools.count(17)
        self._numbers = itertools.count(2)
        self.add_network("bridge")

    # -- the engine's side -------------------------------------------------------------------------

    def add_network(self, name: str, *, ipv6: str = "") -> str:
        """Create a bridge network, optionally with an IPv6 subnet ending in ``::/64``; its id."""
        prefix = f"172.{next(self._subnets)}.0"
        pools = [{"Subnet": f"{prefix}.0/16", "Gateway": f"{prefix}.1"}, *([{"Subnet": ipv6}] if ipv6 else [])]
        network_id = _id(name)
        network = {"Id": network_id, "Name": name, "Driver": "bridge", "Internal": False, "IPAM": {"Config": pools}}
        self._networks[name] = network
        self.emit("network", "create", network_id, {"name": name, "type": "bridge"})
        return network_id

    def remove_network(self, name: str) -> None:
        network = self._networks.pop(name)
        self.emit("network", "destroy", network["Id"], {"name": name, "type": "bridge"})

    def add(
        self,
        name: str,
        *,
        network: str = "bridge",
        aliases: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Create a container; its id."""
        container_id = _id(f"{name} {next(self._numbers)}")
        self._containers[container_id] = {
            "Id": container_id,
            "Name": f"/{name}",
            "State": {"Status": "created", "Running": False, "Paused": False},
            "HostConfig": {"NetworkMode": network},
            "Config": {"Hostname": container_id[:12], "Domainname": "", "Image": "fake", "Labels": dict(labels or {})},
            "NetworkSettings": {"Networks": {network: self._endpoint(network, container_id, aliases)}},
        }
        self._tell("create", container_id)
        return container_id

    def start(self, container_id: str) -> None:
        """Give it addresses and run it."""
        for network in self._endpoints(container_id):
            self._assign(network, container_id)
        self._state(container_id, "running")
        self._tell("start", container_id)

    def run(self, name: str, **options: Any) -> str:
        """``add`` and ``start``."""
        container_id = self.add(name, **options)
        self.start(container_id)
        return container_id

    def stop(self, container_id: str) -> None:
        """End it; it loses its addresses."""
        self._state(container_id, "exited")
        self._tell("die", container_id)
        for network, endpoint in self._endpoints(container_id).items():
            endpoint.update(IPAddress="", GlobalIPv6Address="")
            self._tell_network("disconnect", network, container_id)
        self._tell("stop", container_id)

    def pause(self, container_id: str) -> None:
        self._state(container_id, "paused")
        self._tell("pause", container_id)

    def unpause(self, container_id: str) -> None:
        self._state(container_id, "running")
        self._tell("unpause", container_id)

    def rename(self, container_id: str, name: str) -> None:
        self._containers[container_id]["Name"] = f"/{name}"
        self._tell("rename", container_id)

    def health(self, container_id: str, status: str) -> None:
        """Report a health check."""
        self._containers[container_id]["State"]["Health"] = {"Status": status}
        self._tell(f"health_status: {status}", container_id)

    def connect_network(self, container_id: str, network: str, aliases: Sequence[str] = ()) -> None:
        """Connect a container; a running one gets an address, and only then there is an event."""
        self._endpoints(container_id)[network] = self._endpoint(network, container_id, aliases)
        if self._containers[container_id]["State"]["Running"]:
            self._assign(network, container_id)

    def disconnect_network(self, container_id: str, network: str) -> None:
        del self._endpoints(container_id)[network]
        self._tell_network("disconnect", network, container_id)

    def remove(self, container_id: str) -> None:
        raw = self._containers.pop(container_id)
        self.emit("container", "destroy", container_id, {"name": raw["Name"].removeprefix("/")})

    def emit(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """Send an event to every subscriber."""
        event: dict[str, Any] = {"Type": kind, "Action": action, "Actor": {"ID": actor, "Attributes": dict(attributes)}}
        event["timeNano"] = time.time_ns()
        self.send(event)

    def send(self, event: dict[str, Any]) -> None:
        """Send an event as it is to every subscriber."""
        for stream in self._streams:
            stream.put_nowait(event)

    def break_streams(self) -> None:
        """End every subscriber's stream of events."""
        for stream in self._streams:
            stream.put_nowait(None)

    def address(self, container_id: str, network: str = "bridge") -> str:
        """The container's IPv4 address there; empty when it has none."""
        return str(self._endpoints(container_id)[network]["IPAddress"])

    # -- watch.Source ------------------------------------------------------------------------------

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FakeEngine]:
        """Open it, or be refused."""
        await self._call("connect")
        yield self

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        await self._call("events")
        stream: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._streams.append(stream)
        try:
            yield self._read(stream)
        finally:
            self._streams.remove(stream)

    async def containers(self) -> list[dict[str, Any]]:
        await self._call("containers")
        return [
            {"Id": container_id, "Names": [raw["Name"]], "State": raw["State"]["Status"]}
            for container_id, raw in self._containers.items()
        ]

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        known = self._containers.get(container_id)
        await self._call(f"inspect {known['Name'].removeprefix('/') if known else container_id}")
        if container_id in self.locked:
            await self.locked[container_id].wait()
        odd = self.odd.get(container_id)
        if isinstance(odd, Exception):
            raise odd
        return copy.deepcopy(odd or self._containers.get(container_id))

    async def networks(self) -> list[dict[str, Any]]:
        await self._call("networks")
        return copy.deepcopy(list(self._networks.values()))

    # -- inside ------------------------------------------------------------------------------------

    async def _call(self, what: str) -> None:
        self.calls.append(what)
        await self.answering.wait()
        if self.refusing:
            raise EngineUnreachable(
                "No Docker engine answers at fake://: nothing listens there; is the engine running?"
            )

    async def _read(self, stream: asyncio.Queue[dict[str, Any] | None]) -> AsyncIterator[dict[str, Any]]:
        while (event := await stream.get()) is not None:
            await self.answering.wait()
            yield event

    def _endpoints(self, container_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._containers[container_id]["NetworkSettings"]["Networks"]
        return found

    def _endpoint(self, network: str, container_id: str, aliases: Sequence[str]) -> dict[str, Any]:
        return {
            "Aliases": [*aliases, container_id[:12]] if network != "bridge" else None,
            "NetworkID": self._networks[network]["Id"],
            "IPAddress": "",
            "GlobalIPv6Address": "",
        }

    def _assign(self, network: str, container_id: str) -> None:
        number = next(self._numbers)
        for pool in self._networks[network]["IPAM"]["Config"]:
            key = "GlobalIPv6Address" if ":" in pool["Subnet"] else "IPAddress"
            prefix = pool["Subnet"].rpartition("/")[0]
            address = f"{prefix}{number:x}" if ":" in prefix else prefix.removesuffix("0") + str(number)
            self._endpoints(container_id)[network][key] = address
        self._tell_network("connect", network, container_id)

    def _state(self, container_id: str, status: str) -> None:
        running = status in ("running", "paused")
        self._containers[container_id]["State"].update(Status=status, Running=running, Paused=status == "paused")

    def _tell(self, action: str, container_id: str) -> None:
        raw = self._containers[container_id]
        attributes = {"image": "fake", "name": raw["Name"].removeprefix("/"), **raw["Config"]["Labels"]}
        self.emit("container", action, container_id, attributes)

    def _tell_network(self, action: str, network: str, container_id: str) -> None:
        attributes = {"container": container_id, "name": network, "type": "bridge"}
        self.emit("network", action, self._networks[network]["Id"], attributes)


def _id(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()
