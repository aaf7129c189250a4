"""The watcher: keeps an ``Inventory`` in step with an engine, for ever.

Theory. Subscribe to events first, then list, so that nothing falls between. An event is a hint
and no more: it names what to look at again, and what is then read is the truth, so a repeated,
late or superfluous event does no harm. One event is believed until the look: ``die``, because the
engine answers no inspect before it has taken the dead container's networks down, which takes it
150 to 200 ms (20.10), and a name must not lead there for so long. A whole list, at (re)connection
and then periodically, mends whatever events did not tell. When the engine goes away the last
inventory stays published: containers outlive their engine, so stale is better than nothing.

An engine answers an inspect only when it is not starting that very container, which takes
seconds while a hundred start. So there are two lanes: ``patient`` looks may wait for that, and
``prompt`` looks, whose events say that the change is done, never queue behind them. Answers are
numbered by when they were asked for, so a late one cannot undo a newer one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

import structlog

from dconnect.agent.docker import model
from dconnect.agent.docker.engine import EngineRefused
from dconnect.core.backoff import backoff
from dconnect.core.errors import DconnectError, EngineUnreachable
from dconnect.core.inventory import Container, Inventory, Network

COALESCE_SECONDS = 0.005
"""A burst of events makes one inventory; short against the 100 ms in which a new name must resolve."""
RECONCILE_SECONDS = 30.0
"""Period of the whole list (13 ms for 49 containers). It sees what has no event, such as a network
connected to a stopped container, and finds an engine that is dead behind a silent stream."""
ANSWER_SECONDS = 5.0
"""A list or a subscription unanswered for this long means that the engine is away."""
INSPECT_SECONDS = 20.0
"""One container's inspect; a busy engine may be starting it for so long. Below the engine
facade's own deadline, which would count as the loss of the whole engine."""
SETTLE_SECONDS = 1.0
"""After a list, containers that do not answer are waited for no longer than this."""
STEADY_SECONDS = 5.0
"""A connection that lasted so long was a good one: the next attempt follows at once."""
LOOKS_IN_FLIGHT = 16
"""Inspects at once, in each lane; with the stream they stay well below aiohttp's 100 connections."""

log = structlog.get_logger()

_Answer = TypeVar("_Answer")


class Source(Protocol):
    """What is watched: ``Engine``, or a fake of it. Every call may raise a ``DconnectError``."""

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        """Subscribe; what happens after entering is not missed. The iterator ends with the stream."""

    async def containers(self) -> list[dict[str, Any]]:
        """``GET /containers/json?all=1``."""

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        """``GET /containers/{id}/json``; None if there is none."""

    async def networks(self) -> list[dict[str, Any]]:
        """``GET /networks``."""


class Look(Enum):
    """What an event makes us look at."""

    PROMPT = auto()
    """One container, whose change is done."""
    PATIENT = auto()
    """One container, which may be about to be started."""
    NETWORKS = auto()
    EVERYTHING = auto()
    NOTHING = auto()


def hint(event: object) -> tuple[Look, str]:
    """What to look at, and the container's id where it is one; an event of no known shape says nothing."""
    if not isinstance(event, Mapping):
        return Look.NOTHING, ""
    actor = event.get("Actor")
    actor = actor if isinstance(actor, Mapping) else {}
    action, actor_id = event.get("Action"), actor.get("ID")
    action = action.partition(":")[0].strip() if isinstance(action, str) else ""
    if event.get("Type") == "network":
        if action not in ("connect", "disconnect"):
            return Look.NETWORKS, ""
        attributes = actor.get("Attributes")
        member = attributes.get("container") if isinstance(attributes, Mapping) else None
        if not isinstance(member, str) or not member:
            return Look.EVERYTHING, ""  # Podman does not say whose
        # Docker connects a container's networks just before it starts it.
        return (Look.PATIENT if action == "connect" else Look.PROMPT), member
    if event.get("Type") != "container" or not isinstance(actor_id, str) or not actor_id:
        return Look.NOTHING, ""
    if action.startswith("exec"):  # every health check of every container makes three
        return Look.NOTHING, ""
    return (Look.PATIENT if action == "create" else Look.PROMPT), actor_id


def is_death(event: object, since: float) -> bool:
    """Whether a container died after ``since``, seconds of the epoch; older news may be out of date."""
    if not isinstance(event, Mapping) or (event.get("Type"), event.get("Action")) != ("container", "die"):
        return False
    moment = event.get("timeNano")
    return isinstance(moment, int) and moment > since * 1e9


