"""The ``dconnect`` command: options, exit codes, and one sentence for every failure."""

from __future__ import annotations

import dataclasses
import os
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from dconnect.agent import image
from dconnect.agent.docker.engine import Engine
from dconnect.cli import (
    client,
    completion,
    connections,
    dns,
    down,
    engines,
    nc,
    passwords,
    shells,
    state,
    status,
    summary,
    tun,
    up,
)
from dconnect.cli.output import complain, say
from dconnect.cli.running import Context, Host, Json, choice_of, guard, with_engine
from dconnect.core.config import DEFAULT_SUFFIXES, DNS_PORT, FRONT_DOOR_PORT, TUNNEL_SUBNET, AgentConfig, Egress
from dconnect.core.errors import UsageError
from dconnect.core.rules import Option, parse_rule

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Reach the containers that Docker hides: one agent, one proxy port, container names.",
)
app.add_typer(dns.app, name="dns")
app.add_typer(tun.app, name="tun")
app.command("run")(tun.run_command)
app.command("cleanup")(tun.cleanup_command)

Bind = Annotated[str, typer.Option(metavar="ADDRESS", help="Address the ports are published on.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help=f"Proxy port.  [default: {FRONT_DOOR_PORT} or next]")]
DnsPort = Annotated[int | None, typer.Option(min=1, max=65535, help=f"DNS port.  [default: {DNS_PORT} or next]")]
Suffix = Annotated[list[str] | None, typer.Option(metavar="DOMAIN", help="Domain of container names; repeatable.")]
EgressOption = Annotated[
    str, typer.Option("--egress", metavar="allow|deny", help="Other destinations than containers.")
]

Allow = Annotated[
    list[str] | None, typer.Option(metavar="CIDR|DOMAIN", help="Destination to open; repeatable, most specific wins.")
]
Tun = Annotated[bool, typer.Option("--tun", help="Have the agent's end of the transparent mode.")]
TunSubnet = Annotated[str, typer.Option(metavar="CIDR", help="Addresses of the transparent mode's links.")]
DnsForward = Annotated[
    str, typer.Option(metavar="auto|ADDRESS", help="Name server for other domains; auto: the engine's own.")
]
Deny = Annotated[list[str] | None, typer.Option(metavar="CIDR|DOMAIN", help="Destination to refuse; repeatable.")]

Auth = Annotated[bool, typer.Option("--auth", help="Want a password at the front door; made and printed.")]
AuthFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Want a password, this file's one line user:password.")
]


def _config(
    *,
    bind: str,
    port: int | None,
    dns_port: int | None,
    suffix: list[str] | None,
    egress: str,
    allow: list[str] | None,
    deny: list[str] | None,
    dns_forward: str,
    tun_subnet: str = TUNNEL_SUBNET,
    embedded: bool = False,
) -> AgentConfig:
    if egress not in ("allow", "deny"):
        raise UsageError(f"--egress {egress!r} is neither allow nor deny.")
    if port is not None and port == dns_port:
        raise UsageError(f"--port and --dns-port are both {port}; both use TCP, so give two.")
    kind: Egress = "deny" if egress == "deny" else "allow"
    return AgentConfig(
        bind=bind,
        port=port or FRONT_DOOR_PORT,
        dns_port=dns_port or DNS_PORT,
        suffixes=tuple(suffix or DEFAULT_SUFFIXES),
        egress=kind,
        allow=_rules("--allow", allow),
        deny=_rules("--deny", deny),
        dns_forward=dns_forward,
        tun_subnet=tun_subnet,
        embedded=embedded,
    )


def _rules(option: Option, texts: list[str] | None) -> tuple[str, ...]:
    """In one spelling and order, so that the same wish is the same configuration."""
    return tuple(sorted({parse_rule(option, text).text for text in texts or ()}))


def _print_version(value: bool) -> None:
    if value:
        say(f"dconnect {image.version()}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    context: Context = None,
    host: Host = None,
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Take the engine's options before the command too, as the docker CLI does."""
    ctx.obj = {"context": context, "host": host}


@app.command("up")
def up_command(
    ctx: typer.Context,
    *,
    bind: Bind = "127.0.0.1",
    port: Port = None,
    dns_port: DnsPort = None,
    suffix: Suffix = None,
    egress: EgressOption = "allow",
    allow: Allow = None,
    deny: Deny = None,
    auth: Auth = False,
    auth_file: AuthFile = None,
    dns_forward: DnsForward = "",
    tun: Tun = False,
    tun_subnet: TunSubnet = TUNNEL_SUBNET,
    base_image: Annotated[str, typer.Option(metavar="IMAGE", help="Image to build from.")] = image.DEFAULT_BASE,
    wheels: Annotated[Path | None, typer.Option(metavar="DIR", help="Install from these wheels only.")] = None,
    docker_socket: Annotated[
        str | None, typer.Option(metavar="PATH", help="The engine's socket on the engine's own machine.")
    ] = None,
    json_: Json = False,
    context: Context = None,
    host: Host = None,
) -> None:
    """Start the agent, building its image first where needed."""
    with guard():
        config = _config(
            bind=bind,
            port=port,
            dns_port=dns_port,
            suffix=suffix,
            egress=egress,
            allow=allow,
            deny=deny,
            dns_forward=dns_forward,
            tun_subnet=tun_subnet,
        )
        given = passwords.read(auth_file) if auth_file is not None else None
        wanted = auth or given is not None
        wish = up.Wish(config, port, dns_port, base_image, wheels, docker_socket, wanted, given, tun)

    async def work(engine: Engine, choice: engines.Choice) -> None:
        result, got = await up.up(engine, wish, state.default_file())
        if json_:
            summary.as_json(choice, result, got)
        else:
            await summary.as_text(choice, result, got)

    with_engine(ctx, context, host, work, undone="; `dconnect down` removes what may be left")


@app.command("down")
def down_command(
    ctx: typer.Context,
    *,
    images: Annotated[bool, typer.Option("--image", help="Remove the agent's images too.")] = False,
    context: Context = None,
    host: Host = None,
) -> None:
    """Stop the agent and remove what is ours from the engine."""
    undone = "; call it again to finish"
    with_engine(ctx, context, host, lambda engine, _: down.down(engine, images=images), undone)


@app.command("status")
def status_command(ctx: typer.Context, *, json_: Json = False, context: Context = None, host: Host = None) -> None:
    """Tell what runs, and how well."""
    with_engine(ctx, context, host, lambda engine, choice: status.status(engine, choice, as_json=json_))


@app.command("connections")
def connections_command(ctx: typer.Context, *, json_: Json = False, context: Context = None, host: Host = None) -> None:
    """List who is connected to what now."""
    with_engine(ctx, context, host, lambda engine, _: connections.connections(engine, as_json=json_))


@app.command("nc")
def nc_command(
    ctx: typer.Context,
    *,
    target_host: Annotated[
        str, typer.Argument(metavar="HOST", help="A name, or an address.", autocompletion=completion.names)
    ],
    target_port: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535)],
    context: Context = None,
    host: Host = None,
) -> None:
    """Connect standard input and output to a container's port."""
    found: list[AgentConfig] = []

    async def work(engine: Engine, _: engines.Choice) -> None:
        found.append(await client.running(engine))

    with guard():
        target = nc.target_of(target_host, target_port)
    with_engine(ctx, context, host, work)
    with guard(undone=None):  # outside of the event loop, which would keep Ctrl-C to itself
        nc.nc(found[0], target)


