"""curl, in all its SOCKS and proxy modes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bed.clients import Hosts
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

NAME = "web.shop.docker"
WRITE_OUT = "%{stderr}%{http_code} %{num_connects} %header{x-host} %header{x-peer}\n"
FOUR_MEGABYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl printed, and what the target told about each request."""

    body: str
    seen: list[list[str]]
    """Status, new connections, Host, peer's address, peer's port."""


@pytest.fixture(scope="module")
def hosts(agent: Dconnect, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    return Hosts(agent, [NAME, "six.docker"], tmp_path_factory.mktemp("curl") / "hosts")


def curl(bed: Bed, *words: str, hosts: Hosts | None = None, env: Mapping[str, str] | None = None) -> Answer:
    command = ["curl", "-sS", "--fail", "--write-out", WRITE_OUT, *words]
    result = bed.host.run(hosts.command(command) if hosts else command, env=env)
    assert result.returncode == 0, result.stderr
    return Answer(result.stdout, [line.split() for line in result.stderr.splitlines()])


def options(mode: str, door: str) -> list[str]:
    """The mode's words; a mode is spelled as on the command line, where DOOR is the front door."""
    return mode.replace("DOOR", door).split()


PROXY_RESOLVES = [
    "--socks5-hostname DOOR",
    "-x socks5h://DOOR",
    "--socks4a DOOR",
    "-x socks4a://DOOR",
    "-x http://DOOR",
    "--proxytunnel -x http://DOOR",
    "--proxy1.0 DOOR",
    "--proxytunnel --proxy1.0 DOOR",
    "--http1.0 -x http://DOOR",
]
CURL_RESOLVES = [
    "--socks5 DOOR",
    "-x socks5://DOOR",
    "--socks4 DOOR",
    "-x socks4://DOOR",
]
EITHER = [*PROXY_RESOLVES, *CURL_RESOLVES]


def engine_side(bed: Bed, network: str, *, version: int = 4) -> str:
    """The address from which the engine itself reaches a network's containers: the network's gateway."""
    configs = bed.inspect(network)["IPAM"]["Config"]
    found = [each["Gateway"] for each in configs if "Gateway" in each and (":" in each["Gateway"]) == (version == 6)]
    return str(found[0])


def assert_arrived(answer: Answer, containers: Sequence[str], host: str, peers: Sequence[str]) -> None:
    assert answer.body.removeprefix("hello from ").strip() in [each[:12] for each in containers]
    [[status, _, seen_host, peer, _]] = answer.seen
    assert (status, seen_host) == ("200", host)
    assert peer in peers


@pytest.mark.parametrize("mode", PROXY_RESOLVES)
def test_the_proxy_looks_the_name_up(bed: Bed, scene: Scene, agent: Dconnect, mode: str) -> None:
    answer = curl(bed, *options(mode, agent.proxy), f"http://{NAME}/")
    assert_arrived(
        answer, [scene.web, scene.web_2], NAME, [engine_side(bed, each) for each in ("shop_front", "shop_back")]
    )


@pytest.mark.parametrize("mode", CURL_RESOLVES)
def test_curl_looks_the_name_up(bed: Bed, scene: Scene, agent: Dconnect, hosts: Hosts, mode: str) -> None:
    answer = curl(bed, *options(mode, agent.proxy), f"http://{NAME}/", hosts=hosts)
    assert_arrived(
        answer, [scene.web, scene.web_2], NAME, [engine_side(bed, each) for each in ("shop_front", "shop_back")]
    )


@pytest.mark.parametrize("mode", EITHER)
def test_an_ipv4_address_is_reached(bed: Bed, scene: Scene, agent: Dconnect, mode: str) -> None:
    address = bed.address_of(scene.vault)
    answer = curl(bed, *options(mode, agent.proxy), f"http://{address}/")
    assert_arrived(answer, [scene.vault], address, [engine_side(bed, "vault_net")])


@pytest.mark.parametrize("mode", [mode for mode in EITHER if "socks4" not in str(mode)])
def test_an_ipv6_address_is_reached(bed: Bed, scene: Scene, agent: Dconnect, mode: str) -> None:
    address = bed.address_of(scene.six, version=6)
    answer = curl(bed, *options(mode, agent.proxy), f"http://[{address}]/")
    assert answer.body == f"hello from {scene.six[:12]}\n"
    assert answer.seen[0][2] == f"[{address}]"


@pytest.mark.parametrize(
    "variables",
    [
        {"http_proxy": "http://DOOR"},
        {"all_proxy": "http://DOOR"},
        {"ALL_PROXY": "socks5h://DOOR"},
        {"ALL_PROXY": "socks4a://DOOR"},
    ],
    ids=str,
)
def test_the_environment_names_the_proxy(bed: Bed, scene: Scene, agent: Dconnect, variables: dict[str, str]) -> None:
    spelled = {name: value.replace("DOOR", agent.proxy) for name, value in variables.items()}
    assert curl(bed, "http://plain/", env=spelled).body == f"hello from {scene.plain[:12]}\n"


def test_what_dconnect_env_prints_is_enough(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    script = f"{agent('env', '--shell=sh')}\ncurl -sS --fail http://plain/"
    assert bed.host.run(["sh", "-c", script], check=True).stdout == f"hello from {scene.plain[:12]}\n"


# A response of HTTP/1.0 ends with its connection.
@pytest.mark.parametrize(
    "mode", [mode for mode in EITHER if mode not in ("--proxy1.0 DOOR", "--http1.0 -x http://DOOR")]
)
def test_a_second_request_to_the_same_host_needs_no_new_connection(bed: Bed, agent: Dconnect, mode: str) -> None:
    address = bed.address_of("plain")
    answer = curl(bed, *options(mode, agent.proxy), f"http://{address}/", f"http://{address}/bytes/0")
    assert [each[:2] for each in answer.seen] == [["200", "1"], ["200", "0"]]
    assert answer.seen[0][4] == answer.seen[1][4], "the target saw two connections"


@pytest.mark.parametrize("mode", EITHER)
def test_an_upload_waits_for_100_continue_and_arrives(bed: Bed, agent: Dconnect, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "body"
    path.write_bytes(os.urandom(FOUR_MEGABYTES))
    trace = tmp_path / "trace"
    words = ["-T", str(path), "-X", "POST", "-H", "Expect: 100-continue", "--expect100-timeout", "30"]
    words += ["--trace-ascii", str(trace), f"http://{bed.address_of('plain')}/sha256"]
    answer = curl(bed, *options(mode, agent.proxy), *words)
    assert answer.body.strip() == hashlib.sha256(path.read_bytes()).hexdigest()
    if "--http1.0" not in mode:  # RFC 9110 §10.1.1: a client of HTTP/1.0 expects nothing
        assert "HTTP/1.1 100 Continue" in trace.read_text()


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("--socks5-hostname DOOR", "(5)"),  # connection refused, RFC 1928 §6
        ("--socks4a DOOR", "rejected"),
        ("-x http://DOOR", "502"),
        ("--proxytunnel -x http://DOOR", "502"),
    ],
)
def test_curl_tells_a_refused_connection_as_one(bed: Bed, agent: Dconnect, mode: str, words: str) -> None:
    command = ["curl", "-sS", *options(mode, agent.proxy), "--write-out", "%{http_code}", "http://plain:81/"]
    result = bed.host.run(command)
    assert words in result.stdout + result.stderr
