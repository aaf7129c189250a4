"""The header in front of every datagram between a SOCKS5 client and its UDP association (RFC 1928 §7)."""

from __future__ import annotations

from dconnect.core.address import IPAddress, Target
from dconnect.core.errors import MalformedMessage
from dconnect.proxy.wire.socks5 import DOMAIN, IPV4, IPV6, UDP_ASSOCIATE, VERSION, parse_request

MAX_HEADER_BYTES = 22
"""Of a header that we write: its address is an IPv6 one at most."""


class Fragmented(MalformedMessage):
    """The datagram is a fragment; whoever does not reassemble must drop it (§7)."""


def parse_header(datagram: memoryview | bytes) -> tuple[bytes, int]:
    """Find the end of the header.

    Wire:    RSV u16 | FRAG u8 = 0 | ATYP u8 | DST.ADDR | DST.PORT u16 big-endian   (RFC 1928 §7)
    Args:    datagram: one whole UDP payload; not copied.
    Returns: (ATYP, DST.ADDR and DST.PORT as sent: equal bytes mean equal destinations, offset of the data).
             RSV is ignored, as in requests.
    Raises:  Fragmented: FRAG is not 0.
             MalformedMessage: truncated, or an unknown ATYP.
    """
    size = len(datagram)
    if size < 5:
        raise MalformedMessage("The datagram is shorter than a SOCKS5 header.")
    if datagram[2]:
        raise Fragmented("The datagram is a fragment, and fragments are not put together.")
    kind = datagram[3]
    if kind == IPV4:
        end = 10
    elif kind == IPV6:
        end = 22
    elif kind == DOMAIN:
        end = 7 + datagram[4]
    else:
        raise MalformedMessage("The datagram has an unknown address type.")
    if size < end:
        raise MalformedMessage("The datagram ends within its SOCKS5 header.")
    return bytes(datagram[3:end]), end


def parse_destination(destination: bytes) -> Target:
    """Read what ``parse_header`` found.

    Wire:    ATYP u8 | DST.ADDR | DST.PORT u16 big-endian   (RFC 1928 §5)
    Raises:  MalformedMessage: port 0, or a domain that is empty or not printable ASCII.
    """
    parsed = parse_request(bytes((VERSION, UDP_ASSOCIATE, 0)) + destination)
    target = parsed[0].target if parsed is not None else None
    if target is None or not target.port:
        raise MalformedMessage("The datagram names no usable destination.")
    return target


def header(address: IPAddress, port: int) -> bytes:
    """Write a header: where the datagram came from.

    Wire:  RSV u16 = 0 | FRAG u8 = 0 | ATYP u8 | DST.ADDR | DST.PORT u16 big-endian   (RFC 1928 §7)
    """
    kind = IPV4 if address.version == 4 else IPV6
    return bytes((0, 0, 0, kind)) + address.packed + port.to_bytes(2)
