"""The watcher and the engine facade against a real engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from bed.session import Bed
from dconnect.agent.docker.engine import Engine
from dconnect.agent.docker.watch import Watcher
from dconnect.core.inventory import Container, Inventory

DEADLINE = 30.0
NETWORK = "watch_net"
OTHER = "watch_other"
ADDRESS = "10.79.0.77"


class Watched:
    """A watcher of the bed's engine, and waiting for what it publishes."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.inventory = Inventory()
        self.watcher = Watcher(lambda: Engine.open(bed.docker_host), self._publish)
        self._news = asyncio.Event()

    def _publish(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._news.set()

    async def docker(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.bed.docker, *arguments)

    def container(self, name: str) -> Container | None:
        return next((each for each in self.inventory.containers if each.name == name), None)

    def state(self, name: str) -> str | None:
        found = self.container(name)
        return None if found is None else found.state

    def addresses(self, name: str) -> dict[str, str | None]:
        found = self.container(name)
        return {each.network: each.ipv4 for each in (found.endpoints if found is not None else ())}

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def connected(self, *, wanted: bool) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.watcher.connected is not wanted:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def watching(bed: Bed) -> AsyncIterator[Watched]:
    watched = Watched(bed)
    task = asyncio.ensure_future(watched.watcher.run())
    try:
        await watched.until(lambda: watched.inventory.networks)
        yield watched
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def place(bed: Bed) -> Iterator[None]:
    """A network with known addresses; what the test leaves on it goes with it."""
    bed.docker("network", "create", "--subnet=10.79.0.0/24", NETWORK)
    yield
    for container in bed.docker("ps", "--all", "--quiet", "--filter=label=watch").split():
        bed.docker("rm", "--force", container)
    bed.docker("network", "rm", NETWORK)


def run(name: str, *options: str) -> list[str]:
    return ["run", "--detach", f"--name={name}", "--label=watch", f"--network={NETWORK}", *options]


@pytest.mark.usefixtures("place")
def test_the_life_of_a_container_is_followed(bed: Bed) -> None:
    async def scenario() -> None:
        async with watching(bed) as watched:
            image = bed.busybox_image
            await watched.docker(*run("w1", f"--ip={ADDRESS}", "--network-alias=www", image))
            await watched.until(lambda: watched.state("w1") == "running")
            assert watched.addresses("w1") == {NETWORK: ADDRESS}
            container = watched.container("w1")
            assert container is not None
            assert container.endpoints[0].aliases == ("www",)
            assert container.hostname == container.short_id

            await watched.docker("pause", "w1")
            await watched.until(lambda: watched.state("w1") == "paused")
            assert watched.addresses("w1") == {NETWORK: ADDRESS}
            await watched.docker("unpause", "w1")
            await watched.until(lambda: watched.state("w1") == "running")

            await watched.docker("rename", "w1", "w2")
            await watched.until(lambda: watched.state("w2"))
            assert watched.container("w1") is None

            await watched.docker("kill", "w2")
            await watched.until(lambda: watched.state("w2") == "exited")
            assert watched.addresses("w2") == {NETWORK: None}
            assert ADDRESS not in watched.inventory.addresses

            await watched.docker("rm", "w2")
            await watched.until(lambda: watched.container("w2") is None)

    asyncio.run(scenario())


@pytest.mark.usefixtures("place")
def test_networks_are_connected_and_disconnected(bed: Bed) -> None:
    async def scenario() -> None:
        async with watching(bed) as watched:
            await watched.docker(*run("w3", bed.busybox_image))
            await watched.docker("network", "create", "--internal", "--subnet=10.80.0.0/24", OTHER)
            await watched.docker("network", "connect", "--ip=10.80.0.9", "--alias=api", OTHER, "w3")
            await watched.until(lambda: watched.addresses("w3").get(OTHER))
            assert watched.addresses("w3")[OTHER] == "10.80.0.9"
            await watched.until(lambda: any(each.name == OTHER for each in watched.inventory.networks))
            other = next(each for each in watched.inventory.networks if each.name == OTHER)
            assert (other.driver, other.internal) == ("bridge", True)
            assert (other.subnets, other.gateways) == (("10.80.0.0/24",), ("10.80.0.1",))
            await watched.docker("network", "disconnect", OTHER, "w3")
            await watched.until(lambda: watched.addresses("w3").keys() == {NETWORK})
            await watched.docker("network", "rm", OTHER)
            await watched.until(lambda: all(each.name != OTHER for each in watched.inventory.networks))

    asyncio.run(scenario())


@pytest.mark.usefixtures("place")
def test_a_container_that_comes_back_with_another_address_is_seen_there(bed: Bed) -> None:
    async def scenario() -> None:
        async with watching(bed) as watched:
            await watched.docker(*run("w4", bed.busybox_image))
            await watched.until(lambda: watched.addresses("w4").get(NETWORK))
            before = watched.addresses("w4")[NETWORK]
            await watched.docker("stop", "w4")
            await watched.docker(*run("w5", f"--ip={before}", bed.busybox_image))
            await watched.docker("start", "w4")
            await watched.until(lambda: watched.addresses("w4").get(NETWORK) not in (None, before))
            await watched.until(lambda: watched.addresses("w5").get(NETWORK) == before)
            told = await asyncio.to_thread(bed.address_of, "w4", NETWORK)
            assert watched.addresses("w4")[NETWORK] == told
            assert watched.inventory.addresses[str(before)].name == "w5"

    asyncio.run(scenario())


def test_the_last_inventory_outlives_the_engine_and_the_next_is_true() -> None:
    async def scenario(bed: Bed) -> None:
        async with watching(bed) as watched:
            await watched.docker("run", "--detach", "--name=lasting", "--restart=always", bed.busybox_image)
            await watched.docker("run", "--detach", "--name=passing", bed.busybox_image)
            await watched.until(lambda: watched.state("passing") == watched.state("lasting") == "running")
            for end in (bed.stop_engine, bed.kill_engine):
                await asyncio.to_thread(end)
                await watched.connected(wanted=False)
                assert watched.watcher.last_error
                assert watched.container("passing")
                await asyncio.to_thread(bed.start_engine)
                await watched.connected(wanted=True)
                await watched.until(
                    lambda: (watched.state("lasting"), watched.state("passing")) == ("running", "exited")
                )
                assert watched.addresses("lasting")["bridge"] in watched.inventory.addresses

    with Bed.start() as bed:
        asyncio.run(scenario(bed))
