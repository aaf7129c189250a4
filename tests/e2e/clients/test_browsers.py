"""Chromium and Firefox ESR, headless: a page with scripts, a POST and a WebSocket."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bed.clients import Hosts, needs
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

PROGRAM = Path(__file__).parents[1] / "programs" / "browser.py"
CHROMIUM = needs("chromium", "chromium")
FIREFOX = needs("firefox-esr", "firefox-esr")
WAYS = [
    pytest.param(browser, setting, marks=mark)
    for browser, mark in (("chromium", CHROMIUM), ("firefox", FIREFOX))
    for setting in ("socks5://DOOR", "http://DOOR", "pac=http://DOOR/proxy.pac")
]
DIGEST = hashlib.sha256(b"x" * 100_000).hexdigest()
DEADLINE = 90


def opened(bed: Bed, agent: Dconnect, browser: str, setting: str, urls: list[str], hosts: Hosts | None = None) -> Any:
    """What the browser made of each page."""
    words = [sys.executable, "-P", str(PROGRAM), browser, setting.replace("DOOR", agent.proxy), *urls]
    result = bed.host.run(hosts.command(words) if hosts else words, timeout=DEADLINE, check=True)
    return json.loads(result.stdout)


@pytest.mark.parametrize(("browser", "setting"), WAYS)
def test_pages_work_by_every_kind_of_name(bed: Bed, scene: Scene, agent: Dconnect, browser: str, setting: str) -> None:
    containers = {
        "shop_db_1.docker": scene.db,
        "plain": scene.plain,
        bed.address_of(scene.vault): scene.vault,
        f"[{bed.address_of(scene.six, version=6)}]": scene.six,
    }
    other = "?other=http://vault.docker/script.js"
    results = opened(bed, agent, browser, setting, [f"http://{host}/page{other}" for host in containers])
    greetings = [f"hello from {container[:12]}" for container in containers.values()]
    assert results == [
        {
            "loaded": [greeting, f"hello from {scene.vault[:12]}"],
            "host": host,
            "sha256": DIGEST,
            "echoed": True,
            "text": "A page in a container.",
        }
        for host, greeting in zip(containers, greetings, strict=True)
    ]


@pytest.mark.parametrize(("browser", "setting"), WAYS)
def test_a_page_that_is_not_there_is_told_as_an_error(
    bed: Bed, scene: Scene, agent: Dconnect, browser: str, setting: str
) -> None:
    [result] = opened(bed, agent, browser, setting, ["http://nobody.docker/"])
    if not setting.startswith("socks"):  # the PAC file names the HTTP proxy
        assert result["status"] in {502, 503, 504}
        assert "nobody" in result["text"]
    else:  # SOCKS carries no text, so the browser's own page is shown
        assert set(result) == {"error"}


@FIREFOX
def test_firefox_may_look_names_up_itself(bed: Bed, scene: Scene, agent: Dconnect, tmp_path: Path) -> None:
    hosts = Hosts(agent, ["plain.docker"], tmp_path / "hosts")
    url = "http://plain.docker/page"
    [result] = opened(bed, agent, "firefox", "socks5-local://DOOR", [url], hosts)
    assert result["loaded"] == [f"hello from {scene.plain[:12]}"]
    assert result["echoed"] is True
