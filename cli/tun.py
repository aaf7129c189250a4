"""``dconnect tun``: transparent mode on this host; ``dconnect cleanup``: whatever became of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dconnect.cli.running import Context, Host, Json, guard
from dconnect.core.errors import UsageError
from dconnect.core.limits import LEAST_MTU, PACKET_BYTES

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Reach containers by their addresses, from every program: a device that leads to them.",
    short_help="Reach containers by their addresses, from every program.",
)

Mtu = Annotated[int, typer.Option(min=LEAST_MTU, max=PACKET_BYTES, help="Largest packet of the device, in bytes.")]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="CIDR", help="Route this too, even where a wider route covers it; repeatable."),
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="CIDR", help="Leave this out; repeatable.")]
Packets = Annotated[
    bool, typer.Option("--packets", help="Carry TCP as packets too, as on macOS; slower, and needs less of Linux.")
]


@app.command("up")
def up_command(
    ctx: typer.Context,
    *,
    foreground: Annotated[bool, typer.Option("--foreground", "-f", help="Stay until Ctrl-C.")] = False,
    mtu: Mtu = PACKET_BYTES,
    include: Include = None,
    exclude: Exclude = None,
    packets: Packets = False,
    context: Context = None,
    host: Host = None,
) -> None:
    """Make the device, and routes to the engine's networks into it; needs root."""
    with guard():
        _check_system()
        from dconnect.cli.transparent import up  # noqa: PLC0415 - it needs what Windows has not

        order = up.order(mtu, include or (), exclude or (), *_engine(ctx, context, host), packets=packets)
        up.up(order, foreground=foreground)


@app.command("down")
def down_command() -> None:
    """Take the device down, and its routes with it."""
    with guard("; call it again to finish"):
        _check_system()
        from dconnect.cli.transparent import down  # noqa: PLC0415 - as above

        down.down()


@app.command("status")
def status_command(*, json_: Json = False) -> None:
    """Tell what is routed, and how well the link to the agent is."""
    with guard():
        _check_system()
        from dconnect.cli.transparent import status  # noqa: PLC0415 - as above

        status.status(as_json=json_)


def run_command(
    ctx: typer.Context,
    *,
    words: Annotated[list[str], typer.Argument(metavar="COMMAND…", help="The command and its arguments, after --.")],
    netns: Annotated[
        bool, typer.Option("--netns", help="In namespaces of its own, with the tunnel as its network.")
    ] = False,
    mtu: Mtu = PACKET_BYTES,
    include: Include = None,
    exclude: Exclude = None,
    packets: Packets = False,
    context: Context = None,
    host: Host = None,
) -> None:
    """Run one command whose network is the tunnel; needs no root, and Linux.

    The command reaches containers by address and by full name, and nothing else.
    """
    with guard():
        if sys.platform != "linux":
            raise UsageError("Only Linux has network namespaces; use `sudo dconnect tun up` here.")
        if not netns:
            raise UsageError("`dconnect run` needs --netns: dconnect run --netns -- COMMAND")
        from dconnect.cli.transparent import netns as namespaces  # noqa: PLC0415 - as above
        from dconnect.cli.transparent import up  # noqa: PLC0415 - as above

        order = up.order(mtu, include or (), exclude or (), *_engine(ctx, context, host), packets=packets)
        code = namespaces.run(order, words)
    raise typer.Exit(code)


def cleanup_command() -> None:
    """Remove what is left on this host of a tunnel, whatever became of it, and prove it."""
    with guard("; call it again to finish"):
        _check_system()
        from dconnect.cli.transparent import down  # noqa: PLC0415 - as above

        down.cleanup()


def _engine(ctx: typer.Context, context: str | None, host: str | None) -> tuple[str | None, str | None]:
    """The options that choose the engine: those after the command, else those before it."""
    if context or host:
        return context, host
    outer: dict[str, str | None] = ctx.obj or {}
    return outer.get("context"), outer.get("host")


def _check_system() -> None:
    if sys.platform not in ("linux", "darwin"):
        raise UsageError("The transparent mode does not run on this system yet; use the proxy, see `dconnect status`.")
