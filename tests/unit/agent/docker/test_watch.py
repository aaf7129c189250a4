"""The watcher over an engine in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from dconnect.agent.docker.engine import EngineRefused
from dconnect.agent.docker.fake import FakeEngine
from dconnect.agent.docker.watch import Watcher
from dconnect.core.errors import EngineUnreachable
from dconnect.core.inventory import Container, Inventory

DEADLINE = 20.0


class Watched:
    """A running watcher and what it published."""

    def __init__(self, engine: FakeEngine, **pace: float) -> None:
        self.engine = engine
        self.published: list[Inventory] = []
        self._news = asyncio.Event()
        self.watcher = Watcher(engine.connect, self._publish, **pace)

    def _publish(self, inventory: Inventory) -> None:
        self.published.append(inventory)
        self._news.set()

    @property
    def inventory(self) -> Inventory:
        return self.published[-1]

    def container(self, name: str) -> Container | None:
        return next((each for each in self.inventory.containers if each.name == name), None)

    def address(self, name: str, network: str = "bridge") -> str | None:
        container = self.container(name)
        endpoints = () if container is None else container.endpoints
        return next((each.ipv4 for each in endpoints if each.network == network), None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a publication after which the condition holds."""
        async with asyncio.timeout(DEADLINE):
            while not (self.published and condition()):
                self._news.clear()
                await self._news.wait()

    async def connected(self, *, wanted: bool = True) -> None:
        await soon(lambda: self.watcher.connected is wanted)


