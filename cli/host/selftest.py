"""Does this host's own resolver give the answers that our name server gives?"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys
import time

from dnslib import QTYPE, DNSError, DNSRecord

from dconnect.cli.host.environment import Environment
from dconnect.cli.host.plans import Wish
from dconnect.core.address import Target
from dconnect.dns.forward import ask_stream

PATIENCE_S = 5.0
"""A resolver that was changed just now may need a moment."""
_PAUSE_S = 0.2
_ANSWER_S = 3.0
_LOOK_UP = """
import json, socket, sys
try:
    print(json.dumps([each[4][0] for each in socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)]))
except OSError as error:
    sys.exit(str(error))
"""
"""Run in a process of its own: libc reads its configuration when a process first asks."""


def check(env: Environment, wish: Wish, patience_s: float = PATIENCE_S) -> list[str]:
    """Sentences about what does not work; none when all does.

    The agent's own name is looked up under each suffix, as any program does it.
    """
    return [sentence for suffix in wish.suffixes for sentence in _check(env, wish, f"dconnect.{suffix}", patience_s)]


def _check(env: Environment, wish: Wish, name: str, patience_s: float) -> list[str]:
    try:
        expected = asyncio.run(_answered(wish.dns, name))
    except (OSError, DNSError):
        return [f"The agent's name server does not answer at {wish.dns}; is it up?"]
    end = time.monotonic() + patience_s
    while True:
        result = env.run((sys.executable, "-P", "-c", _LOOK_UP, name))
        found = {str(ipaddress.ip_address(text)) for text in json.loads(result.output)} if not result.code else set()
        if found == expected and found:
            return []
        if time.monotonic() > end:
            break
        time.sleep(_PAUSE_S)
    wanted = ", ".join(sorted(expected)) or "nothing"
    got = ", ".join(sorted(found)) or f"nothing ({result.output})"
    return [f"{name} is {wanted} by the agent's name server, and {got} by this host's resolver."]


async def _answered(dns: Target, name: str) -> set[str]:
    """The addresses of a name by our own name server; raises OSError or DNSError."""
    found: set[str] = set()
    for kind in ("A", "AAAA"):
        query = bytes(DNSRecord.question(name, kind).pack())
        answer = DNSRecord.parse(await ask_stream(dns.host, dns.port, query, _ANSWER_S))
        found |= {str(ipaddress.ip_address(str(each.rdata))) for each in answer.rr if QTYPE[each.rtype] == kind}
    return found
