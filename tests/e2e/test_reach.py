"""A host that cannot route reaches every container: by name and by address, on every kind of network."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bed.client import Client, receive_all
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed
from bed.target_server import BLOCK

PROGRAMS = Path(__file__).parent / "programs"
GIBIBYTE = 1 << 30
HUNDRED_MEGABYTES = 100_000_000


@pytest.fixture(scope="module", params=["the engine's own rules", "engine 28's rules"], autouse=True)
def rules(request: pytest.FixtureRequest, bed: Bed, agent: Dconnect) -> Iterator[None]:
    """Everything here must hold on both generations of engines."""
    if request.param == "engine 28's rules":
        with bed.imitate_engine_28():
            yield
    else:
        yield


def curl_options(mode: str, agent: Dconnect) -> list[str]:
    return {
        "SOCKS5": ["--socks5-hostname", agent.proxy],
        "HTTP": ["-x", f"http://{agent.proxy}"],
        "SOCKS4a": ["--socks4a", agent.proxy],
        "CONNECT": ["-p", "-x", f"http://{agent.proxy}"],
    }[mode]


def curl(bed: Bed, *words: str, timeout: float = 60) -> str:
    return bed.host.run(["curl", "-sS", "--fail", *words], timeout=timeout, check=True).stdout


def destinations(bed: Bed, scene: Scene) -> Iterator[tuple[str, set[str]]]:
    """(host part of a URL, short ids of the containers that may answer)."""
    web = {scene.web[:12], scene.web_2[:12]}
    yield from (
        ("web", web),
        ("web.docker", web),
        ("web.docker.test", web),
        ("web.shop.docker", web),
        ("web.shop", web),
        ("WEB.Docker.", web),
        ("1.web.shop.docker", {scene.web[:12]}),
        ("2.web.shop.docker", {scene.web_2[:12]}),
        ("shop_web_1", {scene.web[:12]}),
        ("db", {scene.db[:12]}),
        ("db.shop.docker", {scene.db[:12]}),
        ("web.shop_back", {scene.web[:12]}),
    )
    for name in ("plain", "vault", "six"):
        only = {getattr(scene, name)[:12]}
        network = next(iter(bed.inspect(name)["NetworkSettings"]["Networks"]))
        for host in (name, f"{name}.docker", f"{name}.{network}", f"{name}.{network}.docker"):
            yield host, only
    for container in (scene.plain, scene.web, scene.web_2, scene.db, scene.vault, scene.six):
        yield container[:12], {container[:12]}
        for endpoint in bed.inspect(container)["NetworkSettings"]["Networks"].values():
            yield endpoint["IPAddress"], {container[:12]}
            if endpoint["GlobalIPv6Address"]:
                yield f"[{endpoint['GlobalIPv6Address']}]", {container[:12]}


@pytest.mark.parametrize("mode", ["SOCKS5", "SOCKS4a", "HTTP", "CONNECT"])
def test_curl_reaches_every_container_by_every_name(bed: Bed, scene: Scene, agent: Dconnect, mode: str) -> None:
    wrong: list[str] = []
    for host, allowed in destinations(bed, scene):
        result = bed.host.run(["curl", "-sS", "--fail", *curl_options(mode, agent), f"http://{host}/"])
        answer = result.stdout.strip().removeprefix("hello from ")
        if answer not in allowed:
            wrong.append(f"{host}: {result.stdout}{result.stderr}")
    assert wrong == []


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """100 MB and their SHA-256."""
    path = tmp_path_factory.mktemp("big") / "body"
    state = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(HUNDRED_MEGABYTES // 1_000_000):
            piece = os.urandom(1_000_000)
            state.update(piece)
            file.write(piece)
    return path, state.hexdigest()


@pytest.mark.parametrize("mode", ["SOCKS5", "HTTP", "CONNECT"])
@pytest.mark.parametrize("coding", ["Transfer-Encoding: chunked", "Expect:"])
def test_a_post_of_100_mb_arrives_intact(
    bed: Bed, agent: Dconnect, big_file: tuple[Path, str], mode: str, coding: str
) -> None:
    path, digest = big_file
    body = ["-H", coding, "--data-binary", f"@{path}", "http://plain/sha256"]
    assert curl(bed, *curl_options(mode, agent), *body).strip() == digest


def test_a_websocket_through_the_http_proxy_echoes(bed: Bed, agent: Dconnect) -> None:
    words: list[str | Path] = [
        sys.executable,
        "-P",
        PROGRAMS / "websocket.py",
        f"http://{agent.proxy}",
        "http://web.shop.docker/ws",
    ]
    assert bed.host.run(words, check=True).stdout == "echoed 1 + 70000 + 1000000 bytes\n"


def test_300_requests_alternating_between_two_hosts_share_one_connection(
    scene: Scene, client: Client, agent: Dconnect
) -> None:
    wanted = {"plain": scene.plain[:12], "db.shop.docker": scene.db[:12]}
    connection = http.client.HTTPConnection("unused")
    connection.sock = sock = client.open()
    for number in range(300):
        host = ("plain", "db.shop.docker")[number % 2]
        connection.request("GET", f"http://{host}/", headers={"Host": host})
        response = connection.getresponse()
        assert response.headers["X-Host"] == host
        assert response.read().decode() == f"hello from {wanted[host]}\n"
        assert connection.sock is sock, f"the connection was closed after {number + 1} requests"
    connection.close()


@pytest.mark.parametrize("mode", ["SOCKS5", "HTTP", "CONNECT"])
def test_a_gibibyte_comes_down_with_the_same_sha256(bed: Bed, agent: Dconnect, mode: str, tmp_path: Path) -> None:
    head = tmp_path / "head"
    transfer = ["curl", "-sS", "--fail", "-D", str(head), *curl_options(mode, agent), f"http://plain/bytes/{GIBIBYTE}"]
    digest = piped(bed, transfer, ["sha256sum"])
    assert f"X-SHA256: {digest.split()[0]}" in head.read_text()


def piped(bed: Bed, first: Sequence[str], second: Sequence[str]) -> str:
    """The output of ``first | second``, with ``first`` on the host and successful."""
    with bed.host.popen(first, stderr=None) as source:
        result = subprocess.run(second, stdin=source.stdout, capture_output=True, text=True, check=True, timeout=90)
        assert source.wait(10) == 0
    return result.stdout


@pytest.mark.parametrize("mode", ["SOCKS5", "CONNECT"])
def test_a_gibibyte_goes_up_with_the_same_sha256(client: Client, mode: str) -> None:
    connection, reply = (client.socks if mode == "SOCKS5" else client.connect)("plain", 9)
    assert reply.code == {"SOCKS5": 0, "CONNECT": 200}[mode]
    state = hashlib.sha256()
    with connection:
        for _ in range(GIBIBYTE // len(BLOCK)):
            connection.sendall(BLOCK)
            state.update(BLOCK)
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).decode() == state.hexdigest()


def test_no_route_was_needed(bed: Bed, scene: Scene) -> None:
    with pytest.raises(OSError, match="unreachable"):
        bed.host.connect(bed.address_of(scene.plain), 80)