async def soon(condition: Callable[[], object]) -> None:
    """Wait for what nobody reports: let the other tasks run until it holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for is no event's business
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def watching(engine: FakeEngine, **pace: float) -> AsyncIterator[Watched]:
    watched = Watched(engine, **pace)
    task = asyncio.ensure_future(watched.watcher.run())
    try:
        yield watched
    finally:
        assert not task.done(), "the watcher ended"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


_Engine = TypeVar("_Engine", bound=FakeEngine)


def scenario_on(kind: type[_Engine]) -> Callable[[Callable[[_Engine], Coroutine[Any, Any, None]]], Callable[[], None]]:
    """Run a coroutine test with a fresh engine of a kind."""

    def decorate(test: Callable[[_Engine], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        async def body() -> None:
            await test(kind())

        return lambda: asyncio.run(body())

    return decorate


scenario = scenario_on(FakeEngine)


# -- what is published ---------------------------------------------------------------------------------


@scenario
async def test_what_exists_is_published_at_once_and_whole(engine: FakeEngine) -> None:
    web = engine.run("web")
    engine.add("db")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        assert watched.watcher.connected
        assert watched.watcher.last_error == ""
        assert {each.name: each.state for each in watched.inventory.containers} == {"web": "running", "db": "created"}
        assert watched.address("web") == engine.address(web)
        assert [each.name for each in watched.inventory.networks] == ["bridge"]


@scenario
async def test_nothing_is_known_before_the_first_list(engine: FakeEngine) -> None:
    engine.refusing = True
    async with watching(engine) as watched:
        await soon(lambda: watched.watcher.last_error)
        assert watched.published == []
        assert watched.watcher.updated_at is None
        engine.refusing = False
        await watched.until(lambda: True)
        assert watched.watcher.updated_at is not None
        assert watched.watcher.updated_at <= time.monotonic()


@scenario
async def test_it_subscribes_before_it_lists(engine: FakeEngine) -> None:
    async with watching(engine) as watched:
        await watched.until(lambda: True)
    assert engine.calls.index("events") < engine.calls.index("containers")


@scenario
async def test_a_started_container_is_seen_with_its_address(engine: FakeEngine) -> None:
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        web = engine.run("web", aliases=["www"], labels={"com.docker.compose.service": "web"})
        await watched.until(lambda: watched.address("web"))
        assert watched.address("web") == engine.address(web)
        container = watched.container("web")
        assert container is not None
        assert container.service == "web"


@scenario
async def test_the_life_of_a_container_is_followed(engine: FakeEngine) -> None:
    engine.add_network("net", ipv6="fd00:1::/64")
    async with watching(engine) as watched:
        await watched.until(lambda: True)

        def state() -> str | None:
            found = watched.container("web")
            return None if found is None else found.state

        web = engine.add("web", network="net", aliases=["www"])
        await watched.until(lambda: state() == "created")
        engine.start(web)
        await watched.until(lambda: state() == "running")
        (endpoint,) = watched.inventory.containers[0].endpoints
        assert (endpoint.network, endpoint.aliases) == ("net", ("www",))
        assert endpoint.ipv6 is not None
        assert endpoint.ipv6.startswith("fd00:1::")
        engine.pause(web)
        await watched.until(lambda: state() == "paused")
        assert watched.address("web", "net")
        engine.unpause(web)
        await watched.until(lambda: state() == "running")
        engine.stop(web)
        await watched.until(lambda: state() == "exited")
        assert watched.address("web", "net") is None
        engine.remove(web)
        await watched.until(lambda: not watched.inventory.containers)


@scenario
async def test_a_restart_with_another_address_is_seen(engine: FakeEngine) -> None:
    web = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        before = watched.address("web")
        engine.stop(web)
        engine.start(web)
        await watched.until(lambda: watched.address("web") not in (None, before))
        assert watched.address("web") == engine.address(web)


@scenario
async def test_a_new_name_replaces_the_old_one(engine: FakeEngine) -> None:
    web = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        engine.rename(web, "www")
        await watched.until(lambda: watched.container("www"))
        assert watched.container("web") is None


@scenario
async def test_networks_are_connected_and_disconnected(engine: FakeEngine) -> None:
    web = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        engine.add_network("back")
        engine.connect_network(web, "back", aliases=["api"])
        await watched.until(lambda: watched.address("web", "back") and len(watched.inventory.networks) == 2)
        engine.disconnect_network(web, "back")
        engine.remove_network("back")
        await watched.until(lambda: not watched.address("web", "back") and len(watched.inventory.networks) == 1)
        assert watched.address("web")


@scenario
async def test_health_is_followed(engine: FakeEngine) -> None:
    web = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        engine.health(web, "unhealthy")
        await watched.until(lambda: watched.inventory.containers[0].health == "unhealthy")


@scenario
async def test_a_burst_is_published_in_few_pieces(engine: FakeEngine) -> None:
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        for number in range(100):
            engine.run(f"web{number}")
        await watched.until(lambda: len(watched.inventory.addresses) == 100)
        assert len(watched.published) < 50


@scenario
async def test_what_changes_nothing_is_not_published(engine: FakeEngine) -> None:
    web = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        asked = len(engine.calls)
        engine.emit("container", "update", web, {})
        await soon(lambda: "inspect web" in engine.calls[asked:])
        engine.run("last")
        await watched.until(lambda: watched.container("last"))
        assert all(each.containers != watched.published[0].containers for each in watched.published[1:])


@scenario
async def test_health_checks_cost_nothing(engine: FakeEngine) -> None:
    web = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        asked = len(engine.calls)
        for action in ("exec_create: /bin/sh -c true", "exec_start: /bin/sh -c true", "exec_die"):
            engine.emit("container", action, web, {"execID": "1"})
        engine.run("last")
        await watched.until(lambda: watched.container("last"))
        assert "inspect web" not in engine.calls[asked:]


# -- what goes wrong -------------------------------------------------------------------------------------


@scenario
async def test_one_odd_container_does_not_hide_the_others(engine: FakeEngine) -> None:
    odd, failing = engine.run("odd"), engine.run("failing")
    engine.odd = {
        odd: {"Id": None},
        failing: EngineRefused("The engine refused: layer does not exist.", status=500, reason="layer does not exist"),
    }
    engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: watched.container("web"))
        assert watched.watcher.connected
        engine.run("last")
        await watched.until(lambda: watched.container("last"))
        assert {each.name for each in watched.inventory.containers} == {"web", "last"}
        engine.odd = {}
        engine.rename(odd, "even")
        await watched.until(lambda: watched.container("even"))


class OddLists(FakeEngine):
    """Lists what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: Any = None

    async def containers(self) -> list[dict[str, Any]]:
        await super().containers()
        return self.listed  # type: ignore[no-any-return]

    async def networks(self) -> list[dict[str, Any]]:
        return self.listed  # type: ignore[no-any-return]


