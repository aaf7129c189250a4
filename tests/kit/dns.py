"""A resolver over a few containers, asked in dnslib's words."""

from __future__ import annotations

from ipaddress import ip_address

from dnslib import DNSRecord

from dconnect.core.inventory import Container
from dconnect.dns import Resolver, Zone, build
from dconnect.dns.resolver import Elsewhere
from kit.inventories import inventory, network

NETWORKS = (network("n", "10.0.0.0/8"), network("n6", "fd00::/64"))


def zone(*containers: Container) -> Zone:
    """Under ``docker`` and ``docker.test``, on one IPv4 and one IPv6 subnet."""
    return build(inventory(containers, NETWORKS), ("docker", "docker.test"), [ip_address("127.0.0.1")])


def serving(*containers: Container) -> Resolver:
    """A resolver over that zone."""
    resolver = Resolver()
    resolver.publish(zone(*containers))
    return resolver


def query(name: str, qtype: str = "A", ident: int = 0x1234) -> bytes:
    """A plain query with RD."""
    record = DNSRecord.question(name, qtype)
    record.header.id = ident
    return bytes(record.pack())


def respond(resolver: Resolver, message: bytes, *, stream: bool = False) -> bytes | None:
    """What a resolver that does not forward says."""
    answer = resolver.respond(message, stream=stream)
    assert not isinstance(answer, Elsewhere)
    return answer


def asked(resolver: Resolver, message: bytes, *, stream: bool = False) -> DNSRecord:
    """The answer, which must be there and be a message."""
    answer = respond(resolver, message, stream=stream)
    assert answer is not None
    return DNSRecord.parse(answer)
