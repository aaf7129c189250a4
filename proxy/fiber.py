"""Coroutines that go on within the poller's turn, without asyncio's tasks and futures.

A handshake waits for its peer a few times, a few microseconds each. With a task every wait costs
a future, a scheduled callback and one more iteration of the event loop, together more than the
handshake's own work. A ``Fiber`` is resumed by the very event that it waits for.

    await channel.receive(…)      the fiber yields a Wait; Wait.wake resumes it, inside the turn
    await asyncio's future        resumed by the future's callback, in the loop's next iteration
    await asyncio.sleep(0)        resumed in the next iteration

A fiber works for a client. What it awaits elsewhere for longer than a moment it awaits ``with
UnlessCut()``, so that it goes no further when the client is cut; a wait that is over at once costs
nothing for that.

To asyncio a fiber is a task of another make (the Python documentation's "Extending asyncio"), so
``asyncio.timeout`` and the like work in it; and a Wait has what asyncio's tasks ask of a future.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Protocol


class Wait:
    """One wait of one fiber or task; ends once, by ``wake`` or ``cancel``."""

    __slots__ = ("_asyncio_future_blocking", "_error", "_loop", "_over", "_resume")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._error: BaseException | None = None
        self._over = False
        self._resume: Callable[[Any], object] | None = None

    def __await__(self) -> Generator[Wait, None, None]:
        self._asyncio_future_blocking = True
        yield self
        if self._error is not None:
            raise self._error

    def resumes(self, resume: Callable[[Any], object]) -> None:
        """Say who waits."""
        self._resume = resume

    def wake(self, error: BaseException | None = None) -> None:
        """Resume whoever waits, now: only from the event loop itself, not from another fiber or task."""
        if not self._over and self._resume is not None:
            self._over, self._error = True, error
            self._resume(self)

    def wake_soon(self, error: BaseException) -> bool:
        """Resume it in the loop's next iteration; False when it is too late."""
        if self._over or self._resume is None:
            return False
        self._over, self._error = True, error
        self._loop.call_soon(self._resume, self)
        return True

    # What asyncio's tasks ask of a future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[Wait], object], *, context: contextvars.Context) -> None:
        self._resume = lambda wait: context.run(callback, wait)

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - asyncio passes it by name
        return self.wake_soon(asyncio.CancelledError())


class Client(Protocol):
    """For whom a fiber works: a ``poller.Channel``."""

    on_hangup: Callable[[], None] | None
    """Called from the event loop when the client ends or cuts its stream while nobody reads it."""

    @property
    def is_cut(self) -> bool:
        """Whether nothing that is sent arrives any more."""


class Gone(Exception):
    """The peer ended its stream. ``clean`` when it did so between two messages."""

    def __init__(self, *, clean: bool) -> None:
        super().__init__("the peer ended its stream")
        self.clean = clean


class Cut(Gone):
    """The client is cut, so what was awaited for it is given up."""

    def __init__(self) -> None:
        super().__init__(clean=False)


class UnlessCut:
    """Awaits within it end with Cut as soon as the running fiber's client is cut (RST).

    A FIN alone is no farewell: ``nc -N`` sends it along with its request.
    """

    __slots__ = ("_client", "_fiber", "_told")

    def __init__(self) -> None:
        running: object = asyncio.current_task()
        self._fiber = running if isinstance(running, Fiber) else None
        self._client = self._fiber.client if self._fiber is not None else None
        self._told = False

    def __enter__(self) -> None:
        if self._client is not None:
            if self._client.is_cut:
                raise Cut
            self._client.on_hangup = self._hung_up

    def _hung_up(self) -> None:
        assert self._client is not None
        if self._client.is_cut and not self._told and self._fiber is not None:
            self._told = True
            self._fiber.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.on_hangup = None
            cancelled = self._told and self._fiber is not None and not self._fiber.uncancel()
            if cancelled and isinstance(error, asyncio.CancelledError):  # else the agent stops as well
                raise Cut from None


class Fiber:
    """A running coroutine; ``Fibers`` owns it."""

    __slots__ = ("_cancelled", "_coroutine", "_ended", "_loop", "_requests", "_waits_for", "client")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, None],
        ended: Callable[[Fiber, BaseException | None], None],
        client: Client | None,
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._ended = ended
        self._waits_for: Wait | asyncio.Future[Any] | None = None
        self._cancelled = False
        self._requests = 0
        self.client = client

    def run(self, _: object = None) -> None:
        """Go on until the next wait, or the end."""
        asyncio.tasks._enter_task(self._loop, self)  # type: ignore[arg-type]  # noqa: SLF001 - as documented
        try:
            if self._cancelled:
                self._cancelled = False
                waits_for = self._coroutine.throw(asyncio.CancelledError())
            else:
                waits_for = self._coroutine.send(None)
        except StopIteration:
            self._ended(self, None)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - its owner tells it
            self._ended(self, error)
        else:
            self._wait_for(waits_for)
        finally:
            asyncio.tasks._leave_task(self._loop, self)  # type: ignore[arg-type]  # noqa: SLF001

    def _wait_for(self, waits_for: Wait | asyncio.Future[Any] | None) -> None:
        self._waits_for = waits_for
        if isinstance(waits_for, Wait):
            waits_for.resumes(self.run)
        elif waits_for is None:
            self._loop.call_soon(self.run)
        else:
            waits_for._asyncio_future_blocking = False  # noqa: SLF001 - how asyncio's own task takes a future
            waits_for.add_done_callback(self.run)

    # What asyncio asks of a task.

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - asyncio may pass it
        """Have CancelledError raised where it waits."""
        self._requests += 1
        if self._waits_for is None or not self._waits_for.cancel():
            self._cancelled = True
        return True

    def cancelling(self) -> int:
        return self._requests

    def uncancel(self) -> int:
        self._requests = max(0, self._requests - 1)
        return self._requests


class Fibers:
    """Owns fibers: keeps them referenced, reports their crashes, ends them together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fibers: set[Fiber] = set()
        self._empty: asyncio.Future[None] | None = None

    def start(self, coroutine: Coroutine[Any, Any, None], client: Client | None = None) -> None:
        """Run a coroutine, at once up to its first wait; not from within another fiber or task."""
        fiber = Fiber(self._loop, coroutine, self._end, client)
        self._fibers.add(fiber)
        fiber.run()

    def _end(self, fiber: Fiber, error: BaseException | None) -> None:
        self._fibers.discard(fiber)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self._loop.call_exception_handler({"message": "a client's fiber failed", "exception": error})
        if not self._fibers and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def cancel(self) -> None:
        """Cancel every fiber and wait until all have ended."""
        for fiber in tuple(self._fibers):
            fiber.cancel()
        if self._fibers:
            self._empty = self._loop.create_future()
            await self._empty
