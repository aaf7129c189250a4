"""What every command shares: the options that choose the engine, and how a failure becomes a sentence."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from dconnect.agent.docker.engine import Engine
from dconnect.cli import engines, signals
from dconnect.cli.output import complain
from dconnect.core.errors import DconnectError, Interrupted

DEBUG = "DCONNECT_DEBUG"
"""Environment variable that lets unexpected errors through with their traceback."""

Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="Docker context to use.")]
Host = Annotated[str | None, typer.Option("--host", "-H", metavar="URL", help="Docker engine to use.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def guard(undone: str | None = "") -> Iterator[None]:
    """Run a command; every failure becomes one sentence on stderr and an exit code.

    ``undone`` says what an interruption means that the command itself did not explain; None where
    it is the usual end.
    """
    with signals.as_ctrl_c() as came:
        try:
            yield
            if sys.stdout is not None:  # closed by whoever started us
                sys.stdout.flush()  # here, where we know what it means that the reader is gone
        except typer.Exit:
            raise
        except Interrupted as error:
            _complain(error, str(error))
            raise _exit_interrupted(came) from None
        except DconnectError as error:
            _complain(error, str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            if undone is not None:
                complain(f"dconnect: interrupted{undone}.")
            raise _exit_interrupted(came) from None
        except BrokenPipeError:  # `dconnect dns | head`: the reader has what it wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except Exception as error:
            if os.environ.get(DEBUG):
                raise
            _complain(error, f"unexpected {type(error).__name__}: {error}; {DEBUG}=1 shows more, please report it.")
            raise typer.Exit(1) from None


def _exit_interrupted(came: list[int]) -> typer.Exit:
    """128 and the signal's number, as shells have it."""
    return typer.Exit(128 + came[0] if came else Interrupted.exit_code)


def _complain(error: Exception, sentence: str) -> None:
    for each in (sentence, *getattr(error, "__notes__", ())):
        complain(f"dconnect: {each}")


def with_engine(
    ctx: typer.Context,
    context: str | None,
    host: str | None,
    work: Callable[[Engine, engines.Choice], Coroutine[Any, Any, None]],
    undone: str | None = "",
) -> None:
    """Choose the engine, open it, and run a command on it."""

    async def opened(choice: engines.Choice) -> None:
        async with choice.open() as engine:
            await work(engine, choice)

    with guard(undone):
        asyncio.run(opened(choice_of(ctx, context, host)))


def choice_of(ctx: typer.Context, context: str | None, host: str | None) -> engines.Choice:
    """The engine by the options after the command, else by those before it."""
    if not (context or host):
        outer: dict[str, str | None] = ctx.obj or {}
        context, host = outer.get("context"), outer.get("host")
    return engines.choose(engines.Machine.here(), context=context, host=host)
