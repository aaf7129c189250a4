"""The handshake over the loopback: only this very agent's whole and ready answer counts."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from dconnect.cli import client, handshake
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError

ID = "5f1a" * 16
READY = {"status": "ok", "version": "1", "instance": ID[:12]}


@contextmanager
def answering(reply: bytes) -> Iterator[AgentConfig]:
    """A port on the loopback that answers each connection with these bytes and closes it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield AgentConfig(port=server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body: object, status: str = "200 OK") -> bytes:
    text = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


def healthy(reply: bytes) -> bool:
    with answering(reply) as config:
        return asyncio.run(handshake.healthy(ID, config))


def test_this_agent_s_ready_answer_counts() -> None:
    assert healthy(http(READY))


@pytest.mark.parametrize(
    "reply",
    [
        http(READY | {"status": "starting"}, "503 Service Unavailable"),
        http(READY | {"status": "starting"}),
        http(READY, "503 Service Unavailable"),
        http(READY | {"instance": "another12345"}),
        http(READY | {"instance": ""}),
        http({"status": "ok"}),
        http([READY]),
        http("ok"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot JSON.",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\x01",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\n{}",
        http(READY)[:-3],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
def test_any_other_answer_does_not_count(reply: bytes) -> None:
    assert not healthy(reply)


def test_a_closed_port_does_not_count() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        config = AgentConfig(port=server.getsockname()[1])
    assert not asyncio.run(handshake.healthy(ID, config))


def test_a_port_that_accepts_and_is_silent_ends_with_the_deadline() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        config = AgentConfig(port=server.getsockname()[1])
        with pytest.raises(DconnectError, match=r"does not answer at http://127\.0\.0\.1:\d+ \(time-out\)"):
            asyncio.run(client.get(config, "/healthz", deadline_s=0.1))


def test_another_program_on_the_port_is_told() -> None:
    other = pytest.raises(DconnectError, match="is not dconnect; another program may have the port")
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot JSON.") as config, other:
        asyncio.run(client.get(config, "/api/v1/status"))


def test_the_environment_s_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert healthy(http(READY))
