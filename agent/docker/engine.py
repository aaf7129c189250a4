"""A typed facade over aiodocker: what we ask of an engine, and nothing more.

Theory. aiodocker brings the transports (unix, TCP with TLS, named pipe, ssh), connection
pooling and version negotiation. This facade adds three things. Every failure is a
``DconnectError`` whose text is a sentence. Every call has a deadline; only streams (events,
build, logs) may last, and they close their connection when the reader leaves, which
aiodocker's own stream helpers do not do (and a build is cancelled by closing it). Answers
are Docker's raw JSON: fields unknown to us pass through, ``model`` reads what we need.
"""

from __future__ import annotations

import asyncio
import codecs
import errno
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiodocker
import aiohttp

from dconnect.core.errors import DconnectError, EngineUnreachable, UsageError

DEADLINE_S = 30.0
"""Long enough for an engine that is busy pulling or starting other containers."""
_RUNNING_POLL_S = 0.1
MAX_LINE = 4 * 1024 * 1024
"""Bound of one JSON line of a stream: an event carries all labels of its container."""
MAX_LOG_FRAME = 1024 * 1024
"""Bound of one log frame; engines split lines at 16 KiB."""
EVENT_OVERLAP_S = 1
"""Events this old are repeated at subscription: an engine sends its headers a moment before it listens."""

_CONNECTION_FAILED = 900
"""aiodocker's own status for "no connection"."""

_HINTS = {
    errno.EACCES: "permission denied; may this user use Docker (group docker)?",
    errno.EPERM: "permission denied; may this user use Docker (group docker)?",
    errno.ENOENT: "there is no such socket; is the engine running?",
    errno.ECONNREFUSED: "nothing listens there; is the engine running?",
}


