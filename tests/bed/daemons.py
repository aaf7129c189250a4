"""Other people's servers in containers: redis, alone and as a cluster, and iperf3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bed import cache
from bed.programs import with_libraries
from bed.session import Bed
from bed.waiting import wait_for

REDIS_PORT, IPERF_PORT = 6379, 5201
NODES = 6
SETTLE_SECONDS = 30.0
"""For the nodes of a cluster to agree; they gossip once a second."""
# Debian's redis-tools has the server as well: the program goes by the name that it is called.
_REDIS, _IPERF = Path("/usr/bin/redis-check-rdb"), Path("/usr/bin/iperf3")
_SERVE = "redis-server --protected-mode no --save '' --appendonly no"
STORE = f"iperf3 --server --daemon && exec {_SERVE}"
"""The shell's words for a container with both."""
_NODE = f"exec {_SERVE} --cluster-enabled yes"


def daemons_image(bed: Bed) -> str:
    """Tag of an image with redis-server and iperf3, as this machine has them."""
    files = [*with_libraries([_REDIS, _IPERF]), (_REDIS, "usr/local/bin/redis-server")]
    return bed.extend_base("daemons", cache.tar_of(*files))


def redis_cli(bed: Bed, address: str, *words: str) -> str:
    """What redis-cli on the host printed; it must succeed. Raises: BedError."""
    return bed.host.run(["redis-cli", "-h", address, *words], check=True).stdout


@contextmanager
def redis_cluster(bed: Bed, image: str) -> Iterator[list[str]]:
    """Within the block a cluster of three masters with a replica each, made from the host; its nodes' addresses.

    They announce the addresses that they have themselves, so a client must reach each at its container's.

    Raises: BedError.
    """
    names = [f"redis-{number}" for number in range(NODES)]
    try:
        for name in names:
            bed.docker("run", "--detach", f"--name={name}", "--network=shop_back", image, "sh", "-c", _NODE)
        for name in names:
            bed.wait_ready(name, REDIS_PORT)
        addresses = [bed.address_of(name) for name in names]
        nodes = [f"{address}:{REDIS_PORT}" for address in addresses]
        words = ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"]
        bed.host.run(words, check=True)
        for address in addresses:
            wait_for(f"{address} knows all", lambda address=address: _is_settled(bed, address), SETTLE_SECONDS)  # type: ignore[misc]
        yield addresses
    finally:
        bed.docker("rm", "--force", *names)


def _is_settled(bed: Bed, address: str) -> bool:
    told = redis_cli(bed, address, "cluster", "info")
    return f"cluster_known_nodes:{NODES}" in told and "cluster_state:ok" in told


def redirections(bed: Bed, addresses: list[str]) -> int:
    """How often nodes have sent clients to another node: with MOVED, and with ASK while a slot is on its way."""
    told = "".join(redis_cli(bed, address, "info", "errorstats") for address in addresses)
    return sum(map(int, re.findall(r"errorstat_(?:MOVED|ASK):count=(\d+)", told)))


def move_slots(bed: Bed, source: str, target: str, slots: int) -> None:
    """Move that many slots with what is in them, from one master to another. Raises: BedError."""
    giver, taker = (redis_cli(bed, address, "cluster", "myid").strip() for address in (source, target))
    words = ["--cluster-from", giver, "--cluster-to", taker, "--cluster-slots", str(slots), "--cluster-yes"]
    bed.host.run(["redis-cli", "--cluster", "reshard", f"{source}:{REDIS_PORT}", *words], timeout=100, check=True)
