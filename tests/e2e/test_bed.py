"""The test bed itself: what it promises to the tests that stand on it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bed import remains
from bed.namespace import BedError
from bed.processes import command_lines
from bed.remains import BedName
from bed.scene import Scene
from bed.session import Bed, why_not

TESTS = Path(__file__).resolve().parents[1]
GONE_DEADLINE = 20.0

OWNER = """
import sys, time
from bed.session import Bed
bed = Bed.start()
bed.target("web", image=bed.busybox_image, options=["--publish=10.99.0.1:8080:80"])
bed.host.popen(["sleep", "1000"])
print(bed.name.name, flush=True)
time.sleep(1000)
"""


def receive_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 18), b""))


@contextmanager
def owned_bed() -> Iterator[BedName]:
    """A bed of another process, which is killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", OWNER],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as owner:
        try:
            assert owner.stdout is not None
            name = BedName(owner.stdout.readline().strip())
            assert name.name.startswith(remains.PREFIX)
            yield name
        finally:
            owner.kill()


def left_after_deadline(name: BedName) -> list[str]:
    deadline = time.monotonic() + GONE_DEADLINE
    while (left := remains.find(name)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_the_host_reaches_published_ports_and_nothing_else(bed: Bed) -> None:
    bed.target("published", image=bed.busybox_image, options=["--publish=10.99.0.1:8081:80"])
    address = bed.address_of("published")
    page = bed.host.run(["curl", "-sS", "http://10.99.0.1:8081/"], check=True).stdout
    assert page.strip() == bed.inspect("published")["Config"]["Hostname"]
    with pytest.raises(OSError, match="unreachable"):
        bed.host.connect(address, 80)
    assert bed.host.run(["ip", "route"], check=True).stdout.splitlines() == [
        "10.99.0.0/30 dev vm0 proto kernel scope link src 10.99.0.2 "
    ]
    bed.engine_netns.connect(address, 80).close()
    begun = time.monotonic()
    bed.docker("rm", "--force", bed.docker("stop", "published"))
    assert time.monotonic() - begun < 5, "the image does not obey its stop signal"


def test_through_the_userland_proxy_every_client_is_the_gateway(bed: Bed) -> None:
    bed.target("proxied", options=["--publish=127.0.0.1:8082:80"])
    with bed.engine_netns.connect("127.0.0.1", 8082) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"X-Peer: 172.17.0.1 " in receive_all(connection)
    bed.docker("rm", "--force", "proxied")


def test_two_beds_do_not_meet(bed: Bed) -> None:
    with Bed.start(userland_proxy=False) as other:
        assert other.docker("info", "--format={{.ID}}") != bed.docker("info", "--format={{.ID}}")
        for each in (bed, other):
            each.target("twin", image=each.busybox_image, options=["--publish=10.99.0.1:8083:80"])
        pages = {each.host.run(["curl", "-sS", "http://10.99.0.1:8083/"], check=True).stdout for each in (bed, other)}
        assert len(pages) == 2
        name = other.name
    assert remains.find(name) == []
    assert bed.host.run(["curl", "-sS", "http://10.99.0.1:8083/"], check=True).stdout in pages
    bed.docker("rm", "--force", "twin")


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    with owned_bed() as name:
        assert len(remains.processes(name)) > 5
    assert left_after_deadline(name) == []


def test_the_next_bed_removes_one_whose_guardian_was_killed_too() -> None:
    with owned_bed() as name:
        [guardian] = [pid for pid, words in command_lines().items() if {"bed.guardian", name.name} <= set(words)]
        os.kill(guardian, signal.SIGKILL)
    assert remains.processes(name)
    with Bed.start():
        assert remains.find(name) == []


def test_a_paused_container_does_not_keep_the_bed() -> None:
    with Bed.start() as bed:
        bed.docker("run", "--detach", "--name=paused", bed.busybox_image)
        bed.docker("pause", "paused")
        name = bed.name
    assert remains.find(name) == []


def test_nothing_is_left_when_the_engine_does_not_start() -> None:
    before = set(remains.HOME.glob(f"{remains.PREFIX}*"))
    with pytest.raises(BedError, match="no-such-flag"):
        Bed.start(engine_flags=["--no-such-flag"])
    assert set(remains.HOME.glob(f"{remains.PREFIX}*")) <= before


def test_it_says_why_it_cannot_run_without_root() -> None:
    script = "from bed.session import why_not; print(why_not())"
    result = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-P", "-c", script],
        env={"PYTHONPATH": str(TESTS), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "root" in result.stdout
    assert why_not() is None


def test_the_engine_comes_back_after_restart_and_kill() -> None:
    with Bed.start() as bed:
        bed.target("lasting", image=bed.busybox_image, options=["--restart=always"])
        bed.docker("run", "--detach", "--name=passing", bed.busybox_image)
        for end in (bed.stop_engine, bed.kill_engine):
            end()
            assert not bed.engine.is_answering()
            bed.start_engine()
            bed.wait_ready("lasting")
        assert bed.docker("ps", "--format={{.Names}}") == "lasting"


def test_inside_the_engine_the_default_socket_is_this_engine(bed: Bed) -> None:
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/s');"
        "s.sendall(b'GET /info HTTP/1.0\\r\\n\\r\\n'); print(s.makefile().read())"
    )
    mount = "--mount=type=bind,source=/var/run/docker.sock,target=/s"
    answer = bed.docker("run", "--rm", mount, bed.base_image, "python3", "-c", script)
    assert json.loads(answer.partition("\n\n")[2])["ID"] == bed.docker("info", "--format={{.ID}}")


def test_the_wheels_are_complete_for_the_base_image(bed: Bed) -> None:
    check = "import aiodocker, aiohttp, dnslib, rich, structlog, typer, uvloop, ssl, ctypes, tomllib"
    install = "python -m pip install -q --no-index --find-links=/wheels --root-user-action=ignore"
    names = "aiodocker aiohttp dnslib rich structlog typer uvloop"
    command = f"{install} {names} && python -c '{check}'"
    bed.docker("run", "--rm", f"--volume={bed.wheels}:/wheels:ro", bed.base_image, "sh", "-c", command)


def test_engine_28_rules_drop_routed_packets_only(bed: Bed) -> None:
    # Engine 20.10 lets routed packets through to a published port; 28 and later do not.
    bed.target("routed", options=["--publish=10.99.0.1:8084:80"])
    address = bed.address_of("routed")
    bed.host.run(["ip", "route", "add", f"{address}/32", "via", bed.address], check=True)
    try:
        bed.host.connect(address, 80).close()
        with bed.imitate_engine_28():
            with pytest.raises(TimeoutError):
                bed.host.connect(address, 80, timeout=1)
            bed.engine_netns.connect(address, 80).close()
            bed.host.connect(bed.address, 8084).close()
        bed.host.connect(address, 80).close()
    finally:
        bed.host.run(["ip", "route", "delete", f"{address}/32"], check=True)
        bed.docker("rm", "--force", "routed")


def test_a_blackhole_swallows_silently_and_no_longer_than_it_must(bed: Bed) -> None:
    bed.target("hole")
    address = bed.address_of("hole")
    with bed.blackhole(address, 80):
        with pytest.raises(TimeoutError):
            bed.engine_netns.connect(address, 80, timeout=0.5)
        bed.engine_netns.connect(address, 7).close()
    with bed.blackhole(address), pytest.raises(TimeoutError):
        bed.engine_netns.connect(address, 7, timeout=0.5)
    for port in (80, 7):
        bed.engine_netns.connect(address, port).close()
    bed.docker("rm", "--force", "hole")


def test_the_scene_stands_as_described(bed: Bed, scene: Scene) -> None:
    places = {
        "plain": {"bridge"},
        "web": {"shop_front", "shop_back"},
        "web_2": {"shop_front"},
        "db": {"shop_back"},
        "vault": {"vault_net"},
        "six": {"six_net"},
    }
    for name, networks in places.items():
        assert set(bed.inspect(getattr(scene, name))["NetworkSettings"]["Networks"]) == networks
        bed.engine_netns.connect(bed.address_of(getattr(scene, name)), 80).close()
    assert bed.inspect("vault_net")["Internal"]
    six = bed.address_of(scene.six, version=6)
    assert six.startswith("fd00:dc::")
    bed.engine_netns.connect(six, 80).close()


def test_the_target_serves_http(bed: Bed, scene: Scene) -> None:
    base = f"http://{bed.address_of(scene.plain)}"
    curl = ["curl", "-sS", "--max-time", "20"]

    def fetch(*arguments: str, stdin: str | None = None) -> str:
        return bed.engine_netns.run([*curl, *arguments], stdin=stdin, check=True).stdout

    hello = fetch("-i", "-H", "Host: some.name", f"{base}/")
    assert f"hello from {bed.inspect('plain')['Config']['Hostname']}\n" in hello
    assert "X-Host: some.name" in hello
    assert "X-Peer: 172.17.0.1 " in hello
    body = "ü" * 1_500_000
    want = hashlib.sha256(body.encode()).hexdigest()
    post = ["--data-binary", "@-", f"{base}/sha256"]
    assert fetch(*post, stdin=body).strip() == want
    assert fetch("-H", "Transfer-Encoding: chunked", *post, stdin=body).strip() == want
    assert "404" in fetch("-i", f"{base}/nothing")
    assert fetch(f"{base}/", f"{base}/", "-w", "%{num_connects}").count("0") >= 1, "no keep-alive"


def test_the_target_sends_a_gibibyte_with_its_hash_fast(bed: Bed, scene: Scene) -> None:
    with bed.engine_netns.connect(bed.address_of(scene.plain), 80, timeout=30) as connection:
        connection.sendall(b"GET /bytes/1073741824 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as file:
            head = b"".join(iter(file.readline, b"\r\n"))
            begun = time.monotonic()
            state, count = hashlib.sha256(), 0
            while data := file.read1(1 << 20):
                state.update(data)
                count += len(data)
    assert f"X-SHA256: {state.hexdigest()}".encode() in head
    assert count == 1 << 30
    assert count / (time.monotonic() - begun) > 100e6, "the target is no use for bulk tests"


def test_the_target_echoes_websocket_frames(bed: Bed, scene: Scene) -> None:
    with bed.engine_netns.connect(bed.address_of(scene.plain), 80) as connection:
        # The key and the answer are those of RFC 6455 §1.3.
        connection.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        with connection.makefile("rb") as file:
            head = b"".join(iter(file.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
            # RFC 6455 §5.7: a masked "Hello", and the unmasked one that comes back.
            connection.sendall(bytes.fromhex("818537fa213d7f9f4d5158"))
            assert file.read(7) == bytes.fromhex("810548656c6c6f")
            big = os.urandom(70_000)
            connection.sendall(b"\x82\xff" + len(big).to_bytes(8, "big") + bytes(4) + big)
            assert file.read(10) == b"\x82\x7f" + len(big).to_bytes(8, "big")
            assert file.read(len(big)) == big
            connection.sendall(bytes.fromhex("888000000000"))
            assert file.read() == b"\x88\x00"
    assert base64.b64decode("dGhlIHNhbXBsZSBub25jZQ==") == b"the sample nonce"


def test_the_target_echoes_discards_and_sends(bed: Bed, scene: Scene) -> None:
    address = bed.address_of(scene.plain)
    data = os.urandom(100_000)
    with bed.engine_netns.connect(address, 7) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == data
    with bed.engine_netns.connect(address, 9) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).decode() == hashlib.sha256(data).hexdigest()
    with bed.engine_netns.connect(address, 19) as connection:
        connection.sendall(b"3000000\n")
        got = receive_all(connection)
        assert len(got) == 3_000_000
        assert got[: 1 << 20] == got[1 << 20 : 2 << 20]
