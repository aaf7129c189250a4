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


@app.command("up")
def up_command(
    ctx: typer.Context,
    *,
    foreground: Annotated[bool, typer.Option("--foreground", "-f", help="Stay until Ctrl-C.")] = False,
    mtu: Mtu = PACKET_BYTES,
    include: Include = None,
    exclude: Exclude = None,
    context: Context = None,
    host: Host = None,
) -> None:
    """Make the device, and routes to the engine's networks into it; needs root."""
    with guard():
        _check_system()
        from dconnect.cli.transparent import up  # noqa: PLC0415 - it needs what Windows has not

        if not (context or host):
            outer: dict[str, str | None] = ctx.obj or {}
            context, host = outer.get("context"), outer.get("host")
        order = up.order(mtu, include or (), exclude or (), context, host)
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


def cleanup_command() -> None:
    """Remove what is left on this host of a tunnel, whatever became of it, and prove it."""
    with guard("; call it again to finish"):
        _check_system()
        from dconnect.cli.transparent import down  # noqa: PLC0415 - as above

        down.cleanup()


def _check_system() -> None:
    if sys.platform not in ("linux", "darwin"):
        raise UsageError("The transparent mode does not run on this system yet; use the proxy, see `dconnect status`.")
