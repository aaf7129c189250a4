"""What is known of a failed destination, for whoever reads its error page."""

from __future__ import annotations

from dconnect.core.inventory import Container
from dconnect.dns import Stopped, Unknown, Zone
from dconnect.proxy.door import Known


def describe(zone: Zone | None, host: str, address: str) -> Known:
    """``dconnect.proxy.door.Describe`` over a zone: the container at the address, else what the name tells."""
    if zone is None:
        return Known()
    if address:
        return next((_known(each) for each in zone.containers if each.running and _has(each, address)), Known())
    match zone.resolve(host):
        case Stopped(container=name):
            return Known(name)
        case Unknown(candidates=candidates):
            return Known(candidates=candidates)
        case _:
            return Known()


def _has(container: Container, address: str) -> bool:
    return any(address in (endpoint.ipv4, endpoint.ipv6) for endpoint in container.endpoints)


def _known(container: Container) -> Known:
    ports = (text.partition("/") for text in container.ports)
    return Known(container.name, tuple(int(number) for number, _, kind in ports if kind == "tcp" and number.isdigit()))
