"""Query bytes to answer bytes over the zone in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import DNS_TURNS
from dconnect.dns.cache import AnswerCache
from dconnect.dns.wire import message
from dconnect.dns.wire.message import (
    BADVERS,
    FORMERR,
    IN,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    RD,
    REFUSED,
    SERVFAIL,
    TYPE_AXFR,
    TYPE_IXFR,
    Query,
    encode,
    encode_header,
    is_truncated,
    parse_query,
)
from dconnect.dns.zone import Answer, NoData, NotOurs, NxDomain, Zone


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another domain's name, for a forwarder to ask."""

    query: Query
    limit: int
    """Bytes that the client takes."""


_STREAM_LIMIT = 65_535
"""What the length before a message over TCP can say."""


@dataclass(slots=True)
class Counters:
    """What a resolver has done since it began. Every query ends as a cache hit or as one of the others."""

    queries: int = 0
    """All that arrived."""
    cache_hits: int = 0
    """Answered with bytes kept from before, whatever the outcome."""
    answered: int = 0
    """With records."""
    nodata: int = 0
    """The name exists without records of that type."""
    nxdomain: int = 0
    """The name does not exist."""
    refused: int = 0
    """Another domain's name, another class, or a zone transfer."""
    forwarded: int = 0
    """Another domain's name, asked elsewhere."""
    not_implemented: int = 0
    """Another opcode or EDNS version."""
    malformed: int = 0
    """Unreadable, answered with FORMERR."""
    dropped: int = 0
    """Left without answer: responses, and what is shorter than a header."""
    not_ready: int = 0
    """SERVFAIL before the first zone."""
    truncated: int = 0
    """Of those answered: too large for UDP, sent with TC."""


class Resolver:
    """Answers queries; keeps no task and no socket."""

    def __init__(self, *, forwards: Callable[[str], bool] | None = None) -> None:
        """``forwards`` says of another domain's name whether it may be asked elsewhere; else all are REFUSED."""
        self._forwards = forwards
        self._encoded = partial(encode, recursion=forwards is not None)
        self.counters = Counters()
        self._zone: Zone | None = None
        self._cache = AnswerCache()
        self._turn = -1

    def publish(self, zone: Zone) -> None:
        """Answer from this zone from now on; kept answers stay where the zone says the same."""
        self._cache.drop(() if self._zone is None else zone.changed(self._zone))
        self._zone = zone

    def respond(self, query: bytes, *, stream: bool = False) -> bytes | Elsewhere | None:
        """The answer to one message.

        Args:
            query: the message, without the length that precedes it over TCP.
            stream: it came over TCP, so the answer may have 65,535 bytes.

        Returns:
            The answer, or what is to be asked elsewhere; None when there must be none (RFC 1035 §4.1.1: a response
            must not be answered).
        """
        counters = self.counters
        counters.queries += 1
        kept = self._cache.get(query)
        if kept is not None and not (stream and is_truncated(kept)):
            counters.cache_hits += 1
            return kept
        if len(query) < message.HEADER_BYTES or message.is_response(query):
            counters.dropped += 1
            return None
        if message.opcode(query):
            counters.not_implemented += 1
            return encode_header(query, NOTIMP)
        try:
            parsed = parse_query(query)
        except MalformedMessage:
            counters.malformed += 1
            return encode_header(query, FORMERR)
        return self._respond(query, parsed, _STREAM_LIMIT if stream else parsed.udp_limit)

    def _respond(self, data: bytes, query: Query, limit: int) -> bytes | Elsewhere:
        counters = self.counters
        if query.edns is not None and query.edns.version:
            counters.not_implemented += 1
            return self._encoded(query, BADVERS)
        if self._zone is None:
            counters.not_ready += 1
            return self._encoded(query, SERVFAIL)
        if query.qclass != IN or query.qtype in (TYPE_AXFR, TYPE_IXFR):
            counters.refused += 1
            return self._encoded(query, REFUSED)
        name = query.name
        found = self._zone.lookup(name, query.qtype)
        if isinstance(found, NotOurs) and query.flags & RD and self._forwards is not None and self._forwards(name):
            counters.forwarded += 1
            return Elsewhere(query, limit)
        answers = self._encode_turns(query, found)
        if len(answers[0]) > limit:
            counters.truncated += 1
            answers = [self._encoded(query, NOERROR, apex=name, truncated=True)]
        # UDP and TCP share what is kept: what is too large for UDP is kept truncated, and TCP passes over that.
        if len(answers[0]) <= query.udp_limit and query.repeatable:
            if isinstance(found, Answer | NoData) and found.lasting:
                self._cache.keep(data, [*answers[1:], answers[0]], name)
            else:
                self._cache.keep_passing(data, answers[0])
        return answers[0]

    def _encode_turns(self, query: Query, found: Answer | NoData | NxDomain | NotOurs) -> list[bytes]:
        """The answer; those that follow when it is asked again, where servers take turns and it will be kept."""
        turning = found.turning if isinstance(found, Answer) else 0
        if not isinstance(found, Answer) or turning < 2:
            return [self._encode(query, found)]
        self._turn += 1
        records = found.records
        turns = [
            (self._turn + number) % turning for number in range(min(turning, DNS_TURNS) if query.repeatable else 1)
        ]
        return [
            self._encode(query, replace(found, records=(*records[at:turning], *records[:at], *records[turning:])))
            for at in turns
        ]

    def _encode(self, query: Query, found: Answer | NoData | NxDomain | NotOurs) -> bytes:
        counters = self.counters
        nameserver = "" if self._zone is None else self._zone.nameserver
        match found:
            case Answer(apex=apex, records=records):
                counters.answered += 1
                return self._encoded(query, NOERROR, records, apex=apex, nameserver=nameserver)
            case NoData(apex=apex):
                counters.nodata += 1
                return self._encoded(query, NOERROR, apex=apex, nameserver=nameserver)
            case NxDomain(apex=apex):
                counters.nxdomain += 1
                return self._encoded(query, NXDOMAIN, apex=apex, nameserver=nameserver)
            case NotOurs():
                counters.refused += 1
                return self._encoded(query, REFUSED)