@scenario_on(OddLists)
async def test_a_list_may_be_null_or_hold_odd_things_but_must_be_a_list(engine: OddLists) -> None:
    async with watching(engine) as watched:
        await watched.until(lambda: watched.inventory == Inventory())
        engine.listed = {"message": "hello"}
        engine.break_streams()
        await soon(lambda: "is no list" in watched.watcher.last_error)
        engine.listed = [None, {}, 7, {"Id": "unknown"}]
        await watched.connected()
        assert watched.inventory == Inventory()


@scenario
async def test_containers_that_are_starting_hold_up_nobody(engine: FakeEngine) -> None:
    # An engine answers no inspect of a container while it starts it.
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        locks = {engine.add(f"slow{number}"): asyncio.Event() for number in range(100)}
        engine.locked.update(locks)
        engine.run("web")
        await watched.until(lambda: watched.address("web"))
        for container_id, lock in locks.items():
            engine.start(container_id)
            lock.set()
        await watched.until(lambda: len(watched.inventory.addresses) == 101)


@scenario
async def test_the_first_list_does_not_wait_for_a_container_that_is_stuck(engine: FakeEngine) -> None:
    stuck = engine.run("stuck")
    engine.locked[stuck] = asyncio.Event()
    engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: watched.container("web"))
        assert watched.container("stuck") is None
        engine.locked[stuck].set()
        await watched.until(lambda: watched.container("stuck"))


