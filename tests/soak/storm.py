"""A storm of mutated packets out of the host's own device; nothing may fall, nothing may stay."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

from bed.client import receive_exactly
from bed.dconnect import Dconnect
from bed.session import Bed
from bed.tun import Tun, tunnel_of
from bench.agent import agent
from bench.programs import TARGET_PORT, Site
from dconnect.core.limits import TUNNEL_ACCEPT_SECONDS, TUNNEL_ECHO_FLOWS, TUNNEL_SOCKETS, TUNNEL_UDP_FLOWS
from dconnect.tunnel.wire.checksum import checksum, pseudo_header
from kit import packets as gold
from soak.parts import Ground, Outcome, must_be_flat

COUNT = 100_000
WARM = 0.3
"""So much of the whole is warm-up: every buffer of the two ends' outboxes was used."""
REQUEST_EVERY = 500
"""Packets between two normal requests."""
REQUEST_SECONDS = 5.0
"""For each step of such a request: a SYN that is lost amid the storm comes again after one, and after three."""
REPAIRED = 0.7
"""So many have right checksums again, or most would get no further than that."""
FLOWS_GONE_SECONDS = 5.0
"""The gateway tells every second how many it has."""
GONE_SECONDS = TUNNEL_ACCEPT_SECONDS + 5
"""What is dialed goes on to its deadline."""
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_SEEDS = [value for value in vars(gold).values() if isinstance(value, bytes) and len(value) > 16]
_SEEDS += [*gold.PARTS4, *gold.PARTS6]
_SUMS = {6: 16, 17: 6, 58: 2}
"""Where in what follows the IP header a protocol has its checksum."""


def mutated(chance: random.Random, addresses: dict[bytes, bytes]) -> bytes:
    """One packet: a seed with other addresses, and up to four bytes that are others, sometimes cut or longer."""
    seed = chance.choice(_SEEDS)
    for old, new in addresses.items():
        seed = seed.replace(old, new)
    made = bytearray(seed)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        made[chance.randrange(len(made))] = chance.randrange(256)
    kind = chance.random()
    if kind < 0.1:
        del made[chance.randrange(1, len(made)) :]
    elif kind < 0.2:
        made += chance.randbytes(chance.randrange(1, 2000))
    if chance.random() < REPAIRED:
        repair(made)
    return bytes(made)


def repair(packet: bytearray) -> None:
    """Lengths and checksums as they ought to be."""
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        header = max(20, min(len(packet), (packet[0] & 15) * 4))
        packet[2:4] = len(packet).to_bytes(2)
        packet[10:12] = b"\0\0"
        packet[10:12] = checksum(packet[:header]).to_bytes(2)
        source, destination, protocol = bytes(packet[12:16]), bytes(packet[16:20]), packet[9]
    elif packet[0] >> 4 == 6 and len(packet) >= 40:
        header = 40
        packet[4:6] = (len(packet) - 40).to_bytes(2)
        source, destination, protocol = bytes(packet[8:24]), bytes(packet[24:40]), packet[6]
    else:
        return
    at = header + _SUMS.get(protocol, 0)
    if at > header and at + 2 <= len(packet):
        packet[at : at + 2] = b"\0\0"
        ahead = pseudo_header(source, destination, protocol, len(packet) - header)
        packet[at : at + 2] = checksum(ahead + bytes(packet[header:])).to_bytes(2)


class Storm:
    """Packets into the device, by a raw socket of the host's, and normal requests between them."""

    def __init__(self, bed: Bed, tun: Tun, site: Site, six: str, seed: int) -> None:
        """Prepare; ``six`` is a container's IPv6 address."""
        self._bed, self._site = bed, site
        self._chance = random.Random(seed)
        host4, host6, target4, target6 = (
            ip_address(text.partition("/")[0]).packed for text in (*tun.status()["addresses"], site.target, six)
        )
        self._addresses = {gold.A4: host4, gold.B4: target4, gold.A6: host6, gold.B6: target6}
        self.slowest = 0.0
        """Seconds that a normal request took at most."""
        self.failed: list[str] = []

    def blow(self, count: int) -> None:
        """So many packets; none is lost for want of room in the device's queue."""
        with self._bed.host.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
            for number in range(count):
                packet = mutated(self._chance, self._addresses)
                kind = _ETHERTYPES.get(packet[0] >> 4, _ETHERTYPES[4])
                while not _sent(sock, packet, kind):
                    time.sleep(0.001)
                if number % REQUEST_EVERY == 0:
                    self.request()

    def fill(self) -> None:
        """Take every place for a UDP flow: what a full table needs is no growth."""
        for _ in range(TUNNEL_UDP_FLOWS):
            with self._bed.host.socket(kind=socket.SOCK_DGRAM) as sock:
                sock.sendto(b"fill", (self._site.target, TARGET_PORT))

    def request(self) -> None:
        """A normal one: connect, a few bytes there and back, close."""
        begun = time.monotonic()
        try:
            with self._bed.host.connect(self._site.target, TARGET_PORT, timeout=REQUEST_SECONDS) as connection:
                connection.sendall(b"echo")
                assert receive_exactly(connection, 4) == b"echo"
        except (OSError, AssertionError) as error:
            self.failed.append(repr(error))
        self.slowest = max(self.slowest, time.monotonic() - begun)


