"""Every way to fail has its own code in both protocols, one sentence for a person, and a line in the log."""

from __future__ import annotations

import contextlib
import functools
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bed.client import Client, receive_all
from bed.dconnect import Dconnect
from bed.name_server import name_server
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for

SILENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Case:
    host: str
    port: int
    rep: int
    status: int
    words: str
    """Must stand in the sentence."""
    outcome: str
    """Must stand in the log."""


@pytest.fixture(scope="module")
def cases(bed: Bed, scene: Scene) -> Iterator[dict[str, Case]]:
    bed.target("halted")
    bed.docker("stop", "halted")
    bed.target("mute", network="shop_back")
    bed.docker("run", "--detach", "--name=shared", "--network=container:plain", bed.base_image, "sleep", "999")
    plain = bed.address_of(scene.plain)
    with bed.blackhole(bed.address_of("mute"), 80):
        yield {
            "unknown name": Case("nobody", 80, 4, 502, "No container is called nobody", "name_unknown"),
            "unknown name under a suffix": Case("no.shop.docker", 80, 4, 502, "no.shop.docker", "name_unknown"),
            "unknown name outside Docker": Case("nowhere.example", 80, 4, 502, "nowhere.example", "name_unknown"),
            "stopped container": Case("halted", 80, 4, 503, "docker start halted", "stopped"),
            "address of nobody": Case("172.17.255.250", 80, 4, 502, "not reachable", "host_unreachable"),
            "refused port": Case("plain", 81, 5, 502, "nothing listens on port 81", "refused"),
            "refused port by address": Case(plain, 81, 5, 502, "nothing listens on port 81", "refused"),
            "no route": Case("198.51.100.7", 80, 3, 502, "no route", "network_unreachable"),
            "no answer": Case("mute", 80, 6, 504, "did not answer within 10 seconds", "timeout"),
            "no address of its own": Case("shared", 80, 4, 502, "no address of its own", "host_unreachable"),
            "forbidden": Case("169.254.169.254", 80, 2, 403, "not allowed", "policy"),
        }
    bed.docker("rm", "--force", "halted", "mute", "shared")


