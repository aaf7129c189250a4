"""The programs that are compared: how each is started, and how the load generator goes through it.

    host namespace ──► 10.99.0.1:PORT, published ──► the program's container ──► target's container

The target is on a network of its own, ``bench``. Peers run *on* that network, as their users
must run them to reach anything there; dconnect stays on the default bridge and reaches it in
its own way. Each has its own container and its own published port.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from bed import cache
from bed.dconnect import PROXY_PORT, Dconnect
from bed.session import Bed
from bench.facts import commit
from bench.load import Load, Way, compile_c
from bench.peers import peers_tar, versions_in
from dconnect.agent.labels import AGENT_NAME, DIALER_NAME

HERE = Path(__file__).parent
NETWORK = "bench"
TARGET = "bench-target"
TARGET_PORT = 7000
PEER_PORT = 1080
DANTE_PORT, MICROSOCKS_PORT, QUIET_PORT, TINYPROXY_PORT = 1081, 1082, 1083, 1084
"""Where they are published."""
# A connection-rate test must measure programs, not the supply of ports.
SYSCTLS = {"net.ipv4.tcp_tw_reuse": "1", "net.ipv4.ip_local_port_range": "1024 65535"}
_PEERS = ("dante-server", "microsocks", "tinyproxy-bin")


class Site:
    """The target and the load generator; programs are started on demand."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        server = bed.root / "server"
        compile_c("server.c", server, "-static")
        for namespace in (bed.host, bed.engine_netns):
            for name, value in SYSCTLS.items():
                path = f"/proc/sys/{name.replace('.', '/')}"
                namespace.run(["tee", path], stdin=value, check=True)
        bed.docker("network", "create", NETWORK)
        bed.docker("import", "-", "bench/target", stdin=cache.tar_of((server, "server")))
        options = ["run", "--detach", f"--network={NETWORK}", f"--name={TARGET}"]
        bed.wait_ready(bed.docker(*options, "bench/target", "/server", str(TARGET_PORT)), TARGET_PORT)
        self.target = bed.address_of(TARGET)
        self.load = Load(bed.root / "load", self.target, TARGET_PORT)
        self.versions: dict[str, str] = {}
        self._has_peers = False

    def close(self) -> None:
        """Remove the target; of use where the bed goes on."""
        self.bed.docker("rm", "--force", TARGET)
        self.bed.docker("network", "rm", NETWORK)

    def dconnect(self) -> Way:
        return self._dconnect("socks5")

    def dconnect_http(self) -> Way:
        return self._dconnect("http")

    def _dconnect(self, via: str) -> Way:
        Dconnect(self.bed).up()  # once more is no harm
        self.versions["dconnect"] = commit()
        return Way(self.bed.host, via, self.bed.address, PROXY_PORT, (AGENT_NAME, DIALER_NAME))

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

    def tinyproxy(self) -> Way:
        mount = f"--volume={HERE / 'tinyproxy.conf'}:/etc/tinyproxy.conf:ro"
        command = ["tinyproxy", "-d", "-c", "/etc/tinyproxy.conf"]
        return self._peer("tinyproxy", TINYPROXY_PORT, [mount], command, via="http")

    def direct(self) -> Way:
        """No proxy, from the engine's network: what the machine can do."""
        return Way(self.bed.engine_netns, "direct", "0.0.0.0", 0)

    def _peer(self, name: str, port: int, options: list[str], command: list[str], via: str = "socks5") -> Way:
        if not self._has_peers:
            tar = peers_tar("bench-peers", _PEERS, "dash")
            self.bed.docker("import", tar, "bench/peers")
            self.versions |= versions_in(tar, _PEERS)
            self._has_peers = True
        sysctls = [f"--sysctl={key}={value}" for key, value in SYSCTLS.items()]
        publish = f"--publish={self.bed.address}:{port}:{PEER_PORT}"
        container = f"bench-{name}"
        words = ["run", "--detach", f"--network={NETWORK}", f"--name={container}", publish, *sysctls, *options]
        self.bed.wait_ready(self.bed.docker(*words, "bench/peers", *command), PEER_PORT)
        return Way(self.bed.host, via, self.bed.address, port, (container,))

    def restart(self, way: Way) -> None:
        """Start a program afresh: its memory is then what it needs, not what it once needed."""
        self.bed.docker("restart", "--time=1", way.containers[0])
        if way.containers[0] == AGENT_NAME:
            Dconnect(self.bed).up()  # waits until it serves
        else:
            self.bed.wait_ready(way.containers[0], PEER_PORT)


PROGRAMS: dict[str, Callable[[Site], Way]] = {
    "dconnect": Site.dconnect,
    "dante": Site.dante,
    "microsocks": Site.microsocks,
    "microsocks-quiet": Site.microsocks_quiet,
    "tinyproxy": Site.tinyproxy,
    "dconnect-http": Site.dconnect_http,
    "direct": Site.direct,
}
"""By the name that the command line and the results have."""


def engine_version(bed: Bed) -> str:
    server = json.loads(bed.docker("version", "--format={{json .Server}}"))
    return str(server["Version"])
