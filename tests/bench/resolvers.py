"""The DNS servers that are compared, and the names that all of them serve.

    host namespace ──► 10.99.0.1:PORT, published ──► the program's container

The names are real containers': eight of them have 250 domains each, by label. dconnect reads them from the engine,
its peers from files that are written from what the engine says.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dnslib import DNSRecord

from bed.dconnect import DNS_PORT, Dconnect
from bed.session import Bed
from bed.waiting import wait_for
from bench.facts import commit
from bench.peers import peers_tar, versions_in
from dconnect.agent.labels import AGENT_NAME
from dconnect.dns.names import LABEL_DOMAINS

HERE = Path(__file__).parent
SUFFIX = "docker"
CONTAINERS, NAMES_PER_CONTAINER = 8, 250
_SERVICES = ("api", "cache", "db", "frontend", "mail", "message-queue", "search", "worker")
"""One for each container, so that names and answers differ in length."""
_PACKAGES = ("dnsmasq-base", "unbound")
_READY_SECONDS = 20.0
_PORT = 53
# TTLs as dconnect has them; dnsmasq's own pid file would want a folder that the image lacks.
_DNSMASQ = (
    f"dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file --no-resolv --no-hosts"
    f" --addn-hosts=/names/hosts --local=/{SUFFIX}/ --local-ttl=1"
)
_UNBOUND = "unbound -c /unbound.conf"


@dataclass(frozen=True, slots=True)
class Server:
    """One DNS server, where the host finds it."""

    container: str
    port: int


class Resolvers:
    """Names and servers in a bed."""

    def __init__(self, bed: Bed) -> None:
        """Start everything; the agent may be up already.

        Raises: BedError.
        """
        self.bed = bed
        self.versions: dict[str, str] = {}
        self._folder = bed.root / "names"
        self._folder.mkdir()
        self.queries = self._folder / "queries"
        """dnsperf's input: every name once, in an order that tells servers nothing."""
        self.names = self._start_containers()
        self._write()
        Dconnect(bed).up()
        self.versions["dconnect"] = commit()
        tar = peers_tar("bench-resolvers", _PACKAGES)
        bed.docker("import", tar, "bench/resolvers")
        self.versions |= versions_in(tar, _PACKAGES)
        self.servers = {
            "dconnect": Server(AGENT_NAME, DNS_PORT),
            "dnsmasq": self._peer("bench-dnsmasq", DNS_PORT + 1, _DNSMASQ),
            "unbound": self._peer("bench-unbound", DNS_PORT + 2, _UNBOUND),
        }
        for server in self.servers.values():
            self.wait_ready(server)

    def _start_containers(self) -> dict[str, str]:
        """Name → address."""
        found = {}
        for service, _ in zip(_SERVICES, range(CONTAINERS), strict=True):
            names = [f"{service}-{number}.{SUFFIX}" for number in range(NAMES_PER_CONTAINER)]
            container = f"names-{service}"
            label = f"--label={LABEL_DOMAINS}={','.join(names)}"
            self.bed.docker("run", "--detach", f"--name={container}", label, self.bed.busybox_image)
            found.update(dict.fromkeys(names, self.bed.address_of(container)))
        return found

    def _write(self) -> None:
        names = self.names.items()
        (self._folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in names))
        lines = [f'local-data: "{name}. 1 IN A {address}"\n' for name, address in names]
        (self._folder / "local-data.conf").write_text("".join(lines))
        mixed = sorted(self.names)
        random.Random(1).shuffle(mixed)
        self.queries.write_text("".join(f"{name} A\n" for name in mixed))

    def _peer(self, container: str, port: int, command: str) -> Server:
        publish = f"--publish={self.bed.address}:{port}:{_PORT}/udp"
        mounts = (f"--volume={self._folder}:/names:ro", f"--volume={HERE / 'unbound.conf'}:/unbound.conf:ro")
        words = ("run", "--detach", f"--name={container}", publish, *mounts, "bench/resolvers", *command.split())
        self.bed.docker(*words)
        return Server(container, port)

    def confine(self, cores: int) -> None:
        """Let each server have so many processors, always the first ones; the agent's workers are then as many."""
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
        for server in self.servers.values():
            self.bed.docker("update", f"--cpuset-cpus={cpus}", server.container)
        self.bed.docker("restart", AGENT_NAME)
        Dconnect(self.bed).up()  # waits until its ports are there: a flow that began before would never reach them
        self.wait_ready(self.servers["dconnect"])

    def wait_ready(self, server: Server) -> None:
        """Wait until a server knows every name.

        Raises: AssertionError.
        """
        with self.bed.host.socket(kind=socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.2)
            asker.connect((self.bed.address, server.port))
            for name in self.names:
                words = f"{name} from {server.container}"
                wait_for(words, partial(self._is_right, asker, name), _READY_SECONDS)

    def _is_right(self, asker: socket.socket, name: str) -> bool:
        """Whether the answer is the container's address and nothing else; a lost one is not."""
        query = DNSRecord.question(name)
        with contextlib.suppress(OSError):
            asker.send(query.pack())
            answer = DNSRecord.parse(asker.recv(4096))
            return answer.header.id == query.header.id and [str(record.rdata) for record in answer.rr] == [
                self.names[name]
            ]
        return False

    def wrong(self, server: Server) -> int:
        """How many of all names a server answers wrongly now."""
        with self.bed.host.socket(kind=socket.SOCK_DGRAM) as asker:
            asker.settimeout(1.0)
            asker.connect((self.bed.address, server.port))
            return sum(not self._is_right(asker, name) for name in self.names)