class EngineRefused(DconnectError):
    """The engine answered a request with an error.

    Attributes:
        status: HTTP status; 0 for a failure reported inside a stream that began well.
        reason: the engine's own words.
    """

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who the engine is, from ``/version`` and ``/info``; texts are empty where it does not say."""

    name: str
    """Context name or URL, as shown to people."""
    version: str
    api_version: str
    os: str
    arch: str
    engine_id: str
    """Stable over restarts; key of remembered ports."""
    hostname: str
    kernel: str
    """Kernel release: with ``hostname`` it tells whether the engine runs on our own kernel."""
    rootless: bool


class Engine:
    """One engine. Open with ``Engine.open``, use as an async context manager."""

    def __init__(self, docker: aiodocker.Docker, url: str, name: str) -> None:
        self._docker = docker
        self.url = url
        self.name = name

    @classmethod
    def open(
        cls, endpoint: str | None = None, *, context: str | None = None, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Prepare a client inside a running event loop; nothing is sent yet.

        Args:
            endpoint: ``unix://``, ``tcp://``, ``npipe://`` or ``ssh://`` URL; None takes aiodocker's default.
            context: the Docker context's name; with an endpoint given it is a display name only.
            tls: client certificate and trust for a ``tcp://`` endpoint.

        Raises:
            UsageError: the endpoint or context cannot be used as written.
            EngineUnreachable: no endpoint was given and none was found.
        """
        # Streams must live for ever, so the deadline belongs to the call and not to the session.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        try:
            docker = aiodocker.Docker(
                endpoint, context=None if endpoint else context, ssl_context=tls, timeout=timeout, api_version="auto"
            )
        except AssertionError as error:
            raise EngineUnreachable("No Docker engine was found; start one or set DOCKER_HOST.") from error
        except aiodocker.DockerError as error:
            raise UsageError(f"The engine {endpoint or context!r} cannot be used: {error.message}.") from error
        except (ValueError, OSError) as error:
            raise UsageError(f"The engine {endpoint or context!r} cannot be used: {error}") from error
        url = endpoint or docker._connection_info  # noqa: SLF001 - docker_host loses the socket's path
        return cls(docker, url, context or url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; open streams end."""
        await self._docker.close()

    # -- who are you -------------------------------------------------------------------------

    async def ping(self, deadline_s: float = 5.0) -> EngineInfo:
        """Ask the engine who it is and negotiate the API version anew (it may have been upgraded)."""
        self._docker.api_version = "auto"
        version = await self._call("GET", "version", deadline_s=deadline_s)
        info = await self._call("GET", "info", deadline_s=deadline_s)
        try:
            return EngineInfo(
                name=self.name,
                version=str(version.get("Version", "")),
                api_version=str(version["ApiVersion"]),
                os=str(info.get("OSType", "")),
                arch=str(info.get("Architecture", "")),
                engine_id=str(info.get("ID", "")),
                hostname=str(info.get("Name", "")),
                kernel=str(info.get("KernelVersion", "")),
                rootless=any("rootless" in str(option) for option in info.get("SecurityOptions") or ()),
            )
        except (KeyError, AttributeError, TypeError) as error:
            raise EngineUnreachable(f"What answers at {self.url} is not a Docker engine.") from error

    # -- containers and networks -------------------------------------------------------------

    async def containers(self, *, label: str | None = None) -> list[dict[str, Any]]:
        """All containers, running or not, optionally those with a label (``key`` or ``key=value``)."""
        params = {"all": "1"} | ({"filters": json.dumps({"label": [label]})} if label else {})
        answer: list[dict[str, Any]] = await self._call("GET", "containers/json", params=params)
        return answer

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        """One container in full, by id or name; None if there is none."""
        answer: dict[str, Any] | None = await self._found("GET", f"containers/{quote(container_id, safe='')}/json")
        return answer

    async def networks(self) -> list[dict[str, Any]]:
        """All networks: ``/networks``."""
        answer: list[dict[str, Any]] = await self._call("GET", "networks")
        return answer

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container and give its id. ``config`` is the body of ``/containers/create``."""
        answer = await self._call("POST", "containers/create", params={"name": name}, body=config)
        return str(answer["Id"])

    async def start(self, container_id: str) -> None:
        """Start a container; one that runs already is fine."""
        await self._call("POST", f"containers/{container_id}/start")

    async def stop(self, container_id: str, timeout_s: int) -> None:
        """Stop a container, killing it after ``timeout_s`` seconds; one that is gone is fine."""
        await self._found(
            "POST", f"containers/{container_id}/stop", params={"t": str(timeout_s)}, deadline_s=timeout_s + DEADLINE_S
        )

    async def run(self, container_id: str, command: Sequence[str], deadline_s: float = DEADLINE_S) -> int:
        """Run a command in a running container: ``docker exec``, its exit code.

        Raises: EngineUnreachable also when it goes on past the deadline.
        """
        end = time.monotonic() + deadline_s
        created = await self._call("POST", f"containers/{container_id}/exec", body={"Cmd": list(command)})
        await self._call("POST", f"exec/{created['Id']}/start", body={"Detach": True})
        while (state := await self._call("GET", f"exec/{created['Id']}/json"))["Running"]:
            if time.monotonic() > end:
                raise EngineUnreachable(f"{' '.join(command)} did not end within {deadline_s:.0f} s on {self.url}.")
            await asyncio.sleep(_RUNNING_POLL_S)
        return int(state["ExitCode"])

    async def remove(self, container_id: str, *, force: bool = True, volumes: bool = True) -> None:
        """Remove a container and its anonymous volumes; one that is gone is fine."""
        params = {"force": str(int(force)), "v": str(int(volumes))}
        try:
            await self._found("DELETE", f"containers/{container_id}", params=params)
        except EngineRefused as error:
            # Somebody else is removing it at this moment, which is as good.
            if error.status != 409 or "already in progress" not in error.reason:
                raise

    async def volumes(self, *, label: str) -> list[str]:
        """Names of the volumes with a label (``key`` or ``key=value``)."""
        answer = await self._call("GET", "volumes", params={"filters": json.dumps({"label": [label]})})
        return [str(volume["Name"]) for volume in answer.get("Volumes") or ()]

    async def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is gone is fine."""
        await self._found("DELETE", f"volumes/{quote(name, safe='')}")

    # -- images --------------------------------------------------------------------------------

    async def image(self, name: str) -> dict[str, Any] | None:
        """One image in full, by tag or id; None if there is none."""
        answer: dict[str, Any] | None = await self._found("GET", f"images/{name}/json")
        return answer

    async def images(self, label: str, *, dangling: bool | None = None) -> list[dict[str, Any]]:
        """Images with a label (``key`` or ``key=value``)."""
        filters: dict[str, list[str]] = {"label": [label]}
        if dangling is not None:
            filters["dangling"] = [str(dangling).lower()]
        answer: list[dict[str, Any]] = await self._call("GET", "images/json", params={"filters": json.dumps(filters)})
        return answer

    async def remove_image(self, name: str, *, force: bool = True) -> None:
        """Remove an image with its tags and untagged parents; one that is gone is fine."""
        await self._found("DELETE", f"images/{name}", params={"force": str(int(force))})

    async def prune_images(self, label: str) -> None:
        """Remove untagged images that carry a label."""
        filters = json.dumps({"dangling": ["true"], "label": [label]})
        await self._call("POST", "images/prune", params={"filters": filters})

    async def build(
        self, context: bytes, *, tag: str, args: Mapping[str, str], progress: Callable[[dict[str, Any]], None]
    ) -> None:
        """Build an image with the classic builder, which every engine since 20.10 has.

        Args:
            context: an uncompressed tar with a ``Dockerfile``.
            tag: ``repository:tag`` of the result.
            args: build arguments.
            progress: called with each JSON object of the engine's stream.

        Raises:
            EngineRefused: a step failed; ``reason`` is the engine's message.
        """
        params = {"t": tag, "rm": "1", "forcerm": "1", "version": "1", "buildargs": json.dumps(dict(args))}
        headers = {"Content-Type": "application/x-tar"}
        async with self._stream("POST", "build", params=params, data=context, headers=headers) as response:
            async for item in self._json_lines(response):
                if "error" in item or "errorDetail" in item:
                    reason = str((item.get("errorDetail") or {}).get("message") or item.get("error"))
                    raise EngineRefused(f"The engine could not build {tag}: {reason}", status=0, reason=reason)
                progress(item)

    # -- streams -------------------------------------------------------------------------------

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Subscribe to container and network events; what happens after entering is not missed.

        ``async with engine.events() as stream: async for event in stream: ...``. Events of the
        last second are repeated at the start. The iterator ends when the engine ends the stream.

        Raises:
            EngineUnreachable: the stream could not be opened, or broke.
        """
        params = {
            "filters": json.dumps({"type": ["container", "network"]}),
            "since": str(int(time.time()) - EVENT_OVERLAP_S),
        }
        async with self._stream("GET", "events", params=params) as response:
            yield self._json_lines(response)

    async def logs(self, container_id: str, *, follow: bool = False, tail: int | None = None) -> AsyncGenerator[str]:
        """Yield a container's output (stdout and stderr) in pieces, newlines included.

        The container must have no terminal: frames are u8 stream, 3 zero bytes, u32 length, payload (Docker API,
        "Attach to a container").
        """
        last = "all" if tail is None else str(tail)
        params = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), "tail": last}
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        async with self._stream("GET", f"containers/{container_id}/logs", params=params) as response:
            while True:
                try:
                    with self._sentences():
                        header = await response.content.readexactly(8)
                        size = int.from_bytes(header[4:], "big")
                        if size > MAX_LOG_FRAME:
                            raise EngineUnreachable(f"The engine at {self.url} sent a log frame of {size} bytes.")
                        payload = await response.content.readexactly(size)
                except asyncio.IncompleteReadError:
                    return
                yield decode(payload)

    # -- one place that talks ------------------------------------------------------------------

    async def _found(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, deadline_s: float = DEADLINE_S
    ) -> Any:
        """``_call``, with None for 404."""
        try:
            return await self._call(method, path, params=params, deadline_s=deadline_s)
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Any:
        """One request and its JSON answer, within the deadline."""
        data = None if body is None else json.dumps(body)
        query = self._docker._query_json  # noqa: SLF001 - the library's typed helpers cover half of what we ask
        try:
            with self._sentences():
                async with asyncio.timeout(deadline_s):
                    return await query(path, method, params=params, data=data)
        except TimeoutError as error:
            raise EngineUnreachable(f"The engine at {self.url} did not answer within {deadline_s:.0f} s.") from error

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str],
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose body has no deadline; leaving closes its connection, which ends the engine's work."""
        query = self._docker._do_query  # noqa: SLF001 - the library's own streams do not close when the reader leaves
        with self._sentences():  # around the request only: what the reader raises is the reader's
            response = await query(path, method, params=params, data=data, headers=headers)
        try:
            yield response
        finally:
            response.close()

    async def _json_lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        """Split a stream into JSON objects, one a line; the last line may lack its newline."""
        pending = b""
        while True:
            with self._sentences():
                chunk = await response.content.readany()
                *lines, pending = (pending + chunk).split(b"\n") if chunk else (pending, b"")
                if len(pending) > MAX_LINE:
                    raise EngineUnreachable(f"The engine at {self.url} sent a line of more than {MAX_LINE} bytes.")
                items: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
            for item in items:
                yield item
            if not chunk:
                return

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what aiodocker and aiohttp raise into our errors."""
        try:
            yield
        except aiodocker.DockerError as error:
            if error.status == _CONNECTION_FAILED:
                raise self._unreachable(error.__context__ or error) from error
            raise EngineRefused(
                f"The engine at {self.url} refused: {error.message.strip().rstrip('.')}.",
                status=error.status,
                reason=error.message.strip(),
            ) from error
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise EngineUnreachable(f"What answers at {self.url} is not a Docker engine.") from error

    def _unreachable(self, error: BaseException) -> EngineUnreachable:
        """Name the endpoint and the likely cause."""
        code = error.errno if isinstance(error, OSError) else None
        why = _HINTS.get(code or 0) or str(error) or type(error).__name__
        return EngineUnreachable(f"No Docker engine answers at {self.url}: {why}")