class Watcher:
    """Follows one engine through its restarts.

    Attributes:
        connected: whether the inventory published last is kept in step at this moment.
        last_error: why it is not, in a sentence; empty while it is.
        updated_at: ``time.monotonic()`` of the last answer taken in; None before the first whole list.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Source]],
        publish: Callable[[Inventory], None],
        *,
        period: float = RECONCILE_SECONDS,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            connect: opens the engine; called again after every loss.
            publish: called with each inventory that differs from the one before.
            period: seconds from one whole list to the next.
            patience: seconds within which the engine must answer a list.
        """
        self.connected = False
        self.last_error = ""
        self.updated_at: float | None = None
        self._connect = connect
        self._publish = publish
        self._period = period
        self._patience = patience
        self._picture = _Picture()
        self._published: Inventory | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        attempt = 0
        while True:
            begun = time.monotonic()
            try:
                await self._follow()
            except* (DconnectError, OSError) as group:
                sentence = _sentence(group)
                if sentence != self.last_error:
                    log.warning("engine away", reason=sentence)
                self.connected, self.last_error = False, sentence
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # a task group whose tasks fail as they are cancelled forgets why
            attempt = 0 if time.monotonic() - begun > STEADY_SECONDS else attempt + 1
            await asyncio.sleep(backoff(attempt))

    async def _follow(self) -> None:
        """One connection, from subscription to loss."""
        async with AsyncExitStack() as stack:
            source = await _answer(self._patience, stack.enter_async_context(self._connect()))
            stream = await _answer(self._patience, stack.enter_async_context(source.events()))
            async with asyncio.TaskGroup() as tasks:
                session = _Session(source, self._picture, tasks, self._patience)
                tasks.create_task(session.read(stream), name="events")
                await session.reconcile()
                self.connected, self.last_error = True, ""
                tasks.create_task(session.reconcile_periodically(self._period), name="reconcile")
                while True:
                    self._offer()
                    await session.changed.wait()
                    await asyncio.sleep(COALESCE_SECONDS)
                    session.changed.clear()

    def _offer(self) -> None:
        self.updated_at = time.monotonic()
        inventory = self._picture.inventory()
        if inventory != self._published:
            self._published = inventory
            self._publish(inventory)


class _Picture:
    """What is known, and as of which question; outlives connections."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.networks: tuple[Network, ...] = ()
        self.as_of: dict[str, int] = {}
        """Container id → number of the question whose answer counts; also of those that are gone."""
        self._numbers = itertools.count(1)

    def question(self) -> int:
        return next(self._numbers)

    def take(self, container_id: str, number: int, found: Container | None) -> None:
        """Take in an answer, unless a later question has been answered already."""
        if number < self.as_of.get(container_id, 0):
            return
        self.as_of[container_id] = number
        if found is None:
            self.containers.pop(container_id, None)
        else:
            self.containers[container_id] = found

    def died(self, container_id: str) -> None:
        """Note the death of a container; answers to earlier questions no longer count."""
        known = self.containers.get(container_id)
        if known is not None and known.running:
            endpoints = tuple(dataclasses.replace(each, ipv4=None, ipv6=None) for each in known.endpoints)
            self.take(container_id, self.question(), dataclasses.replace(known, state="exited", endpoints=endpoints))

    def keep(self, listed: Mapping[str, Any], number: int) -> None:
        """Forget what a list does not name, except what has been looked at since the list was asked for."""
        for container_id in [each for each in self.as_of if each not in listed]:
            if self.as_of[container_id] < number:
                del self.as_of[container_id]
                self.containers.pop(container_id, None)

    def is_elsewhere(self, container: Container) -> bool:
        """Whether it is on a network that is not known."""
        known = {network.id for network in self.networks}
        return any(endpoint.network_id not in known for endpoint in container.endpoints)

    def inventory(self) -> Inventory:
        return model.inventory(self.containers.values(), self.networks)


class _Lane:
    """Looks at containers: a bounded number at once, one at a time at the same container."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(LOOKS_IN_FLIGHT)
        self.looks: dict[str, asyncio.Task[None]] = {}
        self.again: set[str] = set()
        """Hinted at since their look began."""


