"""The engine facade against an HTTP server that says what engines say, and what they should not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dconnect.agent.docker.engine import MAX_LINE, MAX_LOG_FRAME, Engine, EngineRefused
from dconnect.agent.docker.watch import Source
from dconnect.core.errors import EngineUnreachable, UsageError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
INFO = {
    "ID": "KF4D",
    "Name": "vm",
    "OSType": "linux",
    "Architecture": "x86_64",
    "KernelVersion": "6.1.0",
    "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"],
}


class Server:
    """Answers ``METHOD /path`` (without the version prefix) as told; remembers what was asked."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.asked: list[web.Request] = []
        self.answers: dict[str, Handler] = {"GET /version": gives(VERSION), "GET /info": gives(INFO)}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        path = request.path.removeprefix("/v1.41")
        answer = self.answers.get(f"{request.method} {path}")
        if answer is None:
            return web.json_response({"message": f"No such container: {path}"}, status=404)
        return await answer(request)


def gives(body: object, status: int = 200) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        # As dockerd writes it, without a charset: aiodocker reads no other error's message.
        text = json.dumps(body).encode()
        return web.Response(body=text, status=status, headers={"Content-Type": "application/json"})

    return handler


def streams(*pieces: bytes) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        return response

    return handler


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[Server, Engine]]:
    server = Server(path)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        async with Engine.open(server.url) as engine, asyncio.timeout(20):
            yield server, engine
    finally:
        await runner.cleanup()


