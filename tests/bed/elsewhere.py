"""A second host beside a bed's own, with a wire of its own to the engine; it too reaches nothing but published ports.

10.99.0.6 ── veth ── 10.99.0.5 vm namespace
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bed.namespace import Namespace
from bed.session import Bed

ENGINE_END, HOST_END = "10.99.0.5", "10.99.0.6"


@contextmanager
def second_host(bed: Bed) -> Iterator[Namespace]:
    """Within the block there is one. Its namespace has no name, and so goes with the process that keeps it."""
    marker, _, name = bed.name.mark.partition("=")
    keeper = subprocess.Popen(
        ["unshare", "--net", "--", "sh", "-c", "echo ready; exec cat"],
        env={**os.environ, marker: name},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"ready\n"
        host = Namespace(Path(f"/proc/{keeper.pid}/ns/net"), HOST_END, bed.environment)
        try:
            for namespace, line in (
                (bed.engine_netns, f"link add mac1 type veth peer name vm0 netns {keeper.pid}"),
                (bed.engine_netns, f"address add {ENGINE_END}/30 dev mac1"),
                (bed.engine_netns, "link set mac1 up"),
                (host, f"address add {HOST_END}/30 dev vm0"),
                (host, "link set lo up"),
                (host, "link set vm0 up"),
                (host, f"route add {bed.address} via {ENGINE_END}"),
            ):
                namespace.run(["ip", *line.split()], check=True)
            yield host
        finally:
            bed.engine_netns.run(["ip", "link", "delete", "mac1"])  # now, not when the kernel takes the namespace away
            keeper.stdin.close()
