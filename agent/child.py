"""What control and workers have in common: how a child process of the supervisor starts and ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import structlog

from dconnect.agent import labels, rights, stderr
from dconnect.agent.lent import Lent
from dconnect.agent.log import LogBuffer, configure

Main: TypeAlias = Callable[[Lent, asyncio.Event, LogBuffer], Awaitable[None]]


def run(
    process: Callable[[Lent], str],
    main: Main,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    *,
    keeps_rights: bool = False,
) -> None:
    """Run a child until SIGTERM, or until the supervisor is gone.

    Args:
        process: its name in the log.
        main: gets what was lent, an event that is set when it must end, and the log.
        loop_factory: makes the event loop; None is asyncio's own.
        keeps_rights: whether it goes on with what the container has for the tunnel.
    """
    with stderr.opened(sys.stderr.fileno()) as fd:
        lent = Lent.from_json(os.environ[labels.ENV_LENT])
        buffer = configure(process(lent), fd)
        try:
            if lent.tun and not keeps_rights:
                rights.give_up()  # without a tunnel there are none
            _run(lent, main, buffer, loop_factory)
        except Exception:  # noqa: BLE001 - whatever it was, it belongs in the log
            structlog.get_logger().critical("unexpected error; the process ends and is restarted", exc_info=True)
            raise SystemExit(1) from None
        finally:
            buffer.flush()


def _run(
    lent: Lent,
    main: Main,
    buffer: LogBuffer,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
) -> None:
    async def supervised() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_unexpected)
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, stop.set)
        loop.add_reader(lent.lifeline, stop.set)  # EOF: the supervisor died and nobody else will end us
        waiter = loop.create_task(_stopped(loop, lent.lifeline, stop), name="lifeline")
        try:
            await main(lent, stop, buffer)
        finally:
            waiter.cancel()

    gc.freeze()  # what was imported lives as long as the process: the collector need not walk it again and again
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(supervised())


async def _stopped(loop: asyncio.AbstractEventLoop, lifeline: int, stop: asyncio.Event) -> None:
    await stop.wait()
    loop.remove_reader(lifeline)  # level-triggered: it would be told for ever


def _log_unexpected(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of ours: told once, with its traceback, in the log; the process goes on."""
    structlog.get_logger().error("unexpected error", what=context.get("message"), exc_info=context.get("exception"))