def scenario(test: Callable[[Server, Engine], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """Run a coroutine test with a server and an engine that talks to it."""

    def run(tmp_path: Path) -> None:
        async def body() -> None:
            async with serving(tmp_path / "s") as (server, engine):
                await test(server, engine)

        asyncio.run(body())

    return run


def is_a_source(engine: Engine) -> Source:
    return engine  # mypy proves it


# -- questions ---------------------------------------------------------------------------------------------


@scenario
async def test_ping_says_who_the_engine_is(server: Server, engine: Engine) -> None:
    server.answers["GET /info"] = gives(INFO)
    info = await engine.ping()
    assert (info.version, info.api_version, info.engine_id, info.hostname) == ("20.10.24", "1.41", "KF4D", "vm")
    assert (info.os, info.arch, info.kernel, info.rootless) == ("linux", "x86_64", "6.1.0", True)


@pytest.mark.parametrize("version", [{}, [], {"Version": "1"}, "docker"])
def test_what_has_no_api_version_is_no_engine(tmp_path: Path, version: object) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s") as (server, engine):
            server.answers["GET /version"] = gives(version)
            with pytest.raises(EngineUnreachable, match="is not a Docker engine"):
                await engine.ping()

    asyncio.run(body())


@scenario
async def test_containers_are_asked_for_in_every_state_and_by_label(server: Server, engine: Engine) -> None:
    server.answers["GET /containers/json"] = gives([{"Id": "1"}])
    assert await engine.containers() == [{"Id": "1"}]
    assert dict(server.asked[-1].query) == {"all": "1"}
    await engine.containers(label="a=b")
    assert json.loads(server.asked[-1].query["filters"]) == {"label": ["a=b"]}


@scenario
async def test_a_container_that_does_not_exist_is_none(server: Server, engine: Engine) -> None:
    server.answers["GET /containers/web/json"] = gives({"Id": "1", "New": {"Field": None}})
    assert await engine.inspect("web") == {"Id": "1", "New": {"Field": None}}
    assert await engine.inspect("db") is None
    assert await engine.inspect("a/b?") is None
    assert server.asked[-1].rel_url.raw_path.endswith("/containers/a%2Fb%3F/json")


@scenario
async def test_a_refusal_keeps_the_engines_words(server: Server, engine: Engine) -> None:
    server.answers["GET /containers/web/json"] = gives({"message": "layer does not exist"}, 500)
    with pytest.raises(EngineRefused, match="refused: layer does not exist") as caught:
        await engine.inspect("web")
    assert (caught.value.status, caught.value.reason) == (500, "layer does not exist")


@scenario
async def test_removing_what_is_gone_or_going_is_fine(server: Server, engine: Engine) -> None:
    await engine.remove("web")
    going = {"message": "removal of container web is already in progress"}
    server.answers["DELETE /containers/web"] = gives(going, 409)
    await engine.remove("web")
    server.answers["DELETE /containers/web"] = gives({"message": "cannot remove a running container"}, 409)
    with pytest.raises(EngineRefused):
        await engine.remove("web")


@scenario
async def test_an_engine_that_does_not_answer_in_time_is_unreachable(server: Server, engine: Engine) -> None:
    async def silence(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.answers["GET /info"] = silence
    with pytest.raises(EngineUnreachable, match="did not answer within"):
        await engine.ping(deadline_s=0.1)


@scenario
async def test_an_answer_that_is_no_json_is_no_engines(server: Server, engine: Engine) -> None:
    server.answers["GET /networks"] = streams(b"<html>")
    with pytest.raises(EngineUnreachable):
        await engine.networks()


def test_the_cause_of_a_failed_connection_is_named(tmp_path: Path) -> None:
    async def asked(path: Path) -> str:
        async with Engine.open(f"unix://{path}") as engine:
            with pytest.raises(EngineUnreachable) as caught:
                await engine.containers()
        return str(caught.value)

    missing = tmp_path / "missing"
    assert asyncio.run(asked(missing)) == (
        f"No Docker engine answers at unix://{missing}: there is no such socket; is the engine running?"
    )
    deaf = tmp_path / "deaf"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(deaf))
    assert "nothing listens there" in asyncio.run(asked(deaf))


@pytest.mark.parametrize("endpoint", ["docker.sock", "ftp://host"])
def test_an_endpoint_of_no_known_kind_is_the_users_error(endpoint: str) -> None:
    async def body() -> None:
        with pytest.raises(UsageError, match="cannot be used"):
            async with Engine.open(endpoint) as engine:
                await engine.containers()

    asyncio.run(body())


# -- streams -------------------------------------------------------------------------------------------------

EVENTS = [{"Type": "container", "Action": "start", "Actor": {"ID": f"ü{number}"}} for number in range(3)]
LINES = "\n".join(json.dumps(event, ensure_ascii=False) for event in EVENTS).encode()


async def all_events(engine: Engine) -> list[dict[str, Any]]:
    async with engine.events() as stream:
        return [event async for event in stream]


@pytest.mark.parametrize("size", [len(LINES), 1, 7])
def test_events_come_whole_however_they_are_cut(tmp_path: Path, size: int) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s") as (server, engine):
            pieces = [LINES[at : at + size] for at in range(0, len(LINES), size)]
            server.answers["GET /events"] = streams(*pieces)
            assert await all_events(engine) == EVENTS
            assert json.loads(server.asked[-1].query["filters"]) == {"type": ["container", "network"]}

    asyncio.run(body())


@scenario
async def test_an_event_that_is_no_json_ends_the_stream_with_a_sentence(server: Server, engine: Engine) -> None:
    server.answers["GET /events"] = streams(LINES + b"\n{]\n")
    with pytest.raises(EngineUnreachable, match="is not a Docker engine"):
        await all_events(engine)


@scenario
async def test_a_line_without_end_is_not_kept(server: Server, engine: Engine) -> None:
    server.answers["GET /events"] = streams(*[b"x" * (1 << 20)] * (MAX_LINE // (1 << 20) + 1))
    with pytest.raises(EngineUnreachable, match="a line of more than"):
        await all_events(engine)


@scenario
async def test_who_leaves_a_stream_closes_it(server: Server, engine: Engine) -> None:
    left = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(LINES + b"\n")
                await asyncio.sleep(0.01)
        left.set()
        return response

    server.answers["GET /events"] = endless
    async with engine.events() as stream:
        async for event in stream:
            assert event == EVENTS[0]
            break
    await left.wait()


def frame(text: bytes, kind: int = 1) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


@scenario
async def test_logs_are_unframed_and_characters_are_not_torn(server: Server, engine: Engine) -> None:
    umlaut = "ü".encode()
    server.answers["GET /containers/web/logs"] = streams(frame(b"one\n")[:5], frame(b"one\n")[5:], frame(umlaut[:1], 2))
    assert "".join([text async for text in engine.logs("web")]) == "one\n"
    server.answers["GET /containers/web/logs"] = streams(frame(umlaut[:1]) + frame(umlaut[1:] + b"\n"))
    assert "".join([text async for text in engine.logs("web")]) == "ü\n"


@scenario
async def test_a_command_in_a_container_tells_its_exit_code(server: Server, engine: Engine) -> None:
    states = iter([{"Running": True, "ExitCode": None}, {"Running": False, "ExitCode": 3}])
    bodies = []

    async def create(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return await gives({"Id": "e1"}, 201)(request)

    async def inspect(request: web.Request) -> web.StreamResponse:
        return await gives(next(states))(request)

    server.answers["POST /containers/web/exec"] = create
    server.answers["POST /exec/e1/start"] = gives(None)
    server.answers["GET /exec/e1/json"] = inspect
    assert await engine.run("web", ["python3", "-V"]) == 3
    assert bodies == [{"Cmd": ["python3", "-V"]}]


@scenario
async def test_a_command_that_does_not_end_is_given_up(server: Server, engine: Engine) -> None:
    server.answers["POST /containers/web/exec"] = gives({"Id": "e1"}, 201)
    server.answers["POST /exec/e1/start"] = gives(None)
    server.answers["GET /exec/e1/json"] = gives({"Running": True, "ExitCode": None})
    with pytest.raises(EngineUnreachable, match=r"sleep 9 did not end within 0 s"):
        await engine.run("web", ["sleep", "9"], deadline_s=0)


@scenario
async def test_a_log_frame_of_no_sane_size_is_refused(server: Server, engine: Engine) -> None:
    server.answers["GET /containers/web/logs"] = streams(b"\1\0\0\0" + (MAX_LOG_FRAME + 1).to_bytes(4, "big"))
    with pytest.raises(EngineUnreachable, match="a log frame of"):
        async for _ in engine.logs("web"):
            pass


@scenario
async def test_a_build_that_fails_says_why(server: Server, engine: Engine) -> None:
    steps = [{"stream": "Step 1/2 : FROM base\n"}, {"errorDetail": {"message": "no such image"}, "error": "no"}]
    server.answers["POST /build"] = streams(*(json.dumps(step).encode() + b"\r\n" for step in steps))
    told: list[dict[str, Any]] = []
    with pytest.raises(EngineRefused, match="could not build x:1: no such image"):
        await engine.build(b"", tag="x:1", args={"A": "1"}, progress=told.append)
    assert told == steps[:1]
    assert json.loads(server.asked[-1].query["buildargs"]) == {"A": "1"}
