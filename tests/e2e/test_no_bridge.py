"""The agent joins nothing that Docker keeps apart, and leads to nothing of the engine's own."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from dnslib import DNSRecord

from bed.client import Client
from bed.dconnect import DNS_PORT, PROXY_PORT, Dconnect
from bed.intruder import NOTHING, ask, knock
from bed.name_server import name_of, name_server
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for

GREETINGS = {
    "SOCKS5": b"\x05\x01\x00",
    "CONNECT": b"CONNECT vault:80 HTTP/1.1\r\nHost: vault:80\r\n\r\n",
    "absolute-form": b"GET http://vault/ HTTP/1.1\r\nHost: vault\r\n\r\n",
    "health": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an upgrade request": b"GET /link HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: dconnect\r\n\r\n",
}
QUERY = DNSRecord.question("vault.docker").pack()


def agent_address(bed: Bed) -> str:
    return bed.address_of("dconnect")


@pytest.mark.parametrize("greeting", GREETINGS)
def test_a_container_on_the_agents_bridge_gets_nothing_from_the_front_door(
    bed: Bed, scene: Scene, agent: Dconnect, greeting: str
) -> None:
    peer = bed.address_of(scene.plain)
    before = refusals(agent, peer)
    seen = knock(bed, scene.plain, agent_address(bed), PROXY_PORT, GREETINGS[greeting])
    assert seen in NOTHING
    # Lines are written a moment later.
    wait_for("the log names the peer", lambda: refusals(agent, peer) == before + 1, 5)


def refusals(agent: Dconnect, peer: str) -> int:
    return sum(line["event"].startswith("connection refused") and line["peer"] == peer for line in agent.log())


def test_a_container_on_the_agents_bridge_gets_no_answer_from_dns(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    framed = len(QUERY).to_bytes(2, "big") + QUERY
    assert ask(bed, scene.plain, agent_address(bed), DNS_PORT, QUERY) == "failed TimeoutError"
    over_tcp = knock(bed, scene.plain, agent_address(bed), DNS_PORT, framed)
    assert over_tcp in NOTHING
    # The same query from the host is answered, so silence was no fault of the query.
    asker = bed.host.run(["dig", "+short", "-p", str(DNS_PORT), f"@{bed.address}", "vault.docker"], check=True)
    assert asker.stdout.strip() == bed.address_of(scene.vault)


def test_a_container_that_appears_later_gets_nothing_either(bed: Bed, agent: Dconnect) -> None:
    bed.target("latecomer")
    try:
        seen = knock(bed, "latecomer", agent_address(bed), PROXY_PORT, GREETINGS["SOCKS5"])
        assert seen in NOTHING
    finally:
        bed.docker("rm", "--force", "latecomer")


def test_ports_published_on_loopback_are_out_of_containers_reach(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    published = bed.inspect("dconnect")["HostConfig"]["PortBindings"]
    assert {binding["HostIp"] for bindings in published.values() for binding in bindings} == {bed.address}
    engine_side = Dconnect(bed, bed.engine_netns)
    engine_side("up", *engine_side.image_options())  # the default: on 127.0.0.1
    try:
        assert "ok" in bed.engine_netns.run(["curl", "-sS", f"http://127.0.0.1:{PROXY_PORT}/healthz"]).stdout
        for address in ("172.17.0.1", bed.address):
            seen = knock(bed, scene.plain, address, PROXY_PORT, GREETINGS["SOCKS5"])
            assert seen == "failed ConnectionRefusedError"
    finally:
        agent.up()


# -- what may not be dialed -------------------------------------------------------------------------


def forbidden(bed: Bed) -> Iterator[tuple[str, int]]:
    """Addresses and ports that must be refused; ports where something listens, so that only policy refuses."""
    for address in ("0.0.0.0", "::", "::ffff:127.0.0.1", "::1", "127.0.0.1", "127.8.8.8", "::ffff:0.0.0.0"):
        yield address, 22
    yield from (("169.254.169.254", 80), ("::ffff:169.254.169.254", 80), ("fe80::1", 80))
    yield from (("255.255.255.255", 80), ("224.0.0.1", 80), ("ff02::1", 80))
    yield bed.address, PROXY_PORT  # the agent's own published port, and an address of the engine
    yield f"::ffff:{bed.address}", PROXY_PORT
    yield agent_address(bed), PROXY_PORT
    for network in json.loads(bed.docker("network", "inspect", *bed.docker("network", "ls", "-q").split())):
        for config in network["IPAM"]["Config"] or ():
            # Engine 20.10 leaves the gateway of an IPv6 subnet out; it is the first address.
            first = next(ipaddress.ip_network(config["Subnet"]).hosts())
            yield config.get("Gateway", str(first)).partition("/")[0], PROXY_PORT


def test_forbidden_addresses_are_refused_with_the_right_code(bed: Bed, client: Client) -> None:
    wrong = []
    for address, port in forbidden(bed):
        tunnel = client.connect_refusal(address, port)
        bracketed = f"[{address}]" if ":" in address else address
        codes = client.socks_code(address, port), tunnel.code, client.get(f"http://{bracketed}:{port}/").code
        if codes != (2, 403, 403):
            wrong.append((address, port, codes))
    assert wrong == []


def test_what_was_dialed_before_opens_nothing(bed: Bed, scene: Scene, client: Client) -> None:
    gateway = next(address for address, _ in forbidden(bed) if address.startswith("172."))
    nobody = str(ipaddress.ip_network(f"{gateway}/24", strict=False)[-2])
    with ThreadPoolExecutor(8) as threads:  # so many that every worker has dialed there first
        assert 0 not in threads.map(lambda _: client.socks_code(nobody, 9), range(16))
    own = [*dict.fromkeys(address for address, _ in forbidden(bed) if address.startswith("172.")), bed.address]
    assert [client.socks_code(address, PROXY_PORT) for address in own * 8] == [2] * len(own) * 8


def test_a_refusal_says_why(bed: Bed, client: Client, agent: Dconnect) -> None:
    reply = client.get("http://169.254.169.254/latest/meta-data/")
    assert (
        reply.text
        == "169.254.169.254:80 is not allowed: link-local addresses (cloud metadata among them) are refused.\n"
    )
    assert agent.wait_session("169.254.169.254:80")["outcome"] == "policy"


@pytest.fixture
def evil(bed: Bed) -> Iterator[None]:
    """A name server of the attacker's."""
    with name_server(bed.engine_netns):
        yield


def test_names_that_lead_there_are_refused_with_the_right_code(bed: Bed, client: Client, evil: None) -> None:
    wrong = []
    for address, port in forbidden(bed):
        name = name_of(address)
        tunnel = client.connect_refusal(name, port)
        codes = client.socks_code(name, port), tunnel.code, client.get(f"http://{name}:{port}/").code
        if codes != (2, 403, 403):
            wrong.append((name, address, port, codes))
    assert wrong == []


def test_a_name_outside_docker_that_leads_to_an_allowed_address_is_dialed(
    bed: Bed, scene: Scene, client: Client, evil: None
) -> None:
    name = name_of(bed.address_of(scene.vault))
    assert client.get(f"http://{name}/").code == 200


def test_localhost_is_not_the_engines(client: Client) -> None:
    assert client.socks_code("localhost", 22) != 0
    assert client.get("http://localhost:22/").code in (403, 502)


def test_another_sites_host_is_told_so(client: Client) -> None:
    with client.open() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 421 ")