class SlowAtFirst(FakeEngine):
    """Its first answer is long under way."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: asyncio.Event | None = asyncio.Event()

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        answer = await super().inspect(container_id)
        if (arrived := self.arrived) is not None:
            self.arrived = None
            await arrived.wait()
        return answer


@scenario_on(SlowAtFirst)
async def test_a_late_answer_does_not_undo_a_newer_one(engine: SlowAtFirst) -> None:
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        arrived = engine.arrived
        assert arrived is not None
        web = engine.add("web")
        await soon(lambda: engine.arrived is None)
        engine.rename(web, "www")
        await watched.until(lambda: watched.container("www"))
        arrived.set()
        engine.run("last")
        await watched.until(lambda: watched.container("last"))
        assert watched.container("www")


class SlowList(FakeEngine):
    """Every list but the first is held back until told."""

    def __init__(self) -> None:
        super().__init__()
        self.release = asyncio.Event()

    async def containers(self) -> list[dict[str, Any]]:
        answer = await super().containers()
        if self.calls.count("containers") > 1:
            await self.release.wait()
        return answer


@scenario_on(SlowList)
async def test_a_container_born_while_the_list_was_under_way_is_kept(engine: SlowList) -> None:
    async with watching(engine, period=0.05) as watched:
        await watched.until(lambda: True)
        await soon(lambda: engine.calls.count("containers") == 2)
        engine.run("web")
        await watched.until(lambda: watched.address("web"))
        engine.release.set()
        await soon(lambda: engine.calls.count("containers") >= 4)
        assert all(each.containers for each in watched.published[1:])


@scenario
async def test_when_the_stream_breaks_all_is_listed_anew(engine: FakeEngine) -> None:
    web = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        engine.refusing = True
        engine.break_streams()
        await watched.connected(wanted=False)
        assert watched.watcher.last_error
        assert watched.container("web"), "stale is better than nothing"
        engine.remove(web)
        engine.run("www")
        engine.refusing = False
        await watched.until(lambda: watched.container("www"))
        assert watched.container("web") is None
        await watched.connected()
        assert watched.watcher.last_error == ""


@scenario
async def test_an_unchanged_engine_that_comes_back_is_not_published_again(engine: FakeEngine) -> None:
    engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        for _ in range(3):
            engine.calls.clear()
            engine.break_streams()
            await soon(lambda: "inspect web" in engine.calls and watched.watcher.connected)
        assert len(watched.published) == 1


@scenario
async def test_the_reason_of_a_loss_is_a_sentence(engine: FakeEngine) -> None:
    engine.refusing = True
    async with watching(engine) as watched:
        await soon(lambda: watched.watcher.last_error)
        assert watched.watcher.last_error.startswith("No Docker engine answers at fake://")


@scenario
async def test_a_half_dead_engine_is_found_by_the_next_list(engine: FakeEngine) -> None:
    # The stream stays open and silent: only a question that is not answered tells.
    engine.run("web")
    async with watching(engine, period=0.05, patience=0.05) as watched:
        await watched.until(lambda: True)
        engine.answering.clear()
        await watched.connected(wanted=False)
        assert "did not answer within" in watched.watcher.last_error
        assert watched.container("web")
        engine.answering.set()
        await watched.connected()


@scenario
async def test_what_no_event_told_is_found_by_the_next_list(engine: FakeEngine) -> None:
    engine.add_network("net")
    web = engine.add("web")
    async with watching(engine, period=0.05) as watched:
        await watched.until(lambda: True)
        engine.connect_network(web, "net")  # of a container that does not run: no event
        await watched.until(lambda: len(watched.inventory.containers[0].endpoints) == 2)


class LosesItsNews(FakeEngine):
    """Sends no network events, as Podman before 5.3."""

    def emit(self, kind: str, action: str, actor: str, attributes: Any) -> None:
        if kind != "network":
            super().emit(kind, action, actor, attributes)


@scenario_on(LosesItsNews)
async def test_a_network_is_found_by_the_first_container_on_it(engine: LosesItsNews) -> None:
    async with watching(engine) as watched:
        await watched.until(lambda: True)
        engine.add_network("net")
        engine.run("web", network="net")
        await watched.until(lambda: watched.address("web", "net") and len(watched.inventory.networks) == 2)


class Sulky(FakeEngine):
    """Fails where it is cancelled."""

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        try:
            return await super().inspect(container_id)
        except asyncio.CancelledError:
            raise EngineUnreachable("gone") from None


@scenario_on(Sulky)
async def test_it_ends_when_cancelled_even_if_the_engine_fails_at_that_moment(engine: Sulky) -> None:
    stuck = engine.run("stuck")
    engine.locked[stuck] = asyncio.Event()
    task = asyncio.ensure_future(Watcher(engine.connect, lambda _: None).run())
    await soon(lambda: "inspect stuck" in engine.calls)
    task.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await task


@scenario_on(FakeEngine)
async def test_a_death_is_told_before_the_engine_answers_an_inspect(engine: FakeEngine) -> None:
    dying = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: watched.address("web"))
        engine.locked[dying] = asyncio.Event()  # as while it takes the networks down
        engine.stop(dying)
        await watched.until(lambda: watched.address("web") is None)
        assert (found := watched.container("web")) is not None
        assert found.state == "exited"
        engine.start(dying)
        engine.locked.pop(dying).set()
        await watched.until(lambda: watched.address("web") == engine.address(dying))


@scenario_on(FakeEngine)
async def test_an_old_death_is_a_hint_and_no_more(engine: FakeEngine) -> None:
    living = engine.run("web")
    async with watching(engine) as watched:
        await watched.until(lambda: watched.address("web"))
        published = len(watched.published)
        stale = {"Type": "container", "Action": "die", "Actor": {"ID": living, "Attributes": {}}, "timeNano": 1}
        engine.send(stale)
        engine.rename(living, "web2")
        await watched.until(lambda: watched.container("web2"))
        assert all(each.addresses for each in watched.published[published - 1 :])
