"""The test bed: a user's whole situation on one Debian machine.

    mac namespace 10.99.0.2 ── veth ── 10.99.0.1 vm namespace: dockerd, its bridges, containers

From ``mac`` (the *host*) only ports published on 10.99.0.1 are reachable and there is no default
route, exactly as on Docker Desktop; the engine's socket is reached through the file system, as
there. Names carry a random part, so any number of beds may exist at once.
"""

from __future__ import annotations

import fcntl
import ipaddress
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bed import cache
from bed.engine import Engine, clean_environment
from bed.namespace import BedError, Namespace, check_output
from bed.remains import HOME, PREFIX, REMOVAL_DEADLINE, BedName, find, remove

ENGINE_ADDRESS = "10.99.0.1"
HOST_ADDRESS = "10.99.0.2"
READY_DEADLINE = 15.0
_PROGRAMS = ("dockerd", "containerd", "docker", "ip", "iptables", "nsenter", "unshare", "mmdebstrap", "busybox")
_LOCK = Path("/run/dcbed.lock")
_TESTS = Path(__file__).resolve().parents[1]


def why_not() -> str | None:
    """One sentence that says why no bed can be made here; None when one can."""
    if sys.platform != "linux":
        return f"The test bed needs Linux namespaces, and this is {sys.platform}."
    if os.geteuid() != 0:
        return "The test bed makes network namespaces and starts dockerd, so it needs root."
    if not cache.suite():
        return "The test bed builds its images from Debian packages, and this is not Debian."
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"The test bed lacks {', '.join(missing)}; run tests/bed/prerequisites.sh."
    return None


