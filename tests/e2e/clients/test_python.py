"""Python's SOCKS and HTTP proxy clients."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bed.clients import Hosts
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

PROGRAM = Path(__file__).parents[1] / "programs" / "python_client.py"
NAME = "web.shop.docker"
SOCKETS = ["python-socks", "python-socks, asyncio", "PySocks", "aiohttp-socks"]
HTTP_LIBRARIES = ["requests", "urllib3"]
PROXY_RESOLVES = [
    *((client, "socks5h") for client in (*SOCKETS, *HTTP_LIBRARIES)),
    *((client, "socks4a") for client in (*SOCKETS, *HTTP_LIBRARIES)),
    *((client, "http") for client in (*SOCKETS, *HTTP_LIBRARIES, "aiohttp", "urllib", "http.client")),
]
CLIENT_RESOLVES = [
    *((client, "socks5") for client in (*SOCKETS, *HTTP_LIBRARIES)),
    *((client, "socks4") for client in (*SOCKETS, *HTTP_LIBRARIES)),
]


@pytest.fixture(scope="module")
def hosts(agent: Dconnect, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    return Hosts(agent, [NAME], tmp_path_factory.mktemp("python") / "hosts")


def assert_arrives(bed: Bed, command: list[str], host: str, containers: list[str]) -> None:
    arrived = json.loads(bed.host.run(command, check=True).stdout)
    assert (arrived["status"], arrived["host"]) == (200, host)
    assert arrived["body"] in [f"hello from {container[:12]}\n" for container in containers]


def command(client: str, scheme: str, agent: Dconnect, host: str) -> list[str]:
    return [sys.executable, "-P", str(PROGRAM), client, f"{scheme}://{agent.proxy}", f"http://{host}/"]


@pytest.mark.parametrize(("client", "scheme"), PROXY_RESOLVES)
def test_the_proxy_looks_the_name_up(bed: Bed, scene: Scene, agent: Dconnect, client: str, scheme: str) -> None:
    assert_arrives(bed, command(client, scheme, agent, NAME), NAME, [scene.web, scene.web_2])


@pytest.mark.parametrize(("client", "scheme"), CLIENT_RESOLVES)
def test_the_client_looks_the_name_up(
    bed: Bed, scene: Scene, agent: Dconnect, hosts: Hosts, client: str, scheme: str
) -> None:
    words = hosts.command(command(client, scheme, agent, NAME))
    assert_arrives(bed, words, NAME, [scene.web, scene.web_2])


@pytest.mark.parametrize(("client", "scheme"), [*PROXY_RESOLVES, *CLIENT_RESOLVES])
def test_an_address_is_reached(bed: Bed, scene: Scene, agent: Dconnect, client: str, scheme: str) -> None:
    address = bed.address_of(scene.vault)
    assert_arrives(bed, command(client, scheme, agent, address), address, [scene.vault])