class _Session:
    """One connection to the engine; its tasks belong to the group."""

    def __init__(self, source: Source, picture: _Picture, tasks: asyncio.TaskGroup, patience: float) -> None:
        self.changed = asyncio.Event()
        self._source = source
        self._picture = picture
        self._tasks = tasks
        self._patience = patience
        self._begun = time.time()
        self._prompt = _Lane()
        self._patient = _Lane()
        self._networks_lock = asyncio.Lock()
        self._networks_due = False
        self._reconcile_now = asyncio.Event()

    async def read(self, stream: AsyncIterator[dict[str, Any]]) -> None:
        """Turn events into looks until the stream ends, which it should not."""
        async for event in stream:
            look, container_id = hint(event)
            if is_death(event, self._begun):
                self._picture.died(container_id)
                self.changed.set()
            match look:
                case Look.PROMPT:
                    self._look(self._prompt, container_id)
                case Look.PATIENT:
                    running = (known := self._picture.containers.get(container_id)) is not None and known.running
                    self._look(self._prompt if running else self._patient, container_id)
                case Look.NETWORKS:
                    self._look_at_networks()
                case Look.EVERYTHING:
                    self._reconcile_now.set()
                case Look.NOTHING:
                    pass
        raise EngineUnreachable("The engine ended the stream of events; it may be restarting.")

    async def reconcile_periodically(self, period: float) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(period):
                    await self._reconcile_now.wait()
            self._reconcile_now.clear()
            await self.reconcile()

    async def reconcile(self) -> None:
        """List and look at everything. Those that answer late are taken in when they do."""
        number = self._picture.question()
        listed = {found: item for item in await self._list(self._source.containers()) if (found := _id(item))}
        self._picture.keep(listed, number)
        for container_id, item in listed.items():
            self._look(self._prompt if item.get("State") in ("running", "paused") else self._patient, container_id)
        await self._read_networks()
        if looks := [*self._prompt.looks.values(), *self._patient.looks.values()]:
            await asyncio.wait(looks, timeout=SETTLE_SECONDS)
        self.changed.set()

    def _look(self, lane: _Lane, container_id: str) -> None:
        lane.again.add(container_id)
        if container_id not in lane.looks:
            look = self._tasks.create_task(self._inspect(lane, container_id), name=f"look {container_id[:12]}")
            lane.looks[container_id] = look

    async def _inspect(self, lane: _Lane, container_id: str) -> None:
        async with lane.slots:
            while container_id in lane.again:
                lane.again.discard(container_id)
                number = self._picture.question()
                try:
                    async with asyncio.timeout(INSPECT_SECONDS):
                        raw = await self._source.inspect(container_id)
                    found = None if raw is None else model.container(raw)
                except (TimeoutError, EngineRefused, model.Unreadable) as error:
                    reason = str(error) or f"The engine did not answer within {INSPECT_SECONDS:.0f} s."
                    log.warning("container skipped", container=container_id[:12], reason=reason)
                    continue
                self._picture.take(container_id, number, found)
                if found is not None and found.running and self._picture.is_elsewhere(found):
                    self._look_at_networks()  # Podman before 5.3 tells of no new network
                self.changed.set()
            del lane.looks[container_id]

    def _look_at_networks(self) -> None:
        if not self._networks_due:
            self._networks_due = True
            self._tasks.create_task(self._networks_soon(), name="networks")

    async def _networks_soon(self) -> None:
        await asyncio.sleep(COALESCE_SECONDS)
        self._networks_due = False
        await self._read_networks()
        self.changed.set()

    async def _read_networks(self) -> None:
        async with self._networks_lock:  # the last to ask must be the last to answer
            networks = []
            for item in await self._list(self._source.networks()):
                try:
                    networks.append(model.network(item))
                except model.Unreadable as error:
                    log.warning("network skipped", reason=str(error))
            self._picture.networks = tuple(networks)

    async def _list(self, asked: Awaitable[object]) -> list[Any]:
        answer = await _answer(self._patience, asked)
        if answer is None:  # how Go writes an empty list that was never made
            return []
        if not isinstance(answer, list):
            raise EngineUnreachable("The engine answered with something that is no list; is it a Docker engine?")
        return answer


async def _answer(patience: float, asked: Awaitable[_Answer]) -> _Answer:
    """Wait for the engine, within its deadline."""
    try:
        async with asyncio.timeout(patience):
            return await asked
    except TimeoutError:
        raise EngineUnreachable(f"The engine did not answer within {patience:g} s; is it hanging?") from None


def _id(item: object) -> str:
    found = item.get("Id") if isinstance(item, Mapping) else None
    return found if isinstance(found, str) else ""


def _sentence(group: BaseExceptionGroup[BaseException]) -> str:
    """What the first of the errors says."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, DconnectError) else f"The engine is away: {error!r}."