NAMES = (
    "unknown name",
    "unknown name under a suffix",
    "unknown name outside Docker",
    "stopped container",
    "address of nobody",
    "refused port",
    "refused port by address",
    "no route",
    "no answer",
    "no address of its own",
    "forbidden",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_has_its_code_its_sentence_and_its_line_in_the_log(
    bed: Bed, client: Client, agent: Dconnect, cases: dict[str, Case], name: str
) -> None:
    case = cases[name]
    with name_server(bed.engine_netns) if case.host == "nowhere.example" else contextlib.nullcontext():
        fails_as_it_must(client, agent, case)


def fails_as_it_must(client: Client, agent: Dconnect, case: Case) -> None:
    target = f"{case.host}:{case.port}"
    before = len(agent.sessions(target))
    assert client.socks_code(case.host, case.port) == case.rep
    tunnel = client.connect_refusal(case.host, case.port)
    plain = client.get(f"http://{target}/")
    assert (tunnel.code, plain.code) == (case.status, case.status)
    for reply in (tunnel, plain):
        assert case.words in reply.text
        assert reply.text.count("\n") == 1, "one sentence on one line"
        assert reply.text.endswith(".\n") or "docker start" in reply.text
    lines = eventually(lambda: agent.sessions(target)[before:], 3)
    # Two workers write one log, so the order is not that of the requests.
    assert {(line["front"], line["outcome"]) for line in lines} == {
        (front, case.outcome) for front in ("socks5", "connect", "http")
    }
    assert all(case.words in line["detail"] for line in lines)
    assert all(line["level"] == "warning" for line in lines)


def _curl(bed: Bed, agent: Dconnect, url: str, accept: str, *options: str) -> tuple[str, str]:
    """Head and body, as curl shows them."""
    words = ["curl", "-sS", "-i", "-x", f"http://{agent.proxy}", "-H", f"Accept: {accept}", *options, url]
    head, _, body = bed.host.run(words, check=True).stdout.partition("\n\n")
    return head, body


def test_a_browser_is_told_where_the_container_does_listen(bed: Bed, agent: Dconnect, scene: Scene) -> None:
    bed.target("elsewhere", options=["--expose=8080"])
    try:
        head, body = _curl(bed, agent, "http://elsewhere:81/", "text/html,*/*;q=0.8")
        assert head.startswith("HTTP/1.1 502 ")
        assert "Content-Type: text/html; charset=utf-8" in head
        assert "<h1>elsewhere:81 refused the connection: nothing listens on port 81 there.</h1>" in body
        links = ", ".join(f'<a href="http://elsewhere:{port}/">{port}</a>' for port in (7, 9, 19, 80))
        assert f"<b>elsewhere</b> listens on {links}." in body
        assert "<b>elsewhere</b> exposes 8080, but nothing answers there." in body
        head, body = _curl(bed, agent, "http://elsewhere:81/", "*/*")
        assert "Content-Type: text/plain; charset=utf-8" in head
        assert body == "elsewhere:81 refused the connection: nothing listens on port 81 there.\n"
        bed.docker("stop", "elsewhere")
        assert "<code>docker start elsewhere</code>" in _curl(bed, agent, "http://elsewhere/", "text/html")[1]
    finally:
        bed.docker("rm", "--force", "elsewhere")
    assert '<a href="http://shop_web_1/">shop_web_1</a>' in _curl(bed, agent, "http://shop_web_9/", "text/html")[1]


def eventually(lines: Callable[[], list[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """The log's lines once there are so many of them: they are written a moment after the session's end."""
    deadline = time.monotonic() + 5
    while len(found := lines()) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_client_that_is_cut_ends_its_dial(client: Client, agent: Dconnect, cases: dict[str, Case]) -> None:
    before = len(agent.sessions("mute:80"))
    connection = client.open()
    connection.sendall(b"\x05\x01\x00\x05\x01\x00\x03\x04mute\x00\x50")
    wait_for("it is dialed", lambda: "mute:80" in str(client.own("/api/v1/connections")), 5)
    begun = time.monotonic()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    lines = eventually(lambda: agent.sessions("mute:80")[before:], 1)
    assert time.monotonic() - begun < SILENCE_SECONDS / 2
    assert [(line["outcome"], line["detail"]) for line in lines] == [
        ("gone", "The client left while mute:80 was being dialed.")
    ]


def test_a_resolver_that_does_not_answer_is_a_timeout(client: Client) -> None:
    reply = client.get("http://nowhere.example/")
    assert (reply.code, reply.text) == (504, "The engine's resolver did not answer for nowhere.example.\n")


def test_ten_seconds_of_silence_end_the_connection(client: Client, agent: Dconnect) -> None:
    with client.open() as connection:
        connection.settimeout(SILENCE_SECONDS + 3)
        begun = time.monotonic()
        assert receive_all(connection) == b""
        assert time.monotonic() - begun > SILENCE_SECONDS - 1
        peer = f"{connection.getsockname()[0]}:{connection.getsockname()[1]}"
    lines = eventually(lambda: of_peer(agent, peer), 1)
    assert [(line["outcome"], line["detail"]) for line in lines] == [
        ("silent", "The client connected and said nothing.")
    ]


def of_peer(agent: Dconnect, peer: str) -> list[dict[str, Any]]:
    return [line for line in agent.log() if line.get("peer") == peer]


def test_a_request_head_that_never_ends_is_given_up(client: Client) -> None:
    with client.open() as connection:
        connection.settimeout(SILENCE_SECONDS + 3)
        connection.sendall(b"GET http://plain/ HTTP/1.1\r\nHost: plain\r\n")
        assert receive_all(connection).startswith(b"HTTP/1.1 408 ")


def test_random_bytes_end_the_connection_and_are_told(client: Client, agent: Dconnect) -> None:
    source = random.Random(2)
    for first in (0x00, 0x01, 0x16, 0x7F, 0x80, 0xFF):
        with client.open() as connection:
            peer = f"{connection.getsockname()[0]}:{connection.getsockname()[1]}"
            connection.sendall(bytes([first]) + source.randbytes(300))
            with contextlib.suppress(ConnectionResetError):  # unread bytes make the close a reset
                assert receive_all(connection) == b""
        lines = eventually(functools.partial(of_peer, agent, peer), 1)
        assert [line["outcome"] for line in lines] == ["malformed"]
        assert "neither SOCKS nor HTTP" in lines[0]["detail"] or first == 0x16
    with client.open() as connection:  # an empty line may come before HTTP (RFC 9112 §2.2)
        connection.sendall(b"\n" + source.randbytes(300) + b"\r\n\r\n")
        assert receive_all(connection).startswith(b"HTTP/1.1 400 ")
    assert client.get("http://plain/").code == 200


def test_a_header_of_64_kb_is_told_its_size_is_wrong(client: Client, agent: Dconnect) -> None:
    reply = client.get("http://plain/", head=b"X-Big: " + b"a" * 65536 + b"\r\n")
    assert reply.code == 431
    assert reply.text.count("\n") == 1


def test_bind_of_socks4_is_told_no(client: Client) -> None:
    with client.open() as connection:
        connection.sendall(b"\x04\x02\x00\x50" + socket.inet_aton("172.17.0.2") + b"user\0")
        assert receive_all(connection)[:2] == b"\x00\x5b"


def test_the_page_and_the_health_are_the_agents_own(client: Client, bed: Bed, agent: Dconnect) -> None:
    for options in ([], ["-x", f"http://{agent.proxy}"]):
        host = "dconnect.docker" if options else agent.proxy
        words = ["curl", "-sS", "-i", *options, f"http://{host}/healthz"]
        answer = bed.host.run(words, check=True).stdout
        assert answer.startswith("HTTP/1.1 200 ")
        assert '"status": "ok"' in answer
    assert "shop_web_1" in bed.host.run(["curl", "-sS", f"http://{agent.proxy}/"], check=True).stdout
    assert client.socks_code("dconnect.docker", 1080) == 0
    assert client.socks_code("dconnect.docker", 22) == 5
