"""Error pages for people: what was asked, what failed, and what to do next.

Only a client that names text/html in its Accept gets one; a program gets the one line. Nothing here
runs, or is even loaded, before the first such failure.

Whatever stands on a page was written by a stranger: the client, or whoever made the container. All
of it passes ``_shown``, which bounds and escapes it, so that a page stays below 4 KiB.
"""

from __future__ import annotations

import asyncio
import html
import re
from http import HTTPStatus
from typing import NamedTuple

from dconnect.core.address import Target, parse_authority
from dconnect.core.errors import DialError, UsageError
from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.limits import PAGE_PORT_SECONDS, PAGE_PORTS
from dconnect.proxy.door import Door, Known
from dconnect.proxy.wire import http1

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.55 system-ui,sans-serif;max-width:42rem;margin:12vh auto 2rem;padding:0 1.5rem;"
    "color:#1c2024;background:#fff}"
    "h1{font-size:1.4rem;line-height:1.4;margin:.3rem 0 1rem}h2{font-size:1rem;margin:1.8rem 0 .3rem}"
    "h1,p,li{overflow-wrap:anywhere}ul{margin:0;padding-left:1.2rem}small{color:#5c6570}a{color:#0a58ca}"
    "code{font:.9em ui-monospace,monospace;background:#eef0f3;border-radius:4px;padding:.1em .35em}"
    "@media(prefers-color-scheme:dark){body{color:#e4e7ea;background:#16191d}small{color:#9aa4ae}"
    "a{color:#82b7ff}code{background:#262b31}}"
)
_STYLE_HASH = "jlIVpTAI5rAI3ExAQ9iy6Ujqn48nC7kHwB27XSiTcP8="
"""SHA-256 of the style in base64, as CSP wants it: computed here it would cost a worker OpenSSL."""

FIELDS: http1.Fields = [
    (b"Content-Type", b"text/html; charset=utf-8"),
    (
        b"Content-Security-Policy",
        b"default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'" % _STYLE_HASH.encode(),
    ),
    (b"X-Content-Type-Options", b"nosniff"),
]
"""What goes with every page."""

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>{title}</title><style>{style}</style>'
    "<small>dconnect · {status}</small><h1>{sentence}</h1><p>You asked for <code>{asked}</code>.</p>"
    "<h2>What to do next</h2><ul>{steps}</ul>"
)

_LINKABLE = re.compile(r"[a-z0-9._-]{1,64}\Z", re.ASCII)
_CANDIDATES = 4
"""Of the names that may have been meant; more would not fit when they are long."""
_NAMES = "<code>dconnect dns</code> lists every name and address."
_LOGS = "<code>dconnect logs</code> has a line for this, as for every connection."
_STEPS = {
    "network_unreachable": "<code>dconnect status</code> tells how containers are reached on this engine.",
    "host_unreachable": _NAMES,
    "policy": "<code>dconnect status --json</code> shows the rules in force; "
    "<code>dconnect up</code> takes others: <code>--allow</code>, <code>--deny</code>, <code>--egress</code>.",
    "not_ready": "Try again in a moment; <code>dconnect status</code> tells what is not there yet.",
    "timeout": "It may be busy, hang, or drop what it does not expect; try again.",
}
"""By outcome, where nothing needs to be known of the container."""
_MISDIRECTED = '<code>eval "$(dconnect env)"</code> sets a shell\'s proxy; a browser has it in its network settings.'


class Ports(NamedTuple):
    """What became of the ports that a container exposes."""

    listens: list[int]
    silent: list[int]
    """Exposed, and nothing answered there."""
    untried: list[int]