class Bed:
    """A running bed; a context manager that takes everything away."""

    address = ENGINE_ADDRESS
    """Where the engine's published ports are found."""

    def __init__(
        self, *, userland_proxy: bool = True, default_socket: bool = True, engine_flags: Sequence[str] = ()
    ) -> None:
        """Make the namespaces and start the engine.

        ``userland_proxy`` is dockerd's own option and default; ``default_socket`` says whether the
        engine's side also has /var/run/docker.sock; ``engine_flags`` are handed to dockerd.

        Raises: BedError.
        """
        if reason := why_not():
            raise BedError(reason)
        self.name, self._pipe, self._guardian = _guarded_folder()
        self._ended = False
        try:
            self.environment = clean_environment(
                {
                    "DOCKER_HOST": f"unix://{self.root / 'docker.sock'}",
                    "DOCKER_CONFIG": str(self.root / "client"),  # not the user's contexts and proxies
                    "XDG_STATE_HOME": str(self.root / "state"),
                    "XDG_CONFIG_HOME": str(self.root / "config"),
                }
            )
            vm, mac = self.name.namespace_files
            self.engine_netns = Namespace(vm, ENGINE_ADDRESS, self.environment)
            self.host = Namespace(mac, HOST_ADDRESS, self.environment)
            self._make_network()
            self.engine = Engine(
                self.name,
                self.engine_netns,
                userland_proxy=userland_proxy,
                default_socket=default_socket,
                flags=engine_flags,
            )
            self.engine.start()
        except BaseException:
            self.stop()
            raise

    @classmethod
    def start(cls, **options: Any) -> Self:
        """The same as calling the class, for ``with Bed.start() as bed``."""
        return cls(**options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def root(self) -> Path:
        """The bed's folder; goes with it."""
        return self.name.root

    @property
    def docker_host(self) -> str:
        return self.engine.docker_host

    @property
    def log_path(self) -> Path:
        """dockerd's log."""
        return self.engine.log_path

    def stop(self) -> None:
        """Have the guardian remove everything.

        Raises: BedError that lists what is left.
        """
        if self._ended:
            return
        self._ended = True
        os.close(self._pipe)
        code = self._guardian.wait(REMOVAL_DEADLINE + 10)
        if hasattr(self, "engine"):
            self.engine.reap()
        if code:
            raise BedError(f"The bed could not be removed wholly; left are {', '.join(find(self.name))}.")

    def _make_network(self) -> None:
        vm, mac = self.name.engine_netns, self.name.host_netns
        for line in (
            f"netns add {vm}",
            f"netns add {mac}",
            # Made inside the namespaces: the machine's own never has a device of ours, for no moment.
            f"link add mac0 netns {vm} type veth peer name vm0 netns {mac}",
            f"-n {vm} address add {ENGINE_ADDRESS}/30 dev mac0",
            f"-n {mac} address add {HOST_ADDRESS}/30 dev vm0",
            *(f"-n {vm} link set {device} up" for device in ("lo", "mac0")),
            *(f"-n {mac} link set {device} up" for device in ("lo", "vm0")),
        ):
            self._command(["ip", *line.split()])

    def _command(self, command: Sequence[str | Path]) -> str:
        # The pipe goes along: the guardian must not clean up while a set-up step is still running.
        words = [str(word) for word in command]
        result = subprocess.run(
            words, pass_fds=[self._pipe], capture_output=True, text=True, check=False, timeout=READY_DEADLINE
        )
        return check_output(words, result)

    # -- the engine -----------------------------------------------------------------------------

    def docker(self, *arguments: str | Path, stdin: bytes | None = None, timeout: float = 120) -> str:
        """Run the docker CLI against this engine; its standard output, stripped.

        Raises: BedError with the CLI's own words.
        """
        command = ["docker", *map(str, arguments)]
        result = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, check=False, timeout=timeout
        )
        texts = result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace")
        return check_output(command, subprocess.CompletedProcess(command, result.returncode, *texts)).strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """``docker inspect`` of one object."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return found[0]

    def restart_engine(self) -> None:
        """Stop dockerd in order and start it again."""
        self.stop_engine()
        self.start_engine()

    def stop_engine(self) -> None:
        self.engine.stop()

    def kill_engine(self) -> None:
        """SIGKILL to dockerd; ``start_engine`` brings it back."""
        self.engine.kill()

    def start_engine(self) -> None:
        self.engine.start()

    # -- images ---------------------------------------------------------------------------------

    @cached_property
    def base_image(self) -> str:
        """Tag of the image for ``--base-image``: Debian with Python and pip."""
        return self._import("base", cache.base_tar())

    @cached_property
    def busybox_image(self) -> str:
        """Tag of an image whose httpd serves the container's host name on port 80."""
        return self._import("busybox", cache.busybox_tar(), *cache.BUSYBOX_CHANGES)

    @cached_property
    def target_image(self) -> str:
        """Tag of an image that runs ``target_server.py``, whose text says what it serves."""
        files = cache.tar_of(*((Path(__file__).with_name(name), name) for name in ("target_server.py", "page.html")))
        return self.extend_base("target", files, 'CMD ["python3", "/target_server.py"]', "EXPOSE 80 7 9 19")

    def extend_base(self, name: str, tar: bytes, *changes: str) -> str:
        """Tag of a new image: the base image with an archive's files, and ``docker commit``'s changes."""
        tag = f"dconnect-bed/{name}:latest"
        made = self.docker("create", self.base_image, "true")
        self.docker("cp", "-", f"{made}:/", stdin=tar)
        self.docker("commit", *(f"--change={change}" for change in changes), made, tag)
        self.docker("rm", made)
        return tag

    @cached_property
    def wheels(self) -> Path:
        """Folder for ``--wheels``: the project's dependencies for the base image."""
        return cache.wheels()

    def _import(self, name: str, tar: Path, *changes: str) -> str:
        tag = f"dconnect-bed/{name}:latest"
        self.docker("import", *(f"--change={change}" for change in changes), tar, tag)
        return tag

    # -- containers -----------------------------------------------------------------------------

    def target(
        self,
        name: str,
        *,
        network: str | None = None,
        labels: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        image: str | None = None,
        command: Sequence[str] = (),
    ) -> str:
        """Start a container (``target_image`` unless told) and wait until its port 80 accepts; its id."""
        arguments = ["run", "--detach", "--name", name]
        arguments += ["--network", network] if network else []
        arguments += [f"--label={key}={value}" for key, value in (labels or {}).items()]
        container = self.docker(*arguments, *options, image or self.target_image, *command)
        self.wait_ready(container)
        return container

    def wait_ready(self, container: str, port: int = 80) -> None:
        """Wait until a container's port accepts from the engine's network on each of its addresses.

        An IPv6 address takes a second or two, until duplicates have been looked for (RFC 4862 §5.4).

        Raises: BedError.
        """
        deadline = time.monotonic() + READY_DEADLINE
        found = self.inspect(container)
        if not found["State"]["Running"]:  # it has no address either, so there is nothing to connect to
            raise BedError(f"{container} ended with {found['State']['ExitCode']}: {self.docker('logs', container)}")
        networks: dict[str, dict[str, str]] = found["NetworkSettings"]["Networks"]
        endpoints = [(end["IPAddress"], end["GlobalIPv6Address"]) for end in networks.values()]
        for address in filter(None, itertools.chain(*endpoints)):
            while True:
                try:
                    self.engine_netns.connect(address, port, timeout=0.5).close()
                except OSError as error:
                    if time.monotonic() > deadline:
                        logs = self.docker("logs", container)
                        message = f"{container} does not accept on {address} port {port} ({error}): {logs}"
                        raise BedError(message) from error
                    time.sleep(0.02)
                else:
                    break

    def address_of(self, container: str, network: str | None = None, *, version: int = 4) -> str:
        """The container's address on a network, or on any of its networks.

        Raises: BedError when it has none.
        """
        key = "IPAddress" if version == 4 else "GlobalIPv6Address"
        networks: dict[str, dict[str, str]] = self.inspect(container)["NetworkSettings"]["Networks"]
        for name, endpoint in networks.items():
            if network in (None, name) and endpoint[key]:
                return endpoint[key]
        raise BedError(f"{container} has no IPv{version} address on {network or 'any network'}.")

    def netns_of(self, container: str) -> Namespace:
        """A running container's own network.

        Raises: BedError when it does not run.
        """
        if not (pid := self.inspect(container)["State"]["Pid"]):
            raise BedError(f"{container} ended: {self.docker('logs', container)}")
        return Namespace(Path(f"/proc/{pid}/ns/net"), "", self.environment)

    # -- packets --------------------------------------------------------------------------------

    @contextmanager
    def blackhole(self, address: str, port: int | None = None) -> Iterator[None]:
        """Within the block, swallow what a container answers: all of it, or from one TCP port.

        Dropped where it comes in, not in OUTPUT: there the sender would be told, by EPERM.
        """
        six = ":" in address
        match = ["-p", "tcp", "--sport", str(port)] if port else ["!", "-p", "ipv6-icmp"] if six else []
        program = "ip6tables" if six else "iptables"
        rule = ["PREROUTING", "-s", address, *match, "-j", "DROP"]
        self.engine_netns.run([program, "--wait", "-t", "raw", "-A", *rule], check=True)
        try:
            yield
        finally:
            self.engine_netns.run([program, "--wait", "-t", "raw", "-D", *rule], check=True)

    @contextmanager
    def imitate_engine_28(self) -> Iterator[None]:
        """Within the block, drop routed packets to every endpoint that exists at its beginning.

        Engine 28 and later have exactly this rule, in ``raw PREROUTING``, for each endpoint of a bridge.
        """
        rules: dict[int, list[str]] = {4: [], 6: []}
        for network in json.loads(self.docker("network", "inspect", *self.docker("network", "ls", "-q").split())):
            if network["Driver"] != "bridge":
                continue
            name = "com.docker.network.bridge.name"
            bridge = (network["Options"] or {}).get(name, f"br-{network['Id'][:12]}")
            for endpoint in network["Containers"].values():
                for text in filter(None, (endpoint["IPv4Address"], endpoint["IPv6Address"])):
                    address = ipaddress.ip_interface(text).ip
                    rules[address.version].append(f"-A DCBED28 -d {address} ! -i {bridge} -j DROP")
        families = {"iptables": rules[4], "ip6tables": rules[6]}
        for program, lines in families.items():
            table = ["*raw", ":DCBED28 -", *lines, "-A PREROUTING -j DCBED28", "COMMIT", ""]
            self.engine_netns.run([f"{program}-restore", "--noflush"], stdin="\n".join(table), check=True)
        try:
            yield
        finally:
            for program in families:
                for words in ("-D PREROUTING -j DCBED28", "-F DCBED28", "-X DCBED28"):
                    self.engine_netns.run([program, "--wait", "-t", "raw", *words.split()], check=True)


def _guarded_folder() -> tuple[BedName, int, subprocess.Popen[bytes]]:
    """A new folder, the pipe that keeps its guardian waiting, and the guardian.

    First removes beds whose guardian is gone: nobody holds their lock.
    """
    with cache.lock(_LOCK):
        for folder in HOME.glob(f"{PREFIX}*/"):
            with (folder / "guarded").open("ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                remove(BedName(folder.name))
        name = BedName(Path(tempfile.mkdtemp(prefix=PREFIX, dir=HOME)).name)
        with (name.root / "guarded").open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            read, write = os.pipe()
            try:
                guardian = subprocess.Popen(
                    [sys.executable, "-P", "-m", "bed.guardian", name.name, str(read)],
                    env={**os.environ, "PYTHONPATH": str(_TESTS)},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[read, held.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                os.close(write)
                raise
            finally:
                os.close(read)
    return name, write, guardian
