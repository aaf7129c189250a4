"""A bed for a person: start one, set the scene, and run a command or wait.

    python -P tests/bed/main.py                     the scene, until Ctrl-C
    python -P tests/bed/main.py -- COMMAND …        runs COMMAND in the host's namespace; its exit code is ours
    python -P tests/bed/main.py --prepare           only fills the cache (base image, wheels)

COMMAND finds in its environment DOCKER_HOST, and DCONNECT_BED_ADDRESS, DCONNECT_BED_BASE_IMAGE,
DCONNECT_BED_WHEELS: where published ports are, and the values for --base-image and --wheels.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, for ``bed``; -P leaves it out

from bed import cache
from bed.namespace import BedError
from bed.scene import set_scene
from bed.session import Bed, why_not


def tell(bed: Bed) -> None:
    """Print how to use the bed by hand."""
    nsenter = shlex.join(bed.host.command([]))
    print(f"engine          DOCKER_HOST={bed.docker_host}")
    print(f"its log         {bed.log_path}")
    print(f"published at    {bed.address}")
    print(f"the host        {nsenter} curl …")
    print(f"--base-image    {bed.base_image}")
    print(f"--wheels        {bed.wheels}")
    print(bed.docker("ps", "--format=table {{.Names}}\t{{.Networks}}\t{{.ID}}"))


def with_bed(command: list[str]) -> int:
    """Start a bed with the scene and run the command in it, or wait for a signal."""
    with Bed.start() as bed:
        set_scene(bed)
        if not command:
            tell(bed)
            print("Ctrl-C ends it and removes everything.", flush=True)
            signal.pause()
        extra = {
            "DCONNECT_BED_ADDRESS": bed.address,
            "DCONNECT_BED_BASE_IMAGE": bed.base_image,
            "DCONNECT_BED_WHEELS": str(bed.wheels),
        }
        return subprocess.call(bed.host.command(command), env={**bed.environment, **extra})


def main() -> int:
    """The program; 1 when no bed can be made here."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end the bed in order
    parser = argparse.ArgumentParser(description="Start the test bed.")
    parser.add_argument("--prepare", action="store_true", help="only fill the cache")
    parser.add_argument("command", nargs="*", help="what to run in the host's namespace")
    options = parser.parse_args()
    try:
        if reason := why_not():
            print(reason, file=sys.stderr)
            return 1
        if options.prepare:
            for path in (cache.base_tar(), cache.busybox_tar(), cache.wheels()):
                print(path)
            return 0
        return with_bed(options.command)
    except BedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
