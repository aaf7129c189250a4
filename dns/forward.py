"""Other domains' names, asked of the servers that the user or the engine has: a forwarder with a cache.

Spoofing needs the ID, the source port and the client's spelling (RFC 5452): all are new for every question. The
same question is under way once, whoever asks it. Answers are kept as long as their TTLs say, and given for a day
longer when no server can be reached (RFC 8767).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from dconnect.core.address import IPAddress
from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import (
    DNS_FORWARD_CACHE_BYTES,
    DNS_FORWARD_SECONDS,
    DNS_FORWARDS_IN_FLIGHT,
    DNS_LOOP_SECONDS,
    DNS_SERVER_SECONDS,
    DNS_STALE_ANSWER_SECONDS,
    DNS_STALE_SECONDS,
    DNS_STALE_TTL,
    DNS_TTL_MOST,
)
from dconnect.core.tasks import Tasks
from dconnect.dns.wire.message import IN, NOERROR, SERVFAIL, TYPE_TXT, Query, Record, encode
from dconnect.dns.wire.response import Response, encode_for, encode_question, parse_response
from dconnect.dns.wire.stream import frame

LOOP = "loop.dconnect.test"
"""Names below it are asked of a silent server, to see whether it asks us in turn; .test is nobody's (RFC 6761 §6.2)."""

_Key: TypeAlias = tuple[str, int, int, bool, bool, int]


class Server(NamedTuple):
    """Where to ask."""

    address: IPAddress
    port: int = 53

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


@dataclass(slots=True)
class _Kept:
    response: Response
    came: float
    retry: float
    """Not before this is it asked for again: it is fresh until then, or its servers were away just now."""


class Forwarder:
    """Asks others; owns one task for each question under way."""

    def __init__(
        self,
        servers: Sequence[Server],
        instance: str,
        complain: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire it.

        Args:
            servers: the first that answers is preferred from then on.
            instance: one label that no other agent has, the same in all workers of one.
            complain: told, as a sentence, when a server leads back to us.
            clock: seconds; by it answers grow old.
        """
        self.loop_name = f"{instance}.{LOOP}".lower()
        """A question for this name means that a server sends us our own questions."""
        self._servers = list(servers)
        self._complain = complain
        self._now = clock
        self._left_out: dict[Server, float] = {}
        """Servers that lead back to us, and until when they are not asked."""
        self._checking: set[Server] = set()
        self._under_way: dict[_Key, asyncio.Task[Response | None]] = {}
        self._tasks = Tasks()
        self._kept: dict[_Key, _Kept] = {}
        """The longest unused first."""
        self._bytes = 0

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.cancel()

    async def answer(self, query: Query, limit: int) -> bytes:
        """The answer to a client's query, of at most ``limit`` bytes; SERVFAIL when no server gives any."""
        if query.name == self.loop_name:
            return encode(query, NOERROR, (Record(TYPE_TXT, ("loop",)),), recursion=True)
        key = _key(query)
        now = self._now()
        kept = self._fetch(key, now)
        if kept is not None and now < kept.retry:
            return self._given(query, kept, now, limit)
        task = self._under_way.get(key)
        if task is None and len(self._under_way) < DNS_FORWARDS_IN_FLIGHT:
            task = self._under_way[key] = self._tasks.start(self._ask(key, query), "dns forward")
        response = None
        if task is not None:
            patience = DNS_FORWARD_SECONDS if kept is None else DNS_STALE_ANSWER_SECONDS
            _ = await asyncio.wait((task,), timeout=patience)
            response = task.result() if task.done() and not task.cancelled() else None
        if response is not None and (response.final or kept is None):
            return _cut(query, encode_for(query, response, age=0), limit)
        return encode(query, SERVFAIL, recursion=True) if kept is None else self._given(query, kept, now, limit)

    # -- what is kept ------------------------------------------------------------------------

    def _fetch(self, key: _Key, now: float) -> _Kept | None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        if now > kept.came + kept.response.ttl + DNS_STALE_SECONDS:
            self._bytes -= len(kept.response.data)
            return None
        self._kept[key] = kept  # at the end: used last
        return kept

    def _keep(self, key: _Key, response: Response) -> None:
        now = self._now()
        self._forget(key)
        self._kept[key] = _Kept(response, now, now + min(response.ttl, DNS_TTL_MOST))
        self._bytes += len(response.data)
        while self._bytes > DNS_FORWARD_CACHE_BYTES:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: _Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.response.data)

    @staticmethod
    def _given(query: Query, kept: _Kept, now: float, limit: int) -> bytes:
        age = int(now - kept.came)
        stale = age >= min(kept.response.ttl, DNS_TTL_MOST)
        return _cut(query, encode_for(query, kept.response, age=age, least=DNS_STALE_TTL if stale else 0), limit)

    # -- asking ------------------------------------------------------------------------------

    async def _ask(self, key: _Key, query: Query) -> Response | None:
        """Ask one server after the other until one knows; None when none can be reached."""
        try:
            async with asyncio.timeout(DNS_FORWARD_SECONDS):
                response = await self._ask_all(query)
        except TimeoutError:
            response = None
        finally:
            del self._under_way[key]
        if response is not None and response.final:
            if response.ttl:
                self._keep(key, response)
        elif (kept := self._kept.get(key)) is not None:
            kept.retry = self._now() + DNS_STALE_TTL
        return response

    async def _ask_all(self, query: Query) -> Response | None:
        last: Response | None = None
        for server in (*self._servers, *self._servers):  # datagrams get lost: everyone twice
            if self._now() < self._left_out.get(server, 0):
                continue
            try:
                last = await _exchange(server, query)
            except TimeoutError:
                if server not in self._checking:
                    self._checking.add(server)
                    _ = self._tasks.start(self._check(server), "dns loop check")
            except (OSError, MalformedMessage):
                continue
            else:
                if last.final:
                    self._prefer(server)
                    return last
        return last

    def _prefer(self, server: Server) -> None:
        if server != self._servers[0]:
            self._servers.remove(server)
            self._servers.insert(0, server)

    async def _check(self, server: Server) -> None:
        """Leave a server out for a while if it asks us, or is us: then nothing that we ask it is ever answered."""
        probe = Query(0, 0, tuple(self.loop_name.encode().split(b".")), TYPE_TXT, IN, None)
        try:
            if (await _exchange(server, probe)).records:
                if server not in self._left_out:
                    self._complain(f"The name server {server} asks us what we ask it; it is left out (--dns-forward).")
                self._left_out[server] = self._now() + DNS_LOOP_SECONDS
        except (OSError, MalformedMessage):
            pass  # silent again: it is away
        finally:
            self._checking.discard(server)


