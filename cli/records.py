"""``dconnect dns --type``: a name's records as the name server gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from dnslib import QTYPE, RCODE, DNSError, DNSRecord
from dnslib.label import DNSLabelError

from dconnect.cli.sources import Source
from dconnect.core.address import normal_name, parse_ip
from dconnect.core.errors import DconnectError, NameUnknown, UsageError


def number_of(kind: str) -> int:
    """The number of a record type that a person wrote: ``srv``, ``TYPE65``.

    Raises: UsageError.
    """
    text = kind.upper()
    known = {name: number for number, name in QTYPE.forward.items()}
    with contextlib.suppress(ValueError):
        number = known.get(text) or (int(text.removeprefix("TYPE")) if text.startswith("TYPE") else 0)
        if 0 < number < 1 << 16:
            return int(number)
    raise UsageError(f"--type {kind!r} is no record type such as A, AAAA, PTR, SRV, TXT or ANY.")


async def records(source: Source, name: str, kind: int) -> list[dict[str, Any]]:
    """Records of that type; those of another may come before (CNAME).

    Raises: NameUnknown; DconnectError when there are none, or no answer; UsageError for what is no name.
    """
    shown = QTYPE.forward.get(kind, f"TYPE{kind}")
    for full in _candidates(name, source.suffixes):
        try:
            query = DNSRecord.question(full, shown) if kind in QTYPE.forward else _question(full, kind)
            message = bytes(query.pack())
        except (DNSError, DNSLabelError, UnicodeError, ValueError):
            raise UsageError(f"{name!r} cannot be written as a domain name.") from None
        answer = _parsed(await source.ask(message))
        code = answer.header.rcode
        if code == RCODE.NOERROR and answer.rr:
            return [_record(full, each) for each in answer.rr]
        if code == RCODE.NOERROR:
            raise DconnectError(f"{full} exists and has no {shown} record.")
        if code not in (RCODE.NXDOMAIN, RCODE.REFUSED):
            raise DconnectError(
                f"The name server could not answer for {full} ({RCODE.forward.get(code, code)}); see `dconnect status`."
            )
    raise NameUnknown(f"No container is called {name}; dconnect dns lists all names.")


def _parsed(message: bytes) -> DNSRecord:
    try:
        return DNSRecord.parse(message)
    except (DNSError, ValueError) as error:
        raise DconnectError(f"The name server's answer cannot be read ({error}); try dig.") from error


def _question(name: str, kind: int) -> DNSRecord:
    query = DNSRecord.question(name)
    query.q.qtype = kind
    return query


def _candidates(name: str, suffixes: Sequence[str]) -> Iterator[str]:
    """A name in full; one without suffix means a container's first, like in proxies."""
    address = parse_ip(name)
    if address is not None:
        yield address.reverse_pointer
        return
    name = normal_name(name)
    if not any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes):
        yield f"{name}.{suffixes[0]}"
    yield name


def _record(name: str, record: Any) -> dict[str, Any]:
    kind = QTYPE.forward.get(record.rtype, f"TYPE{record.rtype}")
    return {"name": name, "type": kind, "ttl": record.ttl, "data": str(record.rdata)}
