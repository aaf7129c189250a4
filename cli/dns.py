"""``dconnect dns``: names looked up, and this host's own resolver pointed at our names."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dconnect.agent.docker.engine import Engine
from dconnect.cli import client, completion, engines, install, names
from dconnect.cli.host.detect import detect
from dconnect.cli.host.environment import RealEnvironment
from dconnect.cli.running import Context, Host, Json, guard, with_engine
from dconnect.core.config import AgentConfig

_DEFAULT = "lookup"


class _LookupUnlessTold(TyperGroup):
    """A group whose first word may be left out when it is ``lookup``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own click
        completing_first = not args and ctx.resilient_parsing
        if not completing_first and (not args or args[0] not in (*self.commands, *ctx.help_option_names)):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list[Any]:  # type: ignore[override]  # likewise
        """The first word may be one of ours, or what ``lookup`` takes."""
        lookup = self.commands[_DEFAULT]
        with lookup.make_context(_DEFAULT, [], parent=ctx, resilient_parsing=True) as inner:
            taken = lookup.params[0].shell_complete(inner, incomplete)
        return [*super().shell_complete(ctx, incomplete), *taken]


app = typer.Typer(
    cls=_LookupUnlessTold,
    rich_markup_mode=None,
    help="Look names up (`dconnect dns web` means `dconnect dns lookup web`), or have this host's resolver know them.",
    short_help="Look names up, or list every name; install them on this host.",
)


@app.command(_DEFAULT)
def lookup_command(
    ctx: typer.Context,
    *,
    name: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names or addresses to look up.", autocompletion=completion.names),
    ] = None,
    kind: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="DNS records: A, SRV, TXT, PTR …")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the table anew when it changes.")] = False,
    json_: Json = False,
    context: Context = None,
    host: Host = None,
) -> None:
    """Look names up, or list every name; without an agent too.

    The word `lookup` is needed for a container that is called like a command: `dconnect dns lookup status`.
    """

    async def work(engine: Engine, _: engines.Choice) -> None:
        await names.dns(engine, name or [], kind=kind, as_json=json_, watch=watch)

    with_engine(ctx, context, host, work, undone=None if watch else "")


@app.command("install")
def install_command(
    ctx: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")] = False,
    context: Context = None,
    host: Host = None,
) -> None:
    """Have this host's resolver ask the agent for names under our suffixes, and for no others. Needs root."""
    env = RealEnvironment()
    running: list[AgentConfig] = []

    async def work(engine: Engine, _: engines.Choice) -> None:
        running.append(await client.running(engine))

    with guard():
        found = detect(env)
        if not dry_run:
            install.need_root("install")
    with_engine(ctx, context, host, work)
    with guard("; what was begun is undone again"):  # outside of the event loop, which would keep Ctrl-C to itself
        wish = install.install(env, found, running[0], dry_run=dry_run)
    if wish is not None:
        with guard("; it is installed, and `sudo dconnect dns uninstall` undoes it"):
            install.try_out(env, wish)


@app.command("uninstall")
def uninstall_command() -> None:
    """Undo what `install` did; needs root, and neither agent nor engine."""
    env = RealEnvironment()
    with guard("; call it again to finish"):
        _ = detect(env)
        install.need_root("uninstall")
        install.uninstall(env)


@app.command("status")
def status_command(*, json_: Json = False) -> None:
    """Tell who serves names on this host, what is installed, and whether it works."""
    with guard():
        if not install.status(RealEnvironment(), as_json=json_):
            raise typer.Exit(1)