async def _exchange(server: Server, query: Query) -> Response:
    """One question to one server, by UDP, then by TCP where the answer was cut.

    Raises: OSError or TimeoutError; MalformedMessage.
    """
    family = socket.AF_INET if server.address.version == 4 else socket.AF_INET6
    asked = encode_question(query, int.from_bytes(os.urandom(2), "big"))  # secrets would load OpenSSL
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DNS_SERVER_SECONDS):
        # Connected, so that only the server is heard; its port is chosen by the kernel, at random.
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((str(server.address), server.port))
            sock.send(asked)
            response = None
            while response is None:
                response = parse_response(await loop.sock_recv(sock, 65_535), asked)
    return await _exchange_stream(server, asked) if response.truncated else response


async def ask_stream(host: str, port: int, message: bytes, seconds: float) -> bytes:
    """What a server answers to one message over TCP (RFC 7766), within so many seconds.

    Raises: OSError, TimeoutError among them.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(frame(message))
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None
        finally:
            writer.close()


async def _exchange_stream(server: Server, asked: bytes) -> Response:
    response = parse_response(await ask_stream(str(server.address), server.port, asked, DNS_SERVER_SECONDS), asked)
    if response is None:
        raise MalformedMessage("The server answered another question.")
    return response


def _key(query: Query) -> _Key:
    edns = query.edns
    return (
        query.name,
        query.qtype,
        query.qclass,
        edns is not None,
        edns is not None and edns.dnssec_ok,
        query.flags & 0x30,
    )


def _cut(query: Query, answer: bytes, limit: int) -> bytes:
    """What the client can take; too large, it must come by TCP."""
    return answer if len(answer) <= limit else encode(query, answer[3] & 15, truncated=True, recursion=True)
