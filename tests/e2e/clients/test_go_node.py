"""Go's net/http, which knows SOCKS5, and Node's own clients, which know HTTP proxies only."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bed.clients import go_program, needs
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

PROGRAMS = Path(__file__).parents[1] / "programs"
NAME = "web.shop.docker"
GO = needs("golang-go", "go")
NODE = needs("nodejs", "node")


def assert_arrives(
    bed: Bed, scene: Scene, command: Sequence[str | Path], host: str, env: Mapping[str, str] | None = None
) -> None:
    status, seen_host, body = bed.host.run(command, env=env, check=True).stdout.split(" ", 2)
    assert (status, seen_host) == ("200", host)
    allowed = [scene.web, scene.web_2] if host == NAME else [scene.vault]
    assert body in [f"hello from {container[:12]}\n" for container in allowed]


@pytest.fixture(params=["by name", "by address"])
def host(request: pytest.FixtureRequest, bed: Bed, scene: Scene) -> str:
    return NAME if request.param == "by name" else bed.address_of(scene.vault)


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_program(PROGRAMS / "client.go", tmp_path_factory.mktemp("go"))


@GO
@pytest.mark.parametrize("scheme", ["socks5", "http"])
def test_go_through_a_proxy_url(
    bed: Bed, scene: Scene, agent: Dconnect, go_client: Path, host: str, scheme: str
) -> None:
    assert_arrives(bed, scene, [go_client, f"{scheme}://{agent.proxy}", f"http://{host}/"], host)


@GO
@pytest.mark.parametrize("scheme", ["socks5", "http"])
def test_go_takes_the_proxy_from_the_environment(
    bed: Bed, scene: Scene, agent: Dconnect, go_client: Path, host: str, scheme: str
) -> None:
    env = {"HTTP_PROXY": f"{scheme}://{agent.proxy}"}
    assert_arrives(bed, scene, [go_client, "environment", f"http://{host}/"], host, env)


def node(mode: str, agent: Dconnect, host: str) -> list[str | Path]:
    return ["node", PROGRAMS / "client.js", mode, f"http://{agent.proxy}", f"http://{host}/"]


@NODE
@pytest.mark.parametrize("mode", ["forward", "tunnel"])
def test_node_through_http(bed: Bed, scene: Scene, agent: Dconnect, host: str, mode: str) -> None:
    assert_arrives(bed, scene, node(mode, agent, host), host)


@NODE
def test_node_fetch_takes_the_proxy_from_the_environment(bed: Bed, scene: Scene, agent: Dconnect, host: str) -> None:
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = map(int, re.findall(r"\d+", version)[:2])
    if (major, minor) < (22, 21) or major == 23:
        pytest.skip(f"Node {version.strip()} does not know NODE_USE_ENV_PROXY; 22.21 and 24 do.")
    env = {"NODE_USE_ENV_PROXY": "1", "HTTP_PROXY": f"http://{agent.proxy}"}
    assert_arrives(bed, scene, node("fetch", agent, host), host, env)
