"""``dconnect tun up``: start the helper, wait until packets flow, and say so."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from dconnect.cli.output import complain, say
from dconnect.cli.transparent import helper
from dconnect.cli.transparent.helper import Order
from dconnect.cli.transparent.invoker import Invoker
from dconnect.cli.transparent.rundir import RunDir
from dconnect.core.errors import DconnectError, UsageError


def order(
    mtu: int,
    include: Sequence[str],
    exclude: Sequence[str],
    context: str | None,
    host: str | None,
    *,
    packets: bool = False,
) -> Order:
    """What is asked for, checked.

    Raises: UsageError.
    """
    return Order(mtu, _cidrs("--include", include), _cidrs("--exclude", exclude), packets, context, host)


def _cidrs(option: str, texts: Sequence[str]) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise UsageError(f"{option} {text!r} is no network such as 172.18.0.0/16: {error}.") from None
    return tuple(found)


def up(order: Order, *, foreground: bool) -> None:
    """Have a tunnel: until it ends, or in the background.

    Raises: DconnectError when there is none; then nothing of it is left.
    """
    if os.geteuid():
        words = " ".join(["sudo", sys.argv[0], *sys.argv[1:]])
        raise DconnectError(f"The device and its routes need root: {words}")
    invoker = Invoker.here()
    if foreground:
        helper.run(order, RunDir(), invoker, _tell)
        say("The tunnel is down.")
        return
    _tell(_in_background(order, invoker))


def _in_background(order: Order, invoker: Invoker) -> dict[str, Any]:
    """The report of a helper that goes on without us.

    Raises: DconnectError.
    """
    read, write = os.pipe()
    told = {"order": asdict(order), "invoker": asdict(invoker), "report": write}
    with os.fdopen(read, encoding="utf-8") as pipe:
        process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
            [sys.executable, "-P", "-m", "dconnect.cli.transparent.helper", json.dumps(told)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("DCONNECT_DEBUG") else subprocess.DEVNULL,
            pass_fds=(write,),
            start_new_session=True,
        )
        os.close(write)
        try:
            text = pipe.read()
        except BaseException:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(helper.END_SECONDS + 1)
            raise
    if not text:
        raise DconnectError("The tunnel's helper ended unexpectedly; DCONNECT_DEBUG=1 shows more.")
    report: dict[str, Any] = json.loads(text)
    if "error" in report:
        process.wait(helper.END_SECONDS + 1)
        raise helper.failure(report)
    process.returncode = 0  # it goes on, and is not ours to wait for
    return report


def _tell(report: dict[str, Any]) -> None:
    say(f"The tunnel is up on {report['device']}: {', '.join(report['subnets'])}")
    for each in report["refused"]:
        complain(f"dconnect: {each['subnet']} is not routed: {each['reason']}.")
    sys.stdout.flush()
