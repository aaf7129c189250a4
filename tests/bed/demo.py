"""``make demo``: the whole story on one screen, then everything is taken away again.

Uses the engine that your docker command talks to. Where none answers, and this is Debian with
root, it makes one of its own, with a host namespace that cannot route to containers, as on macOS.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, for ``bed``; -P leaves it out

from bed.dconnect import PROGRAM
from bed.namespace import BedError
from bed.session import Bed, why_not

NETWORK = "dconnect-demo"
CONTAINER = "dconnect-demo-web"
COMMAND_DEADLINE = 600.0
"""Seconds; the first ``up`` on a slow line downloads python:3-slim."""


class Failed(Exception):
    """A step of the story did not go as it must."""


@dataclass
class Stage:
    """Where the story happens."""

    wrap: Callable[[Sequence[str]], list[str]]
    """Makes a command run where the user sits."""
    environment: dict[str, str]
    image: str
    up: list[str] = field(default_factory=list)
    """Further options of ``dconnect up``."""

    def quiet(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command unseen."""
        return subprocess.run(
            self.wrap(words),
            env=self.environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=COMMAND_DEADLINE,
        )

    def show(self, *words: str, expect: str = "", fails: bool = False) -> str:
        """Run a command before the user's eyes.

        Raises: Failed when it does not end as it must or does not print what is expected.
        """
        shown = [Path(words[0]).name, *words[1:]]
        print(f"\n$ {words[2] if words[:2] == ('sh', '-c') else shlex.join(shown)}", flush=True)
        result = subprocess.run(
            self.wrap(words),
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=None if not fails else subprocess.STDOUT,
            check=False,
            timeout=COMMAND_DEADLINE,
        )
        print(result.stdout, end="", flush=True)
        if (result.returncode != 0) != fails or expect not in result.stdout:
            raise Failed(f"That was not expected: exit code {result.returncode}, and {expect!r} is to be seen.")
        return result.stdout


def say(text: str) -> None:
    print(f"\n-- {text}", flush=True)


PAGE = ("-sS", "-o", "/dev/null", "-w", "%{http_code} from %{url_effective}\\n")
"""Has curl show that it got something, and whence."""


def tell(stage: Stage, *, may_route: bool) -> None:
    """The story. ``may_route``: the transparent mode belongs to it, where containers are out of reach."""
    dconnect = str(PROGRAM)
    say("A container with a web server, on a network of its own. No port of it is published.")
    stage.show("docker", "network", "create", NETWORK, "--label", "demo=dconnect")
    labels = ["--label", "com.docker.compose.project=demo", "--label", "com.docker.compose.service=web"]
    where = ["--name", CONTAINER, "--network", NETWORK, *labels]
    stage.show("docker", "run", "--detach", *where, stage.image, "python3", "-m", "http.server", "80")
    inspect = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = stage.quiet("docker", "inspect", "--format", inspect, CONTAINER).stdout.strip()
    if stage.quiet("curl", "-s", "--max-time", "3", f"http://{address}/").returncode:
        say("This host cannot reach it:")
        stage.show("curl", "-sS", "--max-time", "3", f"http://{address}/", fails=True)
    else:
        may_route = False
        say("(This host happens to have a route to containers. The rest works without one.)")

    say("Start the agent. It attaches to no network of yours.")
    stage.show(dconnect, "up", *(["--tun"] if may_route else []), *stage.up)
    endpoint = json.loads(stage.quiet(dconnect, "status", "--json").stdout)["endpoint"]
    door = f"{endpoint['bind']}:{endpoint['port']}"

    say("By name, through the SOCKS5 proxy:")
    stage.show("curl", *PAGE, "--socks5-hostname", door, "http://web.demo.docker/", expect="200 from")
    say("By address, through the HTTP proxy, which is the same port:")
    stage.show("curl", *PAGE, "-x", f"http://{door}", f"http://{address}/", expect="200 from")
    say("Or set the environment once, and use plain names:")
    stage.show(
        "sh", "-c", f'eval "$({shlex.quote(dconnect)} env --shell bash)"; curl -sSI http://web/ | head -1', expect="200"
    )
    say("Every name there is, and one of them:")
    stage.show(dconnect, "dns", expect="web.demo")
    stage.show(dconnect, "dns", "web", expect=address)
    if shutil.which("dig"):
        say("The name server answers every program that can ask one:")
        stage.show(
            "dig", "+short", f"@{endpoint['bind']}", "-p", str(endpoint["dns_port"]), "web.demo.docker", expect=address
        )
    if may_route:
        tell_of_the_tunnel(stage, address)
    say("A stopped container is not the same as an unknown name:")
    stage.quiet("docker", "stop", "--time", "0", CONTAINER)
    stage.show("curl", "-s", "-x", f"http://{door}", "http://web.demo.docker/", expect="docker start")
    stage.show("curl", "-s", "-x", f"http://{door}", "http://nobody/", expect="No container is called nobody")


def tell_of_the_tunnel(stage: Stage, address: str) -> None:
    """The transparent mode: the part that needs root."""
    dconnect = str(PROGRAM)
    say("For programs that know no proxy: routes to the containers' own addresses. This alone needs root, or sudo.")
    try:
        stage.show(dconnect, "tun", "up", expect="The tunnel is up")
        stage.show("curl", *PAGE, f"http://{address}/", expect="200 from")
        if shutil.which("ping"):
            stage.show("ping", "-c", "1", address, expect=address)
        stage.show(dconnect, "tun", "status", expect="link")
        stage.show(dconnect, "tun", "down")
    finally:
        left = stage.quiet(dconnect, "cleanup").stdout
    say("Device and routes went with it, and this host is as it was:")
    print(left, end="", flush=True)
    if not left.startswith("Nothing"):
        raise Failed("Something of the tunnel was left.")


@contextlib.contextmanager
def stage_of_this_machine() -> Iterator[Stage]:
    """The user's own engine, or a test bed.

    Raises: Failed when neither is to be had.
    """
    if answers():
        print("Using the engine that your docker command talks to.")
        yield Stage(list, dict(os.environ), "python:3-slim")
        return
    if reason := why_not():
        raise Failed(f"No Docker engine answers, and no own one can be made: {reason}")
    print(
        "No Docker engine answers here, so the demo makes one: a namespace with dockerd, and a host that cannot route."
    )
    with Bed.start() as bed:
        options = ["--bind", bed.address, "--base-image", bed.base_image, "--wheels", str(bed.wheels)]
        # The machine has one /run, and a tunnel may be up on it.
        environment = {**bed.environment, "DCONNECT_RUN_DIR": str(bed.root / "run")}
        yield Stage(lambda words: bed.host.command(list(words)), environment, bed.base_image, options)


def answers() -> bool:
    """Whether the docker command finds an engine."""
    try:
        return not subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=20).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    """Tell the story; 1 when it did not end well, 130 when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with stage_of_this_machine() as stage:
            running = not stage.quiet(str(PROGRAM), "status").returncode
            try:
                # An agent that is the user's own is not replaced, nor is a password asked for.
                tell(stage, may_route=not running and os.geteuid() == 0)
            finally:
                say("Clean up.")
                stage.quiet("docker", "rm", "--force", CONTAINER)
                stage.quiet("docker", "network", "rm", NETWORK)
                if not running:  # else it is the user's own
                    stage.show(str(PROGRAM), "down")
        say("That was it. README.md tells the rest.")
    except (Failed, BedError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
