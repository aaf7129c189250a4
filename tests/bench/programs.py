"""The programs that are compared: how each is started, and how the load generator goes through it.

    host namespace ──► 10.99.0.1:PORT, published ──► the program's container ──► target's container

The target is on a network of its own, ``bench``. Peers run *on* that network, as their users
must run them to reach anything there; dconnect stays on the default bridge and reaches it in
its own way. Each has its own container and its own published port.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bed import cache
from bed.dconnect import PROXY_PORT, Dconnect
from bed.namespace import BedError, Namespace
from bed.session import Bed

HERE = Path(__file__).parent
NETWORK = "bench"
TARGET_PORT = 7000
PEER_PORT = 1080
DANTE_PORT, MICROSOCKS_PORT, QUIET_PORT = 1081, 1082, 1083
"""Where they are published."""
COMPILER = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra")
# A connection-rate test must measure programs, not the supply of ports.
SYSCTLS = {"net.ipv4.tcp_tw_reuse": "1", "net.ipv4.ip_local_port_range": "1024 65535"}
_PEERS = ("dante-server", "microsocks")
_VERSIONS = "./versions"
# Debian's packages only unpacked: no users, and versions that dpkg has not noted.
_PEERS_HOOK = (
    '--extract-hook=printf "root:x:0:0::/:/\\nnobody:x:65534:65534::/:/\\n" > "$1"/etc/passwd;'
    f' apt-cache --no-all-versions show {" ".join(_PEERS)} | grep ^Version > "$1"/{_VERSIONS}'
)


@dataclass(frozen=True, slots=True)
class Way:
    """How the load generator reaches the target."""

    namespace: Namespace
    """Where it runs."""
    via: str
    """Its first argument: socks5, http or direct."""
    address: str
    port: int


class Site:
    """The target and the load generator; programs are started on demand."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.load = bed.root / "load"
        server = bed.root / "server"
        _compile("load.c", self.load)
        _compile("server.c", server, "-static")
        for namespace in (bed.host, bed.engine_netns):
            for name, value in SYSCTLS.items():
                path = f"/proc/sys/{name.replace('.', '/')}"
                namespace.run(["tee", path], stdin=value, check=True)
        bed.docker("network", "create", NETWORK)
        bed.docker("import", "-", "bench/target", stdin=cache.tar_of((server, "server")))
        options = ["run", "--detach", f"--network={NETWORK}", "--name=bench-target"]
        target = bed.docker(*options, "bench/target", "/server", str(TARGET_PORT))
        bed.wait_ready(target, TARGET_PORT)
        self.target = bed.address_of(target)
        self.versions: dict[str, str] = {}
        self._has_peers = False

    def dconnect(self) -> Way:
        self._up()
        return Way(self.bed.host, "socks5", self.bed.address, PROXY_PORT)

    def dconnect_http(self) -> Way:
        self._up()
        return Way(self.bed.host, "http", self.bed.address, PROXY_PORT)

    def _up(self) -> None:
        Dconnect(self.bed).up()  # once more is no harm
        self.versions["dconnect"] = _commit()

    def dante(self) -> Way:
        mount = f"--volume={HERE / 'danted.conf'}:/etc/danted.conf:ro"
        return self._peer("dante", DANTE_PORT, [mount], ["danted"])

    def microsocks(self) -> Way:
        """As it is out of the box: like dconnect it logs a line for every connection."""
        return self._peer("microsocks", MICROSOCKS_PORT, [], ["microsocks", "-p", str(PEER_PORT)])

    def microsocks_quiet(self) -> Way:
        """With its log, which it cannot be told to leave out, thrown away."""
        command = f"exec microsocks -p {PEER_PORT} 2>/dev/null"
        return self._peer("microsocks-quiet", QUIET_PORT, [], ["dash", "-c", command])

    def direct(self) -> Way:
        """No proxy, from the engine's network: what the machine can do."""
        return Way(self.bed.engine_netns, "direct", "0.0.0.0", 0)

    def _peer(self, name: str, port: int, options: list[str], command: list[str]) -> Way:
        if not self._has_peers:
            tar = cache.debian_tar("bench-peers", "extract", (*_PEERS, "dash"), _PEERS_HOOK)
            self.bed.docker("import", tar, "bench/peers")
            with tarfile.open(tar) as archive:
                file = archive.extractfile(_VERSIONS)
                assert file is not None
                lines = file.read().decode().splitlines()
            self.versions |= zip(_PEERS, (line.partition(": ")[2] for line in lines), strict=True)
            self._has_peers = True
        sysctls = [f"--sysctl={key}={value}" for key, value in SYSCTLS.items()]
        publish = f"--publish={self.bed.address}:{port}:{PEER_PORT}"
        words = ["run", "--detach", f"--network={NETWORK}", f"--name=bench-{name}", publish, *sysctls, *options]
        self.bed.wait_ready(self.bed.docker(*words, "bench/peers", *command), PEER_PORT)
        return Way(self.bed.host, "socks5", self.bed.address, port)

    def measure(self, way: Way, test: str, clients: int, seconds: float) -> tuple[float, int]:
        """One figure in the load generator's units, and how many connections failed.

        Raises: BedError in the load generator's words.
        """
        words = [way.via, way.address, way.port, self.target, TARGET_PORT, test, clients, seconds]
        result = way.namespace.run([self.load, *map(str, words)], check=True)
        value, failures = result.stdout.split()
        return float(value), int(failures)


PROGRAMS: dict[str, Callable[[Site], Way]] = {
    "dconnect": Site.dconnect,
    "dante": Site.dante,
    "microsocks": Site.microsocks,
    "microsocks-quiet": Site.microsocks_quiet,
    "dconnect-http": Site.dconnect_http,
    "direct": Site.direct,
}
"""By the name that the command line and the results have."""


def _compile(source: str, program: Path, *options: str) -> None:
    words = [*COMPILER, *options, "-o", str(program), str(HERE / source)]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if result.returncode:
        raise BedError(f"{source} was not compiled: {result.stderr}")


def _commit() -> str:
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(git, capture_output=True, text=True, check=False, timeout=10)
    return result.stdout.strip() or "unknown"


def engine_version(bed: Bed) -> str:
    server = json.loads(bed.docker("version", "--format={{json .Server}}"))
    return str(server["Version"])
