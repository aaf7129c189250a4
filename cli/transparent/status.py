"""``dconnect tun status``: the pump's own account of itself."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from dconnect.cli.output import say, say_json
from dconnect.cli.transparent.rundir import RunDir
from dconnect.core.errors import DconnectError, NotRunning

DEADLINE_S = 2.0
"""The pump answers between two packets."""
_MOST_BYTES = 4 * 1024 * 1024


def ask(rundir: RunDir) -> dict[str, Any]:
    """The status of the tunnel that is up.

    Raises: NotRunning when none is; DconnectError when it is another user's, or does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(DEADLINE_S)
        try:
            sock.connect(str(rundir.status))
            text = b""
            while len(text) < _MOST_BYTES and (part := sock.recv(65536)):
                text += part
            found: dict[str, Any] = json.loads(text)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning("The transparent mode is not up; `sudo dconnect tun up` starts it.") from None
        except PermissionError:
            raise DconnectError("The transparent mode is up for another user; sudo shows it.") from None
        except (OSError, ValueError) as error:
            raise DconnectError(f"The tunnel does not answer ({error}); `sudo dconnect cleanup` ends it.") from None
    return found


def status(*, as_json: bool) -> None:
    """Print it.

    Raises: DconnectError.
    """
    found = ask(RunDir())
    if as_json:
        say_json(found)
        return
    for name, text in rows(found):
        say(f"{name:<11} {text}")


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What people want to know of it."""
    link = found["link"]
    return [
        ("device", f"{found.get('device', 'none yet')}, MTU {found.get('mtu', '?')}, since {_clock(found['started'])}"),
        ("addresses", ", ".join(found.get("addresses", ()))),
        ("link", _link(link)),
        *((("trouble", found["trouble"]),) if found["trouble"] else ()),
        ("TCP", _tcp(found)),
        *((which, _traffic(found[which])) for which in ("sent", "received")),
        ("DNS", ", ".join(found.get("dns", ()))),
        ("subnets", ", ".join(found.get("subnets", ())) or "none"),
        *(("not routed", f"{each['subnet']}: {each['reason']}") for each in found.get("refused", ())),
    ]


def _tcp(found: dict[str, Any]) -> str:
    if found.get("connections") is not None:
        return f"{found['connections']:,} connections, each by one of its own to the agent"
    why = f": {found['lacking']}" if found.get("lacking") else ""
    return f"as packets, over the link{why}"


def _link(link: dict[str, Any]) -> str:
    since = f"since {_clock(link['since'])}"
    if not link["up"]:
        return f"DOWN {since}: {link['error'] or 'no answer yet'}"
    rtt = "" if link["rtt_ms"] is None else f", round trip {link['rtt_ms']:.2f} ms"
    return f"to {link['door']} {since}{rtt}"


def _traffic(counts: dict[str, Any]) -> str:
    now = f"{counts['bits_per_s'] / 1e6:,.1f} Mbit/s now"
    return f"{counts['bytes'] / 1e6:,.1f} MB, {counts['packets']:,} packets, {now}"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
