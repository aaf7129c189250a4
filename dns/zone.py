"""The zone: what every name means, for proxies (``resolve``), for DNS (``lookup``) and for people (``table``).

Immutable and free of I/O; ``dconnect.dns.build.build`` makes one from an inventory. The two views differ where
their users differ: a proxy's user is told that a container is stopped, DNS knows only what exists now.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

from dconnect.core.address import IPAddress, normal_name
from dconnect.core.inventory import Container, Endpoint, State
from dconnect.core.limits import DNS_SERVICES, NAME_CANDIDATES
from dconnect.dns import services
from dconnect.dns.names import AGENT, Kind, claims, is_valid, strip_suffix
from dconnect.dns.reverse import Reverse
from dconnect.dns.wire.message import (
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    TYPE_NS,
    TYPE_PTR,
    TYPE_SOA,
    TYPE_SRV,
    TYPE_TXT,
    Record,
    Service,
)

_LOOPBACK: tuple[IPAddress, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

# -- what resolve gives ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses in the order in which they should be tried, and whose they are."""

    addresses: tuple[IPAddress, ...]
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The container exists and does not run."""

    container: str
    state: State


@dataclass(frozen=True, slots=True)
class NoAddress:
    """The container runs without an address of its own (network mode host, none or another container's)."""

    container: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No container has the name, or several services share it; the candidates are names that do exist."""

    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent itself."""


@dataclass(frozen=True, slots=True)
class NotOurs:
    """Some other domain's name."""


Resolution: TypeAlias = Found | Stopped | NoAddress | Unknown | Agent | NotOurs

# -- what lookup gives -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """Records of the name."""

    apex: str
    records: tuple[Record, ...]
    lasting: bool
    """The name itself stands in the zone, so ``Zone.changed`` will tell when this is no longer so."""
    turning: int = 0
    """So many records at the front are equally good and take turns to be the first."""


@dataclass(frozen=True, slots=True)
class NoData:
    """The name, or one below it, exists, without records of that type (RFC 2308 §2.2, RFC 8020 §2)."""

    apex: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class NxDomain:
    """Neither the name nor anything below it exists."""

    apex: str


Lookup: TypeAlias = Answer | NoData | NxDomain | NotOurs

# -- the tables ------------------------------------------------------------------------------


class Entry(NamedTuple):
    """What one name means. All its containers run, or none does."""

    containers: tuple[Container, ...]
    addresses: tuple[IPAddress, ...]
    candidates: tuple[str, ...] = ()
    """Non-empty: services of several projects share the name, and it means none of them."""
    turning: frozenset[IPAddress] = frozenset()
    """Of several containers, the addresses of those in good health."""

    @property
    def exists(self) -> bool:
        """Whether DNS knows it."""
        return bool(self.containers) and self.containers[0].running


class Space:
    """Names below one root: the relative ones, or the absolute ones."""

    def __init__(self, entries: Mapping[str, Entry], wildcards: Mapping[str, Entry]) -> None:
        """Keep the tables.

        Args:
            entries: by name.
            wildcards: by the name below which they stand.
        """
        self.entries = entries
        self.wildcards = wildcards
        self.inner: set[str] = set()
        """Names that exist only because something below them does (empty non-terminals)."""
        every = itertools.chain(((f"*.{name}", entry) for name, entry in wildcards.items()), entries.items())
        for name, entry in every:
            if "." in name and entry.exists:
                for parent in parents(name):
                    if parent in self.inner:
                        break
                    self.inner.add(parent)

    def find(self, name: str) -> Entry | None:
        """The entry of a name, by itself or by the wildcard below its closest encloser (RFC 4592 §3.3.1)."""
        entry = self.entries.get(name)
        if entry is not None or name in self.inner:
            return entry
        for parent in parents(name):
            if (wildcard := self.wildcards.get(parent)) is not None:
                return wildcard
            if parent in self.inner or ((above := self.entries.get(parent)) is not None and above.exists):
                return None
        return None

    def covers(self, name: str) -> str | None:
        """The name or the wildcard's parent that makes a name ours; None if nothing does."""
        if name in self.entries:
            return name
        return next((parent for parent in parents(name) if parent in self.wildcards), None)

    def changed(self, other: Space) -> set[str]:
        """Names whose records differ."""
        theirs = other.entries
        differing = {name for name, entry in self.entries.items() if _differ(entry, theirs.get(name))}
        differing.update(name for name in theirs.keys() - self.entries.keys() if theirs[name].exists)
        return differing | (self.inner ^ other.inner)


def parents(name: str) -> Iterator[str]:
    """``b.c`` and ``c`` for ``a.b.c``."""
    dot = name.find(".")
    while dot >= 0:
        yield name[dot + 1 :]
        dot = name.find(".", dot + 1)


def _differ(one: Entry, two: Entry | None) -> bool:
    """Whether DNS answers otherwise from one than from the other."""
    if two is None:
        return one.exists
    return one.exists != two.exists or (one.exists and (one.addresses != two.addresses or one.turning != two.turning))


@dataclass(frozen=True, slots=True)
class Row:
    """One container and all it answers to."""

    id: str
    name: str
    state: State
    names: tuple[str, ...]
    """In full, under the first suffix; the best one first."""
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, eq=False)
class Zone:
    """Names of one inventory."""

    containers: tuple[Container, ...]
    """The users' containers; our own have no names."""
    suffixes: tuple[str, ...]
    """As configured; names are printed under the first."""
    agent_addresses: tuple[IPAddress, ...]
    """Where the host reaches the agent."""
    names: Space
    bare: frozenset[str]
    """Those of the names with dots that proxies take without suffix."""
    domains: Space
    """Absolute names from labels."""
    reverse: Reverse

    @cached_property
    def nameserver(self) -> str:
        """The primary server named in SOA and NS."""
        return f"{AGENT}.{self.suffixes[0]}"

    @cached_property
    def _suffixes(self) -> tuple[str, ...]:
        """Longest first: with ``docker`` and ``x.docker``, a name below the latter is the latter's."""
        return tuple(sorted(self.suffixes, key=len, reverse=True))

    # -- for proxies -------------------------------------------------------------------------

    def resolve(self, host: str) -> Resolution:
        """What a host in a proxy request means: under a suffix, bare, or a domain from a label; any case."""
        host = normal_name(host)
        relative = strip_suffix(host, self._suffixes)
        if relative:
            return Agent() if relative == AGENT else self._resolution(self.names, relative)
        if host == AGENT:
            return Agent()
        if "." not in host or host in self.bare:
            return self._resolution(self.names, host)  # one label never leaves: it would be a search for a TLD
        return NotOurs() if self.domains.covers(host) is None else self._resolution(self.domains, host)

    def name_of(self, address: IPAddress) -> str | None:
        """The name of the running container at an address, in full; the first of several."""
        names = self.reverse.targets(address.reverse_pointer)
        return f"{names[0]}.{self.suffixes[0]}" if names else None

    def _resolution(self, space: Space, name: str) -> Resolution:
        entry = space.find(name)
        if entry is None:
            return Unknown(self._similar(name))
        if entry.candidates:
            return Unknown(entry.candidates)
        first = entry.containers[0]
        if not entry.exists:
            return Stopped(first.name, first.state)
        return Found(entry.addresses, entry.containers) if entry.addresses else NoAddress(first.name)

    def _similar(self, name: str) -> tuple[str, ...]:
        """Services of a project with that name, else names spelled almost like it."""
        within = {f"{each.service}.{name}" for each in self.containers if each.service and each.project == name}
        if within:
            return tuple(sorted(within)[:NAME_CANDIDATES])
        known = {text: None for each in self.containers for text in (each.name, each.service)}
        # difflib costs 10 µs a comparison: only with names of about that length that begin alike.
        close = (text for text in known if text[:1] == name[:1] and abs(len(text) - len(name)) <= 2)
        return tuple(difflib.get_close_matches(name, list(itertools.islice(close, 200)), cutoff=0.75))

    # -- for DNS -----------------------------------------------------------------------------

    def lookup(self, name: str, qtype: int) -> Lookup:
        """What a name has in class IN.

        Args:
            name: in full, lower-case, without trailing dot (``wire.message.Query.name``).
            qtype: a record type, or ANY, which gives all records there are (RFC 8482 §4.1 allows any subset).
        """
        relative = strip_suffix(name, self._suffixes)
        if relative is not None:
            apex = name[len(relative) + 1 :] if relative else name
            if relative == AGENT:
                return _typed(apex, _address_records(self.agent_addresses), qtype, lasting=True)
            return self._lookup(self.names, relative, apex, qtype, name)
        covering = None if name in self.bare else self.domains.covers(name)  # bare, it means another to proxies
        if covering is not None:
            return self._lookup(self.domains, name, covering, qtype, name)
        top = name.rpartition(".")[2]
        if top == "localhost":  # RFC 6761 §6.3: every server knows it
            return _typed(top, _address_records(_LOOPBACK), qtype, lasting=False)
        if top == "invalid":  # RFC 6761 §6.4: and that nothing in it exists
            return NxDomain(top)
        return self._lookup_reverse(name, qtype)

    def _lookup(self, space: Space, key: str, apex: str, qtype: int, name: str) -> Lookup:
        records = self._at_apex(apex) if name == apex else ()
        entry = space.find(key)
        if key[:1] == "_" and entry is None and (asked := services.parse(key)) is not None:
            return self._lookup_service(space.find(asked.host), asked, apex, qtype)
        if entry is not None and entry.exists:
            if qtype == TYPE_TXT:  # image and health change without notice to ``changed``
                return Answer(apex, _text_records(entry.containers), lasting=False)
            records += _address_records(entry.addresses)
        elif key and key not in space.inner:  # no key: the suffix itself
            return NxDomain(apex)
        found = _typed(apex, records, qtype, lasting=key in space.entries or key in space.inner)
        if entry is not None and entry.turning and isinstance(found, Answer):
            return replace(found, turning=sum(each.data in entry.turning for each in found.records))
        return found

    def _lookup_service(self, entry: Entry | None, asked: services.Asked, apex: str, qtype: int) -> Lookup:
        """SRV of exposed ports; each container is named as itself, since its ports are its own."""
        found = () if entry is None or not entry.exists else entry.containers
        servers = (
            Record(TYPE_SRV, Service(each.ailing, port, f"{own_name(each, self.names)}.{self.suffixes[0]}"))
            for each in sorted(found, key=lambda each: each.ailing)
            for port in asked.ports(each)
        )
        records = tuple(itertools.islice(servers, DNS_SERVICES))
        return _typed(apex, records, qtype, lasting=False) if records else NxDomain(apex)

    def _lookup_reverse(self, name: str, qtype: int) -> Lookup:
        apex = self.reverse.apex(name)
        if apex is None:
            return NotOurs()
        targets = self.reverse.targets(name)
        records = tuple(Record(TYPE_PTR, f"{target}.{self.suffixes[0]}") for target in targets)
        if name == apex:
            records += self._at_apex(apex)
        if not records and name not in self.reverse.inner:
            return NxDomain(apex)
        return _typed(apex, records, qtype, lasting=bool(targets))

    def _at_apex(self, apex: str) -> tuple[Record, ...]:
        """What every zone has at its top (RFC 1034 §4.2.1)."""
        return Record(TYPE_SOA, apex), Record(TYPE_NS, self.nameserver)

    def changed(self, other: Zone) -> frozenset[str]:
        """Full names that DNS answers differently from two zones; of lasting answers, all that differ."""
        relative = self.names.changed(other.names)
        if self.agent_addresses != other.agent_addresses:
            relative.add(AGENT)
        if self.suffixes != other.suffixes:
            relative.update(self.names.entries, other.names.entries, self.names.inner, other.names.inner, (AGENT,))
        return frozenset(
            itertools.chain(
                (f"{name}.{suffix}" for name in relative for suffix in {*self.suffixes, *other.suffixes}),
                self.domains.changed(other.domains),
                self.bare ^ other.bare,
                self.reverse.changed(other.reverse),
            )
        )

    # -- for people --------------------------------------------------------------------------

    def table(self) -> tuple[Row, ...]:
        """Every container of the user's, sorted by name."""
        return self._table

    @cached_property
    def _table(self) -> tuple[Row, ...]:
        return tuple(
            Row(each.id, each.name, each.state, self._printed(each), each.endpoints)
            for each in sorted(self.containers, key=lambda each: (each.name, each.id))
        )

    def _printed(self, container: Container) -> tuple[str, ...]:
        """The names that mean this container (alone or among others), without the full id."""
        printed: dict[str, None] = {}
        for claim in sorted(claims(container, self._suffixes), key=lambda claim: claim.kind == Kind.ID):
            if claim.name == container.id or (claim.absolute and claim.name in self.bare):
                continue
            space = self.domains if claim.absolute else self.names
            wild = claim.name.startswith("*.")
            entry = space.wildcards.get(claim.name[2:]) if wild else space.entries.get(claim.name)
            if entry is not None and any(each is container for each in entry.containers):
                printed[claim.name if claim.absolute else f"{claim.name}.{self.suffixes[0]}"] = None
        return tuple(printed)