@app.command("env")
def env_command(
    ctx: typer.Context,
    *,
    shell: Annotated[str | None, typer.Option(metavar="|".join(shells.SHELLS), help="Instead of $SHELL.")] = None,
    context: Context = None,
    host: Host = None,
) -> None:
    """Print proxy settings for eval."""
    with guard():
        known = {text: text for text in shells.SHELLS}
        if shell is not None and shell not in known:
            raise UsageError(f"--shell {shell!r} is none of {', '.join(shells.SHELLS)}.")
        chosen = known[shell] if shell else shells.detect(os.environ, windows=sys.platform == "win32")

    async def work(engine: Engine, _choice: engines.Choice) -> None:
        config = await client.running(engine)
        entry = passwords.find(config)
        if config.auth and entry is None:
            raise passwords.needed(config)
        known = entry.credentials if entry is not None else None
        sys.stdout.write(shells.render(chosen, shells.settings(config, known)))

    with_engine(ctx, context, host, work)


@app.command("logs")
def logs_command(
    ctx: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as new lines come.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines.")] = None,
    context: Context = None,
    host: Host = None,
) -> None:
    """Print the agent's log."""

    async def work(engine: Engine, _: engines.Choice) -> None:
        agent = await client.existing(engine)
        async with aclosing(engine.logs(agent["Id"], follow=follow, tail=tail)) as parts:
            async for part in parts:
                sys.stdout.write(part)
                sys.stdout.flush()

    with_engine(ctx, context, host, work, undone=None if follow else "")


@app.command("agent")
def agent_command(
    ctx: typer.Context,
    *,
    bind: Bind = "127.0.0.1",
    port: Port = None,
    dns_port: DnsPort = None,
    suffix: Suffix = None,
    egress: EgressOption = "allow",
    allow: Allow = None,
    deny: Deny = None,
    auth: Auth = False,
    auth_file: AuthFile = None,
    dns_forward: DnsForward = "",
    context: Context = None,
    host: Host = None,
) -> None:
    """Run the agent here, in the foreground, where this machine reaches containers itself."""
    with guard():
        config = _config(
            bind=bind,
            port=port,
            dns_port=dns_port,
            suffix=suffix,
            egress=egress,
            allow=allow,
            deny=deny,
            dns_forward=dns_forward,
            embedded=True,
        )
        choice = choice_of(ctx, context, host)
        if sys.platform != "linux":
            raise UsageError("Only a Linux machine can reach containers itself; use `dconnect up` here.")
        if choice.tls is not None or choice.url.startswith("ssh:"):
            means = "ssh" if choice.tls is None else "TLS"
            raise UsageError(
                f"The engine {choice} is reached by {means}, and `dconnect agent` runs on the engine's own machine; "
                "run it there, with --host unix://…, or use `dconnect up` here."
            )
        if auth or auth_file is not None:
            given = passwords.read(auth_file) if auth_file is not None else None
            entry = passwords.settle(passwords.default_file(), "dconnect agent", given)
            config = dataclasses.replace(config, auth=passwords.lock("", entry.credentials))
            complain(f"dconnect: the user is {entry.user}, and the password stands in {passwords.default_file()}.")
        from dconnect.agent import supervisor  # noqa: PLC0415 - it needs what Windows has not

        code = supervisor.run(config, choice.url, address=config.bind, front_port=config.port, dns_port=config.dns_port)
        raise typer.Exit(code)
