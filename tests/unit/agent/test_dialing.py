"""The dialer's container is ours alone, is kept running, and is believed when it has proved itself."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dconnect.agent import dialer, labels
from dconnect.agent.dialing import Dialing, dialer_config, self_test
from dconnect.agent.docker.engine import Engine
from dconnect.agent.ownnet import OwnNetwork
from dconnect.agent.sockets import DialerSockets
from kit.dialer import running_dialer
from kit.docker_engine import DockerEngine

DEADLINE = 5.0
LOOPBACK = ip_address("127.0.0.1")
OWN = OwnNetwork((LOOPBACK,), (), (LOOPBACK,))
"""On loopback a connection comes from the address that it goes to, so that is the gateway."""
AGENT: dict[str, Any] = {
    "Id": "a" * 64,
    "Image": "sha256:new",
    "Config": {"Labels": {labels.LABEL_ROLE: labels.ROLE_AGENT, labels.LABEL_VERSION: "1.2"}},
    "Mounts": [{"Destination": labels.RUN_DIR, "Name": "other-volume"}],
    "HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": 7, "Hard": 7}]},
}


def container(image: str, role: str | None, *, running: bool = True) -> dict[str, Any]:
    """One called as the dialer is."""
    found = {} if role is None else {labels.LABEL_ROLE: role}
    state = {"Running": running}
    return {"Id": "d" * 64, "Image": image, "Config": {"Labels": found}, "State": state, "HostConfig": {}}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DockerEngine]:
    with DockerEngine(tmp_path) as made:
        made.containers[labels.AGENT_NAME] = AGENT
        yield made


@asynccontextmanager
async def keeping(engine: DockerEngine, folder: Path, own: OwnNetwork = OWN) -> AsyncIterator[Dialing]:
    sockets = DialerSockets(folder)
    sockets.start()
    async with Engine.open(engine.url) as docker:
        dialing = Dialing(docker, sockets, own)
        keep = asyncio.ensure_future(dialing.keep())
        try:
            async with asyncio.timeout(DEADLINE):
                yield dialing
        finally:
            keep.cancel()
            await asyncio.wait([keep])
            await sockets.close()


async def until(holds: Callable[[], bool]) -> None:
    while True:
        if holds():
            return
        await asyncio.sleep(0.005)


def changes(engine: DockerEngine) -> list[str]:
    """What was asked of the engine that is no question."""
    return [line for line in engine.requests if not line.startswith("GET")]


def test_it_is_created_proved_and_started_again_when_it_ends(engine: DockerEngine, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with keeping(engine, tmp_path) as dialing:
            await until(lambda: len(changes(engine)) == 2)
            made = engine.containers[labels.DIALER_NAME]
            assert changes(engine) == ["POST containers/create", f"POST containers/{made['Id']}/start"]
            assert dialing.strategy.name == "testing"
            with running_dialer(tmp_path):
                await until(lambda: dialing.strategy.name == "engine-netns")
                assert dialing.state == "running"
                made["State"]["Running"] = False
            await until(lambda: len(changes(engine)) == 3)
            assert changes(engine)[2] == f"POST containers/{made['Id']}/start"

    asyncio.run(scenario())


def test_one_of_another_image_is_replaced(engine: DockerEngine, tmp_path: Path) -> None:
    engine.containers[labels.DIALER_NAME] = container("sha256:old", labels.ROLE_DIALER)

    async def scenario() -> None:
        async with keeping(engine, tmp_path):
            await until(lambda: len(changes(engine)) == 3)
            assert changes(engine)[0] == f"DELETE containers/{'d' * 64}"
            assert engine.containers[labels.DIALER_NAME]["Image"] == "sha256:new"

    asyncio.run(scenario())


@pytest.mark.parametrize("role", [None, "", labels.ROLE_AGENT])
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("image", ["sha256:old", "sha256:new"])
def test_a_strangers_container_of_that_name_is_left_alone_and_told_of(
    engine: DockerEngine, tmp_path: Path, image: str, role: str | None, running: bool
) -> None:
    engine.containers[labels.DIALER_NAME] = container(image, role, running=running)

    async def scenario() -> None:
        async with keeping(engine, tmp_path) as dialing:
            await until(lambda: dialing.strategy.name == "unavailable")
            assert "dconnect-dialer is there already and is not dconnect's" in dialing.strategy.detail
            await until(lambda: engine.requests.count("GET containers/dconnect-dialer/json") >= 3)
            assert changes(engine) == []
            # It goes away: we go on.
            del engine.containers[labels.DIALER_NAME]
            await until(lambda: len(changes(engine)) == 2)

    asyncio.run(scenario())


def test_a_dialer_that_failed_its_test_is_tested_again(engine: DockerEngine, tmp_path: Path) -> None:
    engine.containers[labels.DIALER_NAME] = container("sha256:new", labels.ROLE_DIALER)
    mended = threading.Event()

    def serve(listener: socket.socket) -> None:
        link, _ = listener.accept()
        with link:
            while request := link.recv(16):
                if not mended.is_set():
                    link.send(request[:1] + bytes((errno.EMFILE,)))
                    continue
                with dialer.create(request[:1]) as made:
                    socket.send_fds(link, [request[:1] + b"\0"], [made.fileno()])

    async def scenario() -> None:
        async with keeping(engine, tmp_path) as dialing:
            await until(lambda: dialing.strategy.name == "unavailable")
            assert "Too many open files" in dialing.strategy.detail
            mended.set()
            await until(lambda: dialing.strategy.name == "engine-netns")

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / dialer.SOCKET_NAME))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        asyncio.run(scenario())
        thread.join(DEADLINE)
    assert changes(engine) == []


def test_a_dialer_that_failed_its_test_and_died_is_started_again(engine: DockerEngine, tmp_path: Path) -> None:
    engine.containers[labels.DIALER_NAME] = container("sha256:new", labels.ROLE_DIALER, running=False)

    async def scenario() -> None:
        async with keeping(engine, tmp_path, OwnNetwork((LOOPBACK,))) as dialing:
            with running_dialer(tmp_path):
                await until(lambda: dialing.strategy.name == "unavailable")
            engine.containers[labels.DIALER_NAME]["State"]["Running"] = False
            before = len(changes(engine))
            await until(lambda: len(changes(engine)) > before)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (OwnNetwork((LOOPBACK,)), "it appears as 127.0.0.1"),
        (OwnNetwork((ip_address("::1"),)), "no IPv4 address"),
        (OwnNetwork((ip_address("198.51.100.7"),)), "do not reach the agent's own bridge"),
    ],
)
def test_a_dialer_elsewhere_is_not_believed(tmp_path: Path, own: OwnNetwork, words: str) -> None:
    async def scenario() -> None:
        sockets = DialerSockets(tmp_path)
        sockets.start()
        try:
            strategy = await asyncio.wait_for(self_test(sockets, own), DEADLINE)
            assert strategy.name == "unavailable"
            assert words in strategy.detail
        finally:
            await sockets.close()

    with running_dialer(tmp_path):
        asyncio.run(scenario())


def test_its_container_has_the_least_that_serves() -> None:
    config = dialer_config(AGENT)
    assert config["Image"] == "sha256:new"
    assert config["Labels"] == {labels.LABEL_ROLE: labels.ROLE_DIALER, labels.LABEL_VERSION: "1.2"}
    host = config["HostConfig"]
    assert (host["NetworkMode"], host["CapDrop"], host["CapAdd"]) == ("host", ["ALL"], ["NET_RAW"])
    assert host["ReadonlyRootfs"] is True
    assert host["Mounts"] == [{"Type": "volume", "Source": "other-volume", "Target": labels.RUN_DIR}]
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 7, "Hard": 7}]
