"""A name server outside Docker, at the address that the engine's containers ask."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dnslib import AAAA, QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSServer

from bed.namespace import Namespace

DOMAIN = "evil.example"


def name_of(address: str) -> str:
    """The name that leads to an address, whatever it is."""
    return f"{ipaddress.ip_address(address).packed.hex()}.{DOMAIN}"


class _Resolver(BaseResolver):  # type: ignore[misc]  # dnslib ships no types
    """``<hex digits>.evil.example`` has the address of those digits; all else has none."""

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply = request.reply()
        name = request.q.qname
        if str(name).lower().rstrip(".").endswith(DOMAIN):
            address = ipaddress.ip_address(bytes.fromhex(name.label[0].decode()))
            wanted = QTYPE.A if address.version == 4 else QTYPE.AAAA
            if request.q.qtype == wanted:
                record = A(str(address)) if address.version == 4 else AAAA(str(address))
                reply.add_answer(RR(name, wanted, rdata=record, ttl=1))
        return reply


@contextmanager
def name_server(netns: Namespace, address: str | None = None, port: int = 53) -> Iterator[None]:
    """Answer on UDP within the block, on the namespace's own address if nothing else is said."""
    server = DNSServer(_Resolver(), address="127.0.0.1", port=0).server
    server.socket.close()
    server.socket = netns.socket(kind=socket.SOCK_DGRAM)
    server.socket.bind((address or netns.address, port))
    thread = threading.Thread(target=server.serve_forever, name="name server")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