def _sent(sock: socket.socket, packet: bytes, kind: int) -> bool:
    try:
        sock.sendto(packet, ("dconnect0", kind))
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            return False
        raise
    return True


def _held(tun: Tun, most: int) -> int:
    """The descriptors of the pump and what it has started, once they are no more than that, or it is too late."""
    deadline = time.monotonic() + GONE_SECONDS
    while (held := tun.usage().descriptors) > most and time.monotonic() < deadline:
        time.sleep(0.1)
    return held


def flows(bed: Bed) -> dict[str, int]:
    """Open in the gateway."""
    found: dict[str, int] = Dconnect(bed).status()["tunnel"]["flows"]
    return found


def all_gone(bed: Bed) -> dict[str, int]:
    """Flows that the gateway still has, a few seconds after the link's end."""
    deadline = time.monotonic() + FLOWS_GONE_SECONDS
    while any((left := flows(bed)).values()) and time.monotonic() < deadline:
        pass
    return left


def measure(bed: Bed, site: Site, six: str, count: int, seed: int, *options: str) -> Outcome:
    """Let it blow, and judge what is left; the agent is up and has no other clients.

    Args:   options: of ``dconnect tun up``; with --packets the agent gets everything, otherwise all but TCP.
    """
    first = agent(bed)
    with tunnel_of(bed) as tun:
        tun.up(*options)
        pump = tun.status()["pid"]
        storm = Storm(bed, tun, site, six, seed)
        storm.fill()
        storm.blow(round(count * WARM))
        warm = agent(bed) | {"pump": tun.usage()}
        storm.blow(count)
        storm.request()
        last = agent(bed) | {"pump": tun.usage()}
        full, status = flows(bed), tun.status()
        # Of either IP version, fetched when a port is new.
        stock = 0 if "--packets" in options else 2 * TUNNEL_SOCKETS
        held = _held(tun, warm["pump"].descriptors + stock) - warm["pump"].descriptors
    outcome = Outcome({"packets": count, "seed": seed, "sent": status["sent"]["packets"], "flows": full})
    outcome.figures["slowest_request_s"] = round(storm.slowest, 3)
    expected = count if "--packets" in options else count // 4
    outcome.must(f"the agent gets {expected}", status["sent"]["packets"], hold=status["sent"]["packets"] >= expected)
    outcome.must("normal requests are served meanwhile and afterwards", storm.failed[:10], hold=not storm.failed)
    link = status["link"]["opened"], status["pid"]
    outcome.must("it is one link all along, of one pump", link, hold=link == (1, pump))
    bounded = full["udp"] <= TUNNEL_UDP_FLOWS and full["echo"] <= TUNNEL_ECHO_FLOWS
    outcome.must("flows stay within their bounds", full, hold=bounded)
    left = all_gone(bed)
    outcome.must("with the link its flows are gone", left, hold=not any(left.values()))
    must_be_flat(outcome, bed, first, warm, last, seconds=GONE_SECONDS)
    what = f"within {GONE_SECONDS:.0f} s the pump has at most {stock} descriptors more than before"
    outcome.must(what, held, hold=held <= stock)
    return outcome


def run(ground: Ground) -> Outcome:
    bed, site = ground.bed, ground.site
    Dconnect(bed).up("--tun")
    with target_with_ipv6(bed) as six:
        outcome = measure(bed, site, six, ground.scaled(COUNT), random.randrange(1 << 32))
        as_packets = measure(bed, site, six, ground.scaled(COUNT), random.randrange(1 << 32), "--packets")
        return Outcome(outcome.figures | {"with --packets": as_packets.figures}, outcome.bounds + as_packets.bounds)


@contextlib.contextmanager
def target_with_ipv6(bed: Bed) -> Iterator[str]:
    """Its address; the site's target has none."""
    bed.docker("network", "create", "--ipv6", "--subnet=fd00:57::/64", "storm")
    bed.target("storm", network="storm")
    try:
        yield bed.address_of("storm", version=6)
    finally:
        bed.docker("rm", "--force", "storm")
        bed.docker("network", "rm", "storm")
