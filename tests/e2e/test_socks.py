"""The rest of SOCKS on the real engine: version 4, and Tor's lookups."""

from __future__ import annotations

import shutil

import pytest

from bed.client import Client, receive_all
from bed.dconnect import Dconnect
from bed.namespace import Namespace
from bed.scene import Scene
from bed.session import Bed

TOR_RESOLVE = shutil.which("tor-resolve")
NOT_HERE = "tor-resolve (Debian's package tor) is not installed here."


def output(host: Namespace, *words: str) -> str:
    return host.run(list(words), timeout=30, check=True).stdout.strip()


def test_socks4_reaches_an_address_and_4a_a_name(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    hello = f"hello from {scene.vault[:12]}"
    url = f"http://{bed.address_of(scene.vault)}/"
    assert output(bed.host, "curl", "-sS", "--fail", "--socks4", agent.proxy, url) == hello
    assert output(bed.host, "curl", "-sS", "--fail", "--socks4a", agent.proxy, "http://vault.docker/") == hello


def test_socks4_leads_to_nothing_of_the_engine_s_own_and_says_why_in_the_log(bed: Bed, agent: Dconnect) -> None:
    result = bed.host.run(["curl", "-sS", "--socks4", agent.proxy, "http://172.17.0.1:81/"])
    assert (result.returncode, "91" in result.stderr) == (97, True), result.stderr
    session = agent.wait_session("172.17.0.1:81")
    assert (session["front"], session["outcome"]) == ("socks4", "policy")


def lookup(client: Client, command: int, destination: bytes) -> bytes:
    """What follows the method in the answer to one of Tor's commands."""
    with client.open() as connection:
        connection.sendall(b"\x05\x01\x00\x05" + bytes((command,)) + b"\x00" + destination + b"\x00\x00")
        return receive_all(connection)[2:]


def test_resolve_tells_a_container_s_address_and_ptr_its_name(bed: Bed, scene: Scene, client: Client) -> None:
    octets = bytes(map(int, bed.address_of(scene.vault).split(".")))
    assert lookup(client, 0xF0, b"\x03\x0cvault.docker") == b"\x05\x00\x00\x01" + octets + b"\x00\x00"
    assert lookup(client, 0xF1, b"\x01" + octets) == b"\x05\x00\x00\x03\x0cvault.docker\x00\x00"
    assert lookup(client, 0xF0, b"\x03\x06nobody")[1] == 4
    assert lookup(client, 0xF1, b"\x01\xc0\x00\x02\x01")[1] == 4
    assert lookup(client, 0xF0, b"\x01\x7f\x00\x00\x01")[1] == 2


@pytest.mark.skipif(TOR_RESOLVE is None, reason=NOT_HERE)
def test_tor_resolve_itself_understands_the_answers(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    address = bed.address_of(scene.vault)
    assert TOR_RESOLVE is not None
    assert output(bed.host, TOR_RESOLVE, "vault.docker", agent.proxy) == address
    assert output(bed.host, TOR_RESOLVE, "-4", "vault.docker", agent.proxy) == address
    assert output(bed.host, TOR_RESOLVE, "-x", address, agent.proxy) == "vault.docker"
    assert bed.host.run([TOR_RESOLVE, "nobody.docker", agent.proxy]).returncode != 0