async def failure_page(door: Door, head: http1.RequestHead, session: Session) -> tuple[http1.Fields, bytes]:
    """The fields that describe a page, and the page, about a session that has just failed."""
    try:
        target = parse_authority(session.target)
    except UsageError:  # it is about us, or was not understood
        target = None
    known = door.describe(target.host, session.address) if target else Known()
    links = target.host if target and head.method != b"CONNECT" and _LINKABLE.match(target.host) else ""
    steps = []
    if session.outcome == "refused" and target and known.container:
        ports = await probed(door, session.address, [port for port in known.ports if port != target.port])
        steps = _about_ports(known.container, ports, links)
    elif session.outcome == "stopped" and known.container:
        steps = [f"Start it: <code>docker start {_shown(known.container, 128)}</code>"]
    elif session.outcome == "name_unknown":
        names = " or ".join(_link(name, name) for name in known.candidates[:_CANDIDATES])
        steps = [f"Did you mean {names}?", _NAMES] if names else [_NAMES]
    elif session.status == HTTPStatus.MISDIRECTED_REQUEST:
        steps = [_MISDIRECTED]
    elif session.outcome in _STEPS:
        steps = [_STEPS[session.outcome]]
    return FIELDS, render(session.status, session.detail, asked_for(head), [*steps, _LOGS])


async def probed(door: Door, address: str, ports: list[int]) -> Ports:
    """Which of a container's ports answer: what it exposes is what its image says, not what runs in it.

    One after the other, so that a page holds no more sockets than the dial that failed; PAGE_PORTS
    at most, and none after PAGE_PORT_SECONDS. Each is dialed like any destination.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + PAGE_PORT_SECONDS
    found = Ports([], [], ports[PAGE_PORTS:])
    for port in ports[:PAGE_PORTS]:
        if loop.time() >= until:
            found.untried.append(port)
            continue
        try:
            async with asyncio.timeout_at(until):
                channel = await door.dial(Target(address, port), Session(""))
        except TimeoutError:
            found.silent.append(port)
        except DialError as error:  # it may be us that could not try, or must not
            tried = error.failure not in (Failure.NOT_READY, Failure.POLICY)
            (found.silent if tried else found.untried).append(port)
        else:
            channel.close()
            found.listens.append(port)
    return found


def render(status: int, sentence: str, asked: str, steps: list[str]) -> bytes:
    """The page; ``steps`` are HTML, the rest is text."""
    text = _PAGE.format(
        title=_shown(f"{status} {asked}", 80),
        style=_STYLE,
        status=f"{status} {HTTPStatus(status).phrase}",
        sentence=_shown(sentence, 640),
        asked=_shown(asked, 320),
        steps="".join(f"<li>{step}" for step in steps),
    )
    return text.encode()


def asked_for(head: http1.RequestHead) -> str:
    """A request in a few words: the method and where to."""
    target = head.target.decode("latin-1")
    hosts = http1.values(head.fields, b"host") if target.startswith("/") else []
    return f"{head.method.decode('latin-1')} {''.join(host.decode('latin-1') for host in hosts[:1])}{target}"


def _about_ports(container: str, ports: Ports, host: str) -> list[str]:
    name = _shown(container, 128)
    told = []
    if ports.listens:
        # Without a host to link to they are numbers only.
        shown = ", ".join(_link(f"{host}:{port}" if host else "", str(port)) for port in ports.listens)
        told.append(f"<b>{name}</b> listens on {shown}.")
    if ports.silent:
        told.append(f"<b>{name}</b> exposes {', '.join(map(str, ports.silent))}, but nothing answers there.")
    if ports.untried:
        told.append(f"<b>{name}</b> exposes {len(ports.untried)} more, which were not tried.")
    if not ports.listens:
        told.append(
            f"Its program may still be starting: <code>docker logs {name}</code>. Or it listens on 127.0.0.1 "
            "inside the container, where nobody else reaches it; have it listen on 0.0.0.0."
        )
    return told


def _link(host: str, text: str) -> str:
    name, _, port = host.partition(":")
    if not _LINKABLE.match(name) or (port and not port.isdigit()):
        return f"<code>{_shown(text, 96)}</code>"
    return f'<a href="http://{host}/">{_shown(text, 96)}</a>'


def _shown(text: str, most: int) -> str:
    """Text as HTML, in an element or between quotes: escaped, without control characters, in so many bytes."""
    shown, room = [], most
    for character in text:
        safe = html.escape(character) if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        room -= len(safe.encode())
        if room < 0:
            shown.append("…")
            break
        shown.append(safe)
    return "".join(shown)