def own_name(container: Container, names: Space) -> str:
    """The relative name that means this container alone: its own, or its short id where that is not to be had."""
    name = normal_name(container.name)
    entry = names.entries.get(name)
    own = entry is not None and entry.containers == (container,) and is_valid(name) and len(name) <= 63
    return name if own else container.short_id


def _text_records(containers: Iterable[Container]) -> tuple[Record, ...]:
    """What somebody wants to know of each container, as ``key=value`` (RFC 1464)."""
    return tuple(
        Record(
            TYPE_TXT,
            tuple(
                f"{key}={value}"
                for key, value in (
                    ("container", each.name),
                    ("image", each.image),
                    ("health", each.health),
                    ("project", each.project),
                    ("service", each.service),
                )
                if value
            ),
        )
        for each in containers
    )


def _address_records(addresses: Iterable[IPAddress]) -> tuple[Record, ...]:
    return tuple(Record(TYPE_A if isinstance(each, IPv4Address) else TYPE_AAAA, each) for each in addresses)


def _typed(apex: str, records: tuple[Record, ...], qtype: int, *, lasting: bool) -> Answer | NoData:
    wanted = records if qtype == TYPE_ANY else tuple(record for record in records if record.type == qtype)
    return Answer(apex, wanted, lasting) if wanted else NoData(apex, lasting)
