"""The tunnels that are compared: how each is started, and where the target is behind it.

    host namespace: device ──► client ──► 10.99.0.1:PORT, published ──► the program's container ──► target's container

Each peer has a network of its own, which the target is on too: so the routes of all may be there at once, and nothing
is switched between them. Peers run *on* their network and translate addresses, as their users have it; dconnect stays
on the default bridge, and is told to leave the peers' networks out.
"""

from __future__ import annotations

import contextlib
import shutil
import string
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bed.dconnect import Dconnect
from bed.namespace import BedError, Namespace, check_output
from bed.processes import Clock
from bed.tun import Tun
from bed.waiting import wait_for
from bench.facts import commit
from bench.load import Way
from bench.peers import peers_tar, versions_in
from bench.programs import TARGET, TARGET_PORT, Site
from dconnect.agent.labels import AGENT_NAME, DIALER_NAME

HERE = Path(__file__).parent
NETWORKS = {"openvpn": "172.30.2.0/24", "wireguard-go": "172.30.3.0/24"}
"""The peers'; their configurations have them too."""
MTUS = {"dconnect": 65_535, "dconnect-packets": 65_535, "dconnect-16000": 16_000, "dconnect-1500": 1_500}
OPTIONS = {"dconnect-packets": ("--packets",)}
"""What else ``dconnect tun up`` is told."""
TUNNELS = ("dconnect", "openvpn", "wireguard-go", "direct", "dconnect-packets", "dconnect-16000", "dconnect-1500")
"""By the name that the command line and the results have."""
_PACKAGES = ("openvpn", "wireguard-go", "wireguard-tools")
_INSIDE = {"openvpn": "10.214.0.0/24", "wireguard-go": "10.215.0.0/24"}
"""The tunnels' own addresses: what is translated."""
_READY_SECONDS = 20.0
_END_SECONDS = 5.0
# Its control socket has a fixed place on the machine; in a mount namespace it is nobody else's, and goes with it.
_WIREGUARD_GO = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs bench /run && exec wireguard-go --foreground wg0"]


