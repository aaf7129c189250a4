"""Which engine: the docker CLI's own rules, then the sockets of engines that we know.

    --context   >   --host   >   DOCKER_HOST   >   DOCKER_CONTEXT   >   currentContext   >   default

(docker/cli ``cli/command/cli.go``, resolveContextName.) The context ``default`` is never on
disk: it is DOCKER_HOST or the well-known socket. Only where that socket does not exist do we
look further, at the places where Docker Desktop, Colima, OrbStack, Rancher Desktop, rootless
Docker and Podman put theirs. ``choose`` is pure over a ``Machine``; whether anybody answers
is found out by the first request.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from dconnect.agent.docker.engine import Engine
from dconnect.core.errors import EngineUnreachable, UsageError

UNIX_SOCKET = "unix:///var/run/docker.sock"
PIPE = "npipe:////./pipe/docker_engine"


@dataclass(frozen=True, slots=True)
class Tls:
    """Where a ``tcp://`` endpoint's trust and client certificate are; None where there is no such file."""

    ca: str | None
    cert: str | None
    key: str | None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen engine."""

    name: str
    """How it was chosen, for people: a context's name, ``DOCKER_HOST``, ``--host``, ``Colima``."""
    url: str
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.url})"

    def open(self) -> Engine:
        """A client for it; needs a running event loop.

        Raises: UsageError for an unusable endpoint or unreadable certificates.
        """
        if self.tls is None:
            return Engine.open(self.url, context=self.name)
        return Engine.open(self.url.replace("tcp://", "https://", 1), context=self.name, tls=_ssl_context(self.tls))


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice depends on."""

    environ: Mapping[str, str]
    home: PurePath
    windows: bool
    read: Callable[[str], bytes | None]
    """A file's content; None if it cannot be read."""
    exists: Callable[[str], bool]
    """Whether a path (a socket, a pipe, a certificate) is there."""

    @classmethod
    def here(cls) -> Machine:
        """This machine."""

        def read(path: str) -> bytes | None:
            try:
                return Path(path).read_bytes()
            except OSError:
                return None

        environ, home = invoker(os.environ, Path.home())
        return cls(environ, home, sys.platform == "win32", read, os.path.exists)

    def get(self, variable: str) -> str:
        """An environment variable; unset and empty are the same, as for the docker CLI."""
        return self.environ.get(variable, "")

    @property
    def docker_config(self) -> PurePath:
        """The docker CLI's directory."""
        chosen = self.get("DOCKER_CONFIG")
        return type(self.home)(chosen) if chosen else self.home / ".docker"


def invoker(environ: Mapping[str, str], home: Path) -> tuple[Mapping[str, str], Path]:
    """Environment and home of whoever typed the command: under sudo(8) not root's, whose contexts nobody means."""
    uid = environ.get("SUDO_UID", "")
    if sys.platform == "win32" or os.geteuid() != 0 or not uid.isdecimal() or uid == "0":
        return environ, home
    import pwd  # noqa: PLC0415 - Windows has none

    try:
        theirs = Path(pwd.getpwuid(int(uid)).pw_dir)
    except (KeyError, OverflowError):
        return environ, home
    return {"XDG_RUNTIME_DIR": f"/run/user/{uid}", **environ}, theirs


def choose(machine: Machine, *, context: str | None = None, host: str | None = None) -> Choice:
    """Choose the engine.

    Raises:
        UsageError: the named context does not exist or cannot be read, both options are given, or
            the endpoint is a named pipe on a machine that has none.
        EngineUnreachable: nothing is configured and no known engine has a socket here.
    """
    choice = _choose(machine, context, host)
    if choice.url.startswith("npipe:") and not machine.windows:
        raise UsageError(f"The engine {choice} is behind a named pipe, and only Windows has those.")
    return choice


def _choose(machine: Machine, context: str | None, host: str | None) -> Choice:
    if context and host:
        raise UsageError("--context and --host both choose the engine; give one of them.")
    if not context:
        if host:
            return _by_host(machine, "--host", host)
        if machine.get("DOCKER_HOST"):
            return _by_host(machine, "DOCKER_HOST", machine.get("DOCKER_HOST"))
        context = machine.get("DOCKER_CONTEXT") or _current_context(machine)
    if context and context != "default":
        return _by_context(machine, context)
    if machine.get("DOCKER_HOST"):
        return _by_host(machine, "default", machine.get("DOCKER_HOST"))
    return _by_socket(machine)


