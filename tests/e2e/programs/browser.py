"""Open pages in a headless browser: browser.py chromium|firefox SETTING URL…

SETTING is a proxy as Chromium spells it (socks5://HOST:PORT, http://HOST:PORT), or ``pac=URL``. Firefox
also takes ``socks5-local://HOST:PORT``, to look names up itself, and ``user.js=TEXT``, its own words.
Prints a JSON array: for each URL what the page kept in ``window.result``; where it kept nothing, the
response's status and the page's text; where there was no response, the browser's error.

Both browsers are driven over a WebSocket: Chromium by its DevTools protocol, Firefox by WebDriver BiDi.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

DEADLINE = 60
RESULT = """
window.result ?? Promise.resolve(JSON.stringify({
  status: performance.getEntriesByType("navigation")[0].responseStatus,
  text: document.body.innerText,
}))
"""
CHROMIUM = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-port=0"
)
FIREFOX = "firefox-esr --headless --no-remote --remote-debugging-port 0"
QUIET: dict[str, str | int | bool] = {  # Firefox asks for nothing by itself
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.security.https_first": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}


class Failed(Exception):
    """The browser refused a command; its own words."""


class Remote:
    """Commands over a WebSocket, each answered by its number."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of a command; events that come meanwhile are passed over."""
        number = next(self._numbers)
        extra = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **extra})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") != number:
                continue
            if "error" in message:
                raise Failed(str(message.get("message") or message["error"]))
            result: dict[str, Any] = message["result"]
            return result


async def with_chromium(remote: Remote, urls: list[str]) -> AsyncIterator[Any]:
    target = (await remote.call("Target.createTarget", url="about:blank"))["targetId"]
    session = (await remote.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    for url in urls:
        # With nobody waiting for the load event, the page is asked only once it is complete.
        error = (await remote.call("Page.navigate", session, url=url)).get("errorText")
        if error:
            yield {"error": error}
            continue
        result = await remote.call(
            "Runtime.evaluate", session, expression=complete(RESULT), awaitPromise=True, returnByValue=True
        )
        yield json.loads(result["result"]["value"])


async def with_firefox(remote: Remote, urls: list[str]) -> AsyncIterator[Any]:
    await remote.call("session.new", capabilities={})
    contexts = (await remote.call("browsingContext.getTree"))["contexts"]
    context = contexts[0]["context"]
    for url in urls:
        try:
            await remote.call("browsingContext.navigate", context=context, url=url, wait="complete")
        except Failed as error:
            yield {"error": str(error)}
            continue
        result = await remote.call("script.evaluate", expression=RESULT, target={"context": context}, awaitPromise=True)
        yield json.loads(result["result"]["value"])
    await remote.call("browser.close")


def complete(expression: str) -> str:
    """The expression, evaluated once the document is there."""
    return f"""new Promise((resolve) => {{
      const answer = () => resolve({expression.strip()});
      if (document.readyState === "complete") answer(); else addEventListener("load", answer);
    }})"""


def chromium_command(setting: str, profile: Path) -> list[str]:
    proxy = f"--proxy-pac-url={setting[4:]}" if setting.startswith("pac=") else f"--proxy-server={setting}"
    return [*CHROMIUM.split(), f"--user-data-dir={profile}", proxy, "about:blank"]


def firefox_preferences(setting: str) -> dict[str, str | int | bool]:
    """How Firefox spells a setting."""
    if setting.startswith("pac="):
        return {"network.proxy.type": 2, "network.proxy.autoconfig_url": setting[4:]}
    door = urlsplit(setting)
    kinds = ["http", "ssl"] if door.scheme == "http" else ["socks"]  # WebSockets are tunnelled, as TLS is
    return {
        "network.proxy.type": 1,
        "network.proxy.socks_version": 5,
        "network.proxy.socks_remote_dns": door.scheme == "socks5",
        "network.proxy.socks5_remote_dns": door.scheme == "socks5",
        **{f"network.proxy.{kind}": door.hostname or "" for kind in kinds},
        **{f"network.proxy.{kind}_port": door.port or 0 for kind in kinds},
    }


def firefox_command(setting: str, profile: Path) -> list[str]:
    given = setting.removeprefix("user.js=")
    preferences = QUIET if given != setting else {**QUIET, **firefox_preferences(setting)}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
    (profile / "user.js").write_text("\n".join([*lines, given if given != setting else ""]))
    return [*FIREFOX.split(), "--profile", str(profile), "about:blank"]


@asynccontextmanager
async def started(command: list[str], home: Path) -> AsyncIterator[str]:
    """A running browser; where its WebSocket is."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=PIPE,
        stderr=STDOUT,
        env={**os.environ, "HOME": str(home), "TMPDIR": str(home)},
        start_new_session=True,
    )
    assert process.stdout
    reading = None
    try:
        said = ""
        while not (found := re.search(r"listening on (ws://\S+)", said)):
            line = (await process.stdout.readline()).decode(errors="replace")
            if not line:
                raise Failed(f"{command[0]} ended: {said}")
            said += line
        reading = asyncio.ensure_future(process.stdout.read())  # a full pipe would stop it
        yield found[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if reading is not None:
            await reading


async def main(browser: str, setting: str, urls: list[str]) -> None:
    command, drive, path = {
        "chromium": (chromium_command, with_chromium, ""),
        "firefox": (firefox_command, with_firefox, "/session"),
    }[browser]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        async with (
            started(command(setting, home), home) as address,
            aiohttp.ClientSession() as session,
            session.ws_connect(address + path, max_msg_size=0) as socket,
        ):
            print(json.dumps([each async for each in drive(Remote(socket), urls)]))


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(sys.argv[1], sys.argv[2], sys.argv[3:]), DEADLINE))
