"""Services of containers: names for exposed ports, as SRV has them (RFC 2782, RFC 6763 §7).

_80._tcp.web.docker       port 80 of web
_http._tcp.web.docker     the same, by the name that IANA gave the port
_tcp.web.docker           all its TCP ports
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dconnect.core.inventory import Container

_PROTOCOLS = frozenset(("_tcp", "_udp", "_sctp"))

_NUMBERS = {
    "ssh": (22,),
    "smtp": (25,),
    "domain": (53,),
    "http": (80, 8080, 8000),
    "ldap": (389,),
    "https": (443, 8443),
    "mqtt": (1883,),
    "mysql": (3306,),
    "postgresql": (5432,),
    "amqp": (5672,),
    "redis": (6379,),
    "kafka": (9092,),
    "memcache": (11211,),
    "mongodb": (27017,),
}
"""What containers serve, under the names of IANA's registry (redis and kafka have none there), with the ports that
images use for it. Debian's slim images have no /etc/services to ask."""


class Asked(NamedTuple):
    """A name below ``_tcp``, ``_udp`` or ``_sctp``."""

    service: str
    """A number, a name, or empty for all."""
    protocol: str
    host: str
    """The name that has the service, relative as the whole."""

    def ports(self, container: Container) -> Iterator[int]:
        """Those exposed ports of a container that are meant."""
        for text in container.ports:
            span, _, protocol = text.partition("/")
            first, _, last = span.partition("-")
            if protocol == self.protocol:
                for port in range(int(first), min(int(last or first), 65_535) + 1):
                    if not self.service or self.service == str(port) or port in _NUMBERS.get(self.service, ()):
                        yield port


def parse(name: str) -> Asked | None:
    """Take a relative name apart; None when it is no service's."""
    first, _, rest = name.partition(".")
    if first in _PROTOCOLS:
        return Asked("", first[1:], rest) if rest else None
    second, _, host = rest.partition(".")
    return Asked(first[1:], second[1:], host) if second in _PROTOCOLS and first[:1] == "_" and host else None