class Tunnels:
    """Running programs; a context manager that ends what is on the host."""

    def __init__(self, site: Site, programs: list[str]) -> None:
        """Start them.

        Raises: BedError.
        """
        self._site, self._bed = site, site.bed
        self.versions: dict[str, str] = {}
        self.ways: dict[str, Way] = {}
        self._clients: dict[str, subprocess.Popen[bytes]] = {}
        self._tun = Tun(site.bed)
        self._up = ""
        """Which of dconnect's tunnels is up."""
        self._folder = site.bed.root / "tunnels"
        self._folder.mkdir()
        starts = {"openvpn": self._openvpn, "wireguard-go": self._wireguard}
        if starts.keys() & set(programs):
            tar = peers_tar("bench-tunnels", _PACKAGES)
            self._bed.docker("import", tar, "bench/tunnels")
            self.versions |= versions_in(tar, _PACKAGES)
        try:
            for program in programs:
                self.ways[program] = self._way(program, starts)
        except BaseException:
            self.close()
            raise

    def _way(self, program: str, starts: dict[str, Callable[[], None]]) -> Way:
        if program == "direct":
            return Way(self._bed.engine_netns, "direct", "0.0.0.0", 0)
        if program in MTUS:
            Dconnect(self._bed).up("--tun")  # once more is no harm
            self.versions["dconnect"] = commit()
            return Way(self._bed.host, "direct", "0.0.0.0", 0, (AGENT_NAME, DIALER_NAME), self._site.target)
        network = f"bench-{program}"
        self._bed.docker("network", "create", f"--subnet={NETWORKS[program]}", network)
        self._bed.docker("network", "connect", network, TARGET)
        starts[program]()
        way = Way(self._bed.host, "direct", "0.0.0.0", 0, (f"bench-{program}",), self._bed.address_of(TARGET, network))
        self._wait(program, way)
        return way

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the clients; containers go with the bed."""
        if self._up:
            self._tun("tun", "down")
            self._up = ""
        for process in self._clients.values():
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._clients.clear()

    # -- a turn ---------------------------------------------------------------------------------

    def turn(self, program: str) -> Clock:
        """Have a program's tunnel up, which dconnect's is not with all options at once; its processor time.

        Raises: BedError.
        """
        way = self.ways[program]
        if program not in MTUS:
            client = self._clients.get(program)
            return Clock(self._bed, way.containers, [client.pid] if client else [])
        if self._up != program:
            if self._up:
                self._tun("tun", "down")
            options = (f"--mtu={MTUS[program]}", *OPTIONS.get(program, ()))
            self._tun.up(*options, *(f"--exclude={network}" for network in NETWORKS.values()))
            self._up = program
            self._wait(program, way)
        return Clock(self._bed, way.containers, self._tun.processes())

    def _wait(self, program: str, way: Way) -> None:
        """Wait until the target is reached.

        Raises: BedError when it is not.
        """

        def reached() -> bool:
            client = self._clients.get(program)
            if client is not None and client.poll() is not None:
                raise BedError(f"{program}'s client ended: {self._said(program)}")
            with contextlib.suppress(OSError):
                way.namespace.connect(way.target, TARGET_PORT, timeout=0.5).close()
                return True
            return False

        try:
            wait_for(f"the target through {program}", reached, _READY_SECONDS)
        except AssertionError as error:
            logs = self._bed.docker("logs", way.containers[0])
            raise BedError(f"{error}; the client says {self._said(program)}; the server says {logs}") from error

    def _said(self, program: str) -> str:
        log = self._folder / f"{program}.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"

    # -- the peers ------------------------------------------------------------------------------

    def _serve(self, program: str, port: int, command: list[str]) -> Namespace:
        """Start a peer's container, which forwards and translates; its network."""
        container = f"bench-{program}"
        words = ["run", "--detach", f"--name={container}", f"--network={container}", "--cap-add=NET_ADMIN"]
        words += ["--device=/dev/net/tun", "--sysctl=net.ipv4.ip_forward=1", f"--volume={self._folder}:/keys:ro"]
        words += [f"--volume={HERE}:/bench:ro", f"--publish={self._bed.address}:{port}:{port}/udp", "bench/tunnels"]
        self._bed.docker(*words, *command)
        inside = self._bed.netns_of(container)
        rule = ["-A", "POSTROUTING", "-s", _INSIDE[program], "-o", "eth0", "-j", "MASQUERADE"]
        inside.run(["iptables", "--wait", "-t", "nat", *rule], check=True)
        return inside

    def _client(self, program: str, command: list[str]) -> subprocess.Popen[bytes]:
        if shutil.which(command[0]) is None:
            raise BedError(f"{command[0]} is missing; run: sh tests/bed/prerequisites.sh {' '.join(_PACKAGES)}")
        with (self._folder / f"{program}.log").open("wb") as log:
            self._clients[program] = self._bed.host.popen(command, stdout=log, stderr=subprocess.STDOUT)
        return self._clients[program]

    def _openvpn(self) -> None:
        """TLS, each end knows the other's certificate by its fingerprint."""
        server, client = self._certificate("server"), self._certificate("client")
        keys = ["--cert", "/keys/server.crt", "--key", "/keys/server.key", "--peer-fingerprint", client]
        self._serve("openvpn", 1194, ["openvpn", "--config", "/bench/openvpn-server.conf", *keys])
        files = ["--cert", str(self._folder / "client.crt"), "--key", str(self._folder / "client.key")]
        words = ["openvpn", "--config", str(HERE / "openvpn-client.conf"), *files, "--peer-fingerprint", server]
        self._client("openvpn", words)

    def _certificate(self, name: str) -> str:
        """Make one that vouches for itself, in the folder; its fingerprint."""
        key, certificate = self._folder / f"{name}.key", self._folder / f"{name}.crt"
        made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"]
        _output(["openssl", "req", "-x509", *made, "-keyout", str(key), "-out", str(certificate)])
        printed = _output(["openssl", "x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256"])
        return printed.partition("=")[2].strip()

    def _wireguard(self) -> None:
        keys = {}
        for name in ("server", "client"):
            keys[f"{name}_private"] = private = _output(["wg", "genkey"]).strip()
            keys[f"{name}_public"] = _output(["wg", "pubkey"], stdin=private).strip()
        for name in ("server", "client"):
            text = string.Template((HERE / f"wireguard-{name}.conf").read_text()).substitute(keys)
            (self._folder / f"wireguard-{name}.conf").write_text(text)
        inside = self._serve("wireguard-go", 51820, ["wireguard-go", "--foreground", "wg0"])
        self._until_there(inside)
        self._bed.docker("exec", "bench-wireguard-go", "wg", "setconf", "wg0", "/keys/wireguard-server.conf")
        _address(inside, "10.215.0.1/24")
        pid = self._client("wireguard-go", _WIREGUARD_GO).pid
        host = self._bed.host
        self._until_there(host)
        enter = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--"]
        host.run([*enter, "wg", "setconf", "wg0", self._folder / "wireguard-client.conf"], check=True)
        _address(host, "10.215.0.2/24")
        host.run(["ip", "route", "add", NETWORKS["wireguard-go"], "dev", "wg0"], check=True)

    def _until_there(self, namespace: Namespace) -> None:
        wait_for("wg0", lambda: not namespace.run(["ip", "link", "show", "wg0"]).returncode, _READY_SECONDS)


def _address(namespace: Namespace, address: str) -> None:
    """Give wg0 its address, as wg-quick does."""
    namespace.run(["ip", "address", "add", address, "dev", "wg0"], check=True)
    namespace.run(["ip", "link", "set", "wg0", "up"], check=True)


def _output(command: list[str], stdin: str = "") -> str:
    """Of a program that must succeed.

    Raises: BedError.
    """
    try:
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        raise BedError(f"{command[0]} is missing; run: sh tests/bed/prerequisites.sh {' '.join(_PACKAGES)}") from None
    return check_output(command, result)