def _by_host(machine: Machine, name: str, host: str) -> Choice:
    url = host if "://" in host else f"tcp://{host}"  # docker/cli opts/hosts.go parses a bare host so
    if not url.startswith("tcp://") or not (machine.get("DOCKER_TLS_VERIFY") or machine.get("DOCKER_TLS")):
        return Choice(name, url)
    folder = type(machine.home)(machine.get("DOCKER_CERT_PATH") or machine.docker_config)
    return Choice(name, url, _tls(machine, folder, verify=bool(machine.get("DOCKER_TLS_VERIFY"))))


def _by_context(machine: Machine, name: str) -> Choice:
    digest = hashlib.sha256(name.encode()).hexdigest()
    store = machine.docker_config / "contexts"
    text = machine.read(str(store / "meta" / digest / "meta.json"))
    if text is None:
        raise UsageError(f"There is no Docker context named {name!r}; `docker context ls` lists them.")
    try:
        endpoint: dict[str, Any] = json.loads(text)["Endpoints"]["docker"]
        url = str(endpoint["Host"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"The Docker context {name!r} names no engine; recreate it with docker context.") from error
    tls = _tls(machine, store / "tls" / digest / "docker", verify=not endpoint.get("SkipTLSVerify"))
    return Choice(name, url, tls if tls.ca or tls.cert or not tls.verify else None)


def _tls(machine: Machine, folder: PurePath, *, verify: bool) -> Tls:
    paths = [str(folder / f"{name}.pem") for name in ("ca", "cert", "key")]
    ca, cert, key = (path if machine.exists(path) else None for path in paths)
    return Tls(ca, cert, key, verify)


def _current_context(machine: Machine) -> str:
    text = machine.read(str(machine.docker_config / "config.json"))
    try:
        return str(json.loads(text).get("currentContext") or "") if text else ""
    except (ValueError, AttributeError):
        return ""  # a broken file is the docker CLI's to complain about


def _by_socket(machine: Machine) -> Choice:
    looked = list(_known(machine))
    for name, url in looked:
        if machine.exists(_path(url)):
            return Choice(name, url)
    raise EngineUnreachable(
        f"No Docker engine was found here (looked for {looked[0][1]} and {len(looked) - 1} other places); "
        "start one, or name it with --context or --host."
    )


def _known(machine: Machine) -> Iterator[tuple[str, str]]:
    """(name, url) of every place where an engine of this user may listen, most usual first."""
    if machine.windows:
        yield "default", PIPE
        yield "Docker Desktop", "npipe:////./pipe/dockerDesktopLinuxEngine"
        yield "Podman", "npipe:////./pipe/podman-machine-default"
        return
    home, runtime = machine.home, machine.get("XDG_RUNTIME_DIR")
    config = machine.get("XDG_CONFIG_HOME") or str(home / ".config")
    yield "default", UNIX_SOCKET
    yield "Docker Desktop", f"unix://{home}/.docker/run/docker.sock"
    yield "Docker Desktop", f"unix://{home}/.docker/desktop/docker.sock"
    yield "Colima", f"unix://{machine.get('COLIMA_HOME') or home / '.colima'}/default/docker.sock"
    yield "Colima", f"unix://{config}/colima/default/docker.sock"
    yield "OrbStack", f"unix://{home}/.orbstack/run/docker.sock"
    yield "Rancher Desktop", f"unix://{home}/.rd/docker.sock"
    if runtime:
        yield "rootless Docker", f"unix://{runtime}/docker.sock"
        yield "rootless Podman", f"unix://{runtime}/podman/podman.sock"
    yield "Podman", "unix:///run/podman/podman.sock"
    yield "Podman", f"unix://{home}/.local/share/containers/podman/machine/podman.sock"


def _path(url: str) -> str:
    """The path behind a unix or npipe URL."""
    if url.startswith("npipe://"):
        return url.removeprefix("npipe://").replace("/", "\\")
    return url.removeprefix("unix://")


def _ssl_context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca)
        if tls.cert and tls.key:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"The engine's certificates at {tls.ca or tls.cert} cannot be used: {error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
