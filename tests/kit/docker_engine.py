"""An engine's HTTP API as far as ``dconnect`` speaks it, over a unix socket, in a thread of its own.

Containers do not run, but a started agent gets a front door: a web server on the port that it
publishes, with the pages that the command line asks for. Refusals are in dockerd 20.10's words.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

from dconnect.core.config import AgentConfig
from dconnect.core.credentials import Verifier

STEP_DEADLINE_S = 10.0


class DockerEngine:
    """A context manager; attributes may be set before and read after what they are about."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "engine.sock"
        self.url = f"unix://{self.socket}"
        self.containers: dict[str, dict[str, Any]] = {}
        """By name, as ``inspect`` shows them."""
        self.images: dict[str, dict[str, Any]] = {}
        """By tag; a build adds its base image, as if pulled."""
        self.build_output: list[dict[str, Any]] = [{"stream": f"Step {number}/3 : RUN\n"} for number in (1, 2, 3)]
        """What a build says; with an error in it, it makes no image."""
        self.leftovers: list[str] = []
        """Untagged images of builds."""
        self.volumes: set[str] = set()
        self.missing_paths: set[str] = set()
        """Paths that the engine's machine lacks."""
        self.foreign_ports: set[int] = set()
        """Host ports that another container has."""
        self.ready = True
        """Whether a started agent says that it is ready."""
        self.names: list[dict[str, Any]] = []
        """What the agent tells of containers."""
        self.status: dict[str, Any] = dict(STATUS)
        self.connections: dict[str, Any] = {"total": 0, "connections": [], "silent_workers": 0}
        """What the agent tells of itself."""
        self.log: bytes = b""
        self.requests: list[str] = []
        """``GET containers/json`` and so on."""
        self.held = ""
        """Regular expression of the requests that wait at ``gate``."""
        self.reached = threading.Event()
        """Set when a request came to the gate."""
        self._gate = asyncio.Event()
        self._doors: dict[str, web.AppRunner] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine")

    # -- life --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._do(self._runner.setup())
        self._do(web.UnixSite(self._runner, str(self.socket)).start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        for name in list(self.containers):
            self._do(self._close_door(name))
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def hold(self, pattern: str) -> None:
        """Let requests that match wait until ``release``."""
        self.held = pattern

    def release(self) -> None:
        """Open the gate for good."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def _do(self, work: Awaitable[Any]) -> Any:
        async def waited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result(STEP_DEADLINE_S)

    # -- the API -----------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = re.sub(r"^v\d+\.\d+/", "", request.match_info["path"])
        line = f"{request.method} {path}"
        self.requests.append(line)
        body = await request.read()
        if self.held and re.fullmatch(self.held, line):
            self.reached.set()
            await self._gate.wait()
        routes: tuple[tuple[str, Callable[..., Awaitable[web.StreamResponse]]], ...] = (
            (r"GET version", self._version),
            (r"GET info", self._info),
            (r"GET containers/json", self._list),
            (r"POST containers/create", self._create),
            (r"GET containers/([^/]+)/json", self._inspect),
            (r"GET containers/([^/]+)/logs", self._logs),
            (r"POST containers/([^/]+)/start", self._start),
            (r"POST containers/([^/]+)/stop", self._stop),
            (r"DELETE containers/([^/]+)", self._remove),
            (r"GET volumes", self._volumes),
            (r"DELETE volumes/([^/]+)", self._remove_volume),
            (r"POST build", self._build),
            (r"GET images/json", self._images),
            (r"POST images/prune", self._prune),
            (r"GET images/(.+)/json", self._image),
            (r"DELETE images/(.+)", self._remove_image),
        )
        for pattern, handler in routes:
            if match := re.fullmatch(pattern, line):
                return await handler(request, body, *map(unquote, match.groups()))
        return refusal(404, f"page not found: {line}")

    async def _version(self, _request: web.Request, _body: bytes) -> web.Response:
        return web.json_response({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})

    async def _info(self, _request: web.Request, _body: bytes) -> web.Response:
        return web.json_response({"ID": "ENGINE", "OSType": "linux", "Name": "elsewhere", "KernelVersion": "6.1"})

    async def _list(self, request: web.Request, _body: bytes) -> web.Response:
        found = self.containers
        if "filters" in request.query:
            key, _, value = json.loads(request.query["filters"])["label"][0].partition("=")
            found = {name: each for name, each in found.items() if each["Config"]["Labels"].get(key) == value}
        return web.json_response(
            [
                {
                    "Id": each["Id"],
                    "Names": [f"/{name}"],
                    "ImageID": image_id(each["Config"]["Image"]),
                    "State": "running" if each["State"]["Running"] else "created",
                }
                for name, each in found.items()
            ]
        )

    async def _create(self, request: web.Request, body: bytes) -> web.Response:
        name, config = request.query["name"], json.loads(body)
        if name in self.containers:
            return refusal(409, f'Conflict. The container name "/{name}" is already in use.')
        mounts = config["HostConfig"]["Mounts"]
        for mount in mounts:
            if mount["Source"] in self.missing_paths:
                reason = f'invalid mount config for type "bind": bind source path does not exist: {mount["Source"]}'
                return refusal(400, reason)
            if mount["Type"] == "volume":
                self.volumes.add(mount["Source"])
        self.containers[name] = {
            "Image": config["Image"],
            "Id": hashlib.sha256(f"{name} {len(self.requests)}".encode()).hexdigest(),
            "Config": {"Image": config["Image"], "Labels": config["Labels"]},
            "State": {"Running": False, "ExitCode": 0},
            "RestartCount": 0,
            "Mounts": [{"Source": mount["Source"], "Destination": mount["Target"]} for mount in mounts],
            "HostConfig": config["HostConfig"],
        }
        return web.json_response({"Id": self.containers[name]["Id"]}, status=201)

    def _name(self, key: str) -> str | None:
        return next((name for name, each in self.containers.items() if key in (name, each["Id"])), None)

    async def _inspect(self, _request: web.Request, _body: bytes, key: str) -> web.Response:
        name = self._name(key)
        return refusal(404, f"No such container: {key}") if name is None else web.json_response(self.containers[name])

    async def _logs(self, request: web.Request, _body: bytes, _key: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"\1\0\0\0" + len(self.log).to_bytes(4, "big") + self.log)
        if request.query["follow"] == "1":
            self.reached.set()
            await self._gate.wait()
        return response

    async def _start(self, _request: web.Request, _body: bytes, key: str) -> web.Response:
        name = self._name(key)
        assert name is not None
        container = self.containers[name]
        for device in container["HostConfig"].get("Devices", ()):
            if device["PathOnHost"] in self.missing_paths:  # in the words of 20.10
                what = f'adding custom device "{device["PathOnHost"]}": no such file or directory'
                return refusal(500, f"error gathering device information while {what}")
        for sysctl in container["HostConfig"].get("Sysctls", ()):
            path = f"/proc/sys/{sysctl.replace('.', '/')}"
            if path in self.missing_paths:  # runc's words
                return refusal(500, f"OCI runtime create failed: write sysctl key {sysctl}: open {path}: no such file")
        for inside, (binding,) in container["HostConfig"].get("PortBindings", {}).items():
            where = f"{binding['HostIp']}:{binding['HostPort']}"
            prefix = f"driver failed programming external connectivity on endpoint {name} ({key}): "
            if int(binding["HostPort"]) in self.foreign_ports:
                return refusal(500, f"{prefix}Bind for {where} failed: port is already allocated")
            if inside == "1080/tcp":
                try:
                    await self._open_door(name, binding["HostIp"], int(binding["HostPort"]))
                except OSError:
                    words = f"Error starting userland proxy: listen tcp4 {where}: bind: address already in use"
                    return refusal(500, prefix + words)
        container["State"]["Running"] = True
        return web.Response(status=204)

    async def _stop(self, _request: web.Request, _body: bytes, key: str) -> web.Response:
        name = self._name(key)
        if name is None:
            return refusal(404, f"No such container: {key}")
        await self._close_door(name)
        self.containers[name]["State"]["Running"] = False
        return web.Response(status=204)

    async def _remove(self, _request: web.Request, _body: bytes, key: str) -> web.Response:
        name = self._name(key)
        if name is None:
            return refusal(404, f"No such container: {key}")
        await self._close_door(name)
        del self.containers[name]
        return web.Response(status=204)

    async def _volumes(self, _request: web.Request, _body: bytes) -> web.Response:
        return web.json_response({"Volumes": [{"Name": name} for name in sorted(self.volumes)]})

    async def _remove_volume(self, _request: web.Request, _body: bytes, name: str) -> web.Response:
        if any(each["Mounts"] for each in self.containers.values()):
            return refusal(409, f"remove {name}: volume is in use")
        self.volumes.discard(name)
        return web.Response(status=204)

    async def _build(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.leftovers.append("sha256:build")
        base = json.loads(request.query["buildargs"])["BASE"]
        self.images.setdefault(base, {"Id": image_id(base), "RepoTags": [base]})
        for item in self.build_output:
            await response.write(json.dumps(item).encode() + b"\r\n")
            if "error" in item:
                return response
            if self.held == "build":
                self.reached.set()
                await self._gate.wait()
        self.images[request.query["t"]] = {
            "Id": image_id(request.query["t"]),
            "RepoTags": [request.query["t"]],
        }
        return response

    async def _images(self, request: web.Request, _body: bytes) -> web.Response:
        if "dangling" in json.loads(request.query["filters"]):
            return web.json_response([{"Id": name, "RepoTags": None} for name in self.leftovers])
        by_id: dict[str, dict[str, Any]] = {}
        for each in self.images.values():
            by_id.setdefault(each["Id"], {"Id": each["Id"], "RepoTags": []})["RepoTags"] += each["RepoTags"]
        return web.json_response(list(by_id.values()))

    async def _image(self, _request: web.Request, _body: bytes, tag: str) -> web.Response:
        return web.json_response(self.images[tag]) if tag in self.images else refusal(404, f"No such image: {tag}")

    async def _remove_image(self, _request: web.Request, _body: bytes, tag: str) -> web.Response:
        return web.json_response([]) if self.images.pop(tag, None) else refusal(404, f"No such image: {tag}")

    async def _prune(self, _request: web.Request, _body: bytes) -> web.Response:
        self.leftovers.clear()
        return web.json_response({"ImagesDeleted": None, "SpaceReclaimed": 0})

    # -- the agent's front door ----------------------------------------------------------------

    async def _open_door(self, name: str, address: str, port: int) -> None:

        async def answer(request: web.Request) -> web.Response:
            return await self._door(name, request)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._doors[name] = runner
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError:
            await self._close_door(name)
            raise

    async def _close_door(self, name: str) -> None:
        if (runner := self._doors.pop(name, None)) is not None:
            await runner.cleanup()

    async def _door(self, name: str, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if path == "healthz":
            self.reached.set()
            status = 200 if self.ready else 503
            instance = self.containers[name]["Id"][:12]
            return web.json_response(
                {"status": "ok" if self.ready else "starting", "instance": instance}, status=status
            )
        config = AgentConfig.from_json(self.containers[name]["Config"]["Labels"]["dev.dconnect.config"])
        if config.auth and not _signed(request, Verifier(config.auth)):
            return web.Response(status=401, text="The agent wants a user name and a password.")
        if path == "api/v1/status":
            return web.json_response(self.status)
        if path == "api/v1/connections":
            return web.json_response(self.connections)
        wanted = request.query.get("name")
        if wanted is None:
            return web.json_response({"stale": False, "containers": self.names})
        for container in self.names:
            if wanted in container["names"]:
                addresses = [each["ipv4"] for each in container["endpoints"]]
                return web.json_response({"name": wanted, "addresses": addresses, "containers": [container["name"]]})
        return web.json_response({"error": f"No container is called {wanted}."}, status=404)


def _signed(request: web.Request, verifier: Verifier) -> bool:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    user, _, password = base64.b64decode(text).partition(b":")
    return scheme == "Basic" and verifier.accepts(user, password)


def image_id(tag: str) -> str:
    """What a build gives an image; a test may give one image several tags."""
    return "sha256:" + hashlib.sha256(tag.encode()).hexdigest()


def refusal(status: int, message: str) -> web.Response:
    """An error in the engine's form."""
    return web.json_response({"message": message}, status=status)


STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "engine": {"name": "x", "version": "20.10.24", "api_version": "1.41", "connected": True, "error": None},
    "strategy": {"name": "engine-netns", "detail": "Sockets reach."},
    "inventory": {"containers": 2, "networks": 3, "age_s": 1.5, "stale": False},
    "suffixes": ["docker", "docker.test"],
    "egress": "allow",
    "dialer": {"state": "running"},
    "workers": [{"pid": 7, "open": 1, "accepted": 20, "failed": 3}],
}
