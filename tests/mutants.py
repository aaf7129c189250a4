"""The faults that ``make mutants`` plants; ``mutate.py`` does it.

Each stands for a mistake that this field makes, or that we made; the tests named with it must notice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: in ``file``, ``old`` (which stands there once) becomes ``new``; ``tests`` must notice."""

    file: str
    old: str
    new: str
    tests: str


HTTP = " ".join(
    f"tests/conformance/proxy/test_http_{part}.py" for part in ("exchanges", "leaving", "messages", "targets")
)
UDP = "tests/conformance/proxy/test_rfc1928_udp.py"

LEAVING = "tests/conformance/proxy/test_leaving.py tests/unit/proxy/test_unless_cut.py"
PAGES = "tests/unit/proxy/test_pages.py tests/conformance/proxy/test_error_pages.py"

MUTANTS = (
    Mutant(
        "agent/supervisor.py",
        "if child.pid == pid:",
        "if child.pid == -pid:",
        "tests/unit/agent/test_supervisor.py",
    ),
    Mutant("agent/supervisor.py", "setpgroup=0", "setpgroup=os.getpgid(0)", "tests/unit/agent/test_supervisor.py"),
    Mutant(
        "agent/supervisor.py",
        "(len(self._asked) > 1 or now > self._deadline)",
        "now > self._deadline",
        "tests/unit/agent/test_supervisor.py",
    ),
    Mutant("agent/dialer.py", "style | socket.SOCK_NONBLOCK | ", "style | ", "tests/unit/agent/test_dialer.py"),
    Mutant("agent/dialer.py", "min(request[1], MAX_DESCRIPTORS)", "request[1]", "tests/unit/agent/test_dialer.py"),
    Mutant("agent/sockets.py", "        self._asked.clear()\n", "", "tests/unit/agent/test_sockets.py"),
    Mutant(
        "agent/sockets.py",
        "            self._fail(kind, message[1] or errno.EMFILE)\n",
        "            pass\n",
        "tests/unit/agent/test_sockets.py",
    ),
    Mutant(
        "agent/sockets.py",
        """        return stays_on_machine(await self._take(_UDP[address.version]), address)
""",
        """        self._probe = getattr(self, "_probe", None) or await self._take(_UDP[address.version])
        return stays_on_machine(self._probe.dup(), address)
""",
        "tests/unit/agent/test_sockets.py",
    ),
    Mutant("agent/stderr.py", "ready.poll(0)", "True", "tests/unit/agent/test_stderr.py"),
    Mutant("agent/names.py", "await self._slots.acquire()", "pass", "tests/unit/agent/test_names.py"),
    Mutant(
        "agent/dialing.py",
        "_label(existing, labels.LABEL_ROLE) != labels.ROLE_DIALER",
        "False",
        "tests/unit/agent/test_dialing.py",
    ),
    Mutant(
        "agent/dialing.py",
        'while self.strategy.name != "engine-netns" and self._sockets.connected:',
        'if self.strategy.name != "engine-netns":',
        "tests/unit/agent/test_dialing.py",
    ),
    Mutant(
        "agent/links.py",
        "[self.serial] * self.workers",
        "[self.serial] * len(serials)",
        "tests/unit/agent/test_links.py",
    ),
    Mutant(
        "agent/links.py",
        "link.served == link.sent < self.serial",
        "link.sent < self.serial",
        "tests/unit/agent/test_links.py",
    ),
    Mutant(
        "agent/worker.py",
        "            raise not_informed()\n",
        "            return Policy(Inventory(), 'allow')\n",
        "tests/unit/agent/test_worker.py",
    ),
    Mutant("agent/worker.py", "self._serial = -1  #", "#", "tests/unit/agent/test_worker.py"),
    Mutant("dns/names.py", "claim.name not in _RESERVED and ", "", "tests/unit/dns/test_names.py"),
    Mutant(
        "dns/names.py",
        'self.name.count(".") == _COMPOSITES.get(self.kind)',
        "self.kind in _COMPOSITES",
        "tests/unit/dns/test_resolve.py",
    ),
    Mutant("dns/build.py", "kind if entry.exists else kind + _STOPPED", "int(kind)", "tests/unit/dns/test_resolve.py"),
    Mutant(
        "dns/zone.py",
        " or ((above := self.entries.get(parent)) is not None and above.exists)",
        "",
        "tests/unit/dns/test_lookup.py",
    ),
    Mutant("dns/zone.py", "None if name in self.bare else ", "", "tests/unit/dns/test_resolve.py"),
    Mutant("dns/zone.py", "                self.bare ^ other.bare,\n", "", "tests/unit/dns/test_lookup.py"),
    Mutant("dns/reverse.py", "inside.prefixlen < subnet.prefixlen", "False", "tests/unit/dns/test_lookup.py"),
    Mutant("dns/cache.py", "return query[:2] + cast(", "return key[:2] + cast(", "tests/unit/dns/test_cache.py"),
    Mutant("dns/cache.py", "answer.rotate(-1)", "answer.rotate(0)", "tests/unit/dns/test_cache.py"),
    Mutant("dns/resolver.py", " and not (stream and is_truncated(kept))", "", "tests/unit/dns/test_resolver.py"),
    Mutant("dns/resolver.py", "len(answers[0]) <= query.udp_limit and ", "", "tests/unit/dns/test_resolver.py"),
    Mutant("dns/resolver.py", "self._turn += 1", "self._turn = 0", "tests/conformance/dns/test_turns.py"),
    Mutant("dns/zone.py", " or one.turning != two.turning", "", "tests/conformance/dns/test_turns.py"),
    Mutant(
        "dns/build.py",
        "self._of(each.endpoints, each.ailing)",
        "self._of(each.endpoints, 0)",
        "tests/conformance/dns/test_turns.py",
    ),
    Mutant(
        "dns/zone.py",
        "_text_records(entry.containers), lasting=False",
        "_text_records(entry.containers), lasting=True",
        "tests/conformance/dns/test_services.py",
    ),
    Mutant("dns/wire/response.py", "data[:2] != asked[:2] or ", "", "tests/conformance/dns/test_forwarding.py"),
    Mutant(
        "dns/wire/response.py",
        "if data[HEADER_BYTES:end] != asked[HEADER_BYTES:end]:",
        "if False:",
        "tests/conformance/dns/test_forwarding.py",
    ),
    Mutant(
        "dns/forward.py",
        'int.from_bytes(os.urandom(2), "big")',
        "query.id",
        "tests/conformance/dns/test_forwarding.py",
    ),
    Mutant(
        "dns/forward.py",
        "if response.truncated else response",
        "if False else response",
        "tests/conformance/dns/test_forwarding.py",
    ),
    Mutant("dns/forward.py", "await self._check(server)", "continue", "tests/conformance/dns/test_forwarding.py"),
    Mutant(
        "dns/forward.py", "least=DNS_STALE_TTL if stale else 0", "least=0", "tests/conformance/dns/test_forwarding.py"
    ),
    Mutant(
        "dns/forward.py", "task = self._under_way.get(key)", "task = None", "tests/conformance/dns/test_forwarding.py"
    ),
    Mutant(
        "dns/services.py", "if protocol == self.protocol:", "if protocol:", "tests/conformance/dns/test_services.py"
    ),
    Mutant("dns/names.py", "value.strip().lower() in _TRUE", "value", "tests/unit/dns/test_names.py"),
    Mutant(
        "dns/server.py", "if not self.admits(plain_address(peer[0])):", "if False:", "tests/unit/dns/test_server.py"
    ),
    Mutant(
        "dns/wire/message.py",
        "if offset - HEADER_BYTES > 254:",
        "if offset - HEADER_BYTES > 255:",
        "tests/unit/dns/test_dns_message.py",
    ),
    Mutant(
        "proxy/policy.py",
        "address = canonical(address)\n        if address in self._containers",
        "if address in self._containers",
        "tests/unit/proxy/test_policy.py",
    ),
    Mutant(
        "proxy/policy.py",
        "return address not in self._containers and not any",
        "return not any",
        "tests/unit/proxy/test_policy.py",
    ),
    Mutant("proxy/policy.py", "if len(self._known) < KNOWN_PEERS:", "if True:", "tests/unit/proxy/test_policy.py"),
    Mutant("proxy/wire/socks5.py", "len(buffer) < end + 2", "len(buffer) < end", "tests/unit/proxy/test_socks5.py"),
    Mutant("proxy/wire/socks5.py", "IPV4 if address.version == 4 else IPV6", "IPV4", "tests/unit/proxy/test_socks5.py"),
    Mutant("proxy/wire/http1.py", "if head.minor == 0 or codings", "if codings", "tests/unit/proxy/test_http1.py"),
    Mutant("proxy/wire/http1.py", "if len(lengths) > 1 or not", "if not", "tests/unit/proxy/test_http1.py"),
    Mutant(
        "proxy/wire/http1.py",
        ' - {b"transfer-encoding", b"content-length", b"host"}',
        "",
        "tests/unit/proxy/test_http1.py",
    ),
    Mutant("proxy/wire/chunked.py", 'if b"\\r" in line:', "if False:", "tests/unit/proxy/test_chunked.py"),
    Mutant("proxy/wire/chunked.py", "left -= len(line)", "left -= 0", "tests/unit/proxy/test_chunked.py"),
    Mutant("proxy/wire/sniff.py", " or first in _CR_LF", "", "tests/unit/proxy/test_sniff.py"),
    Mutant(
        "proxy/relay/splice.py",
        " and filled < conduit.slots and not not_dry",
        " and not not_dry",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant(
        "proxy/relay/splice.py",
        " and filled < conduit.slots and not not_dry",
        " and filled < conduit.slots",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant("proxy/relay/splice.py", "side.reset()", "side.close()", "tests/conformance/proxy/test_relay.py"),
    Mutant(
        "proxy/relay/splice.py",
        "            direction.sink.tell_writable()\n",
        "",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant(
        "proxy/poller.py",
        "        self.tell_writable()\n",
        "",
        "tests/conformance/proxy",
    ),
    Mutant("agent/worker.py", "    no_tls.pretend()\n", "    pass\n", "tests/unit/agent/test_no_tls.py"),
    Mutant(
        "agent/links.py",
        "        if question not in link.asked:\n",
        "        if True:\n",
        "tests/unit/agent/test_links.py",
    ),
    Mutant("agent/tally.py", "before.get(name, 0))", "0)", "tests/unit/agent/test_tally.py"),
    Mutant(
        "agent/tally.py",
        "_sum(self._former, self._latest.pop(oldest))",
        "self._latest.pop(oldest)",
        "tests/unit/agent/test_tally.py",
    ),
    Mutant("agent/metrics.py", "accumulate(", "iter(", "tests/unit/agent/test_metrics.py"),
    Mutant("proxy/guests.py", "if not session.target:", "if False:", "tests/conformance/proxy/test_limits.py"),
    Mutant(
        "proxy/frontdoor.py",
        "if not self._backlog.poll(0):",
        "if False:",
        "tests/conformance/proxy/test_limits.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "client.channel.reset()  # what",
        "client.channel.close()  # what",
        "tests/conformance/proxy/test_limits.py",
    ),
    Mutant(
        "agent/sockets.py",
        " or flags & socket.MSG_CTRUNC",
        "",
        "tests/unit/agent/test_sockets.py",
    ),
    Mutant("agent/worker.py", "cpus[index::workers]", "cpus", "tests/unit/agent/test_worker.py"),
    Mutant("core/address.py", "return address.ipv4_mapped", "return address", "tests/unit/core/test_address.py"),
    Mutant("core/address.py", "1 <= int(port) <= 65535", "int(port) <= 65535", "tests/unit/core/test_address.py"),
    Mutant("core/config.py", "len(suffix) > 200 or ", "", "tests/unit/core/test_config.py"),
    Mutant("core/config.py", '"0.0.0.0": "127.0.0.1", ', "", "tests/unit/core/test_config.py"),
    Mutant("core/failure.py", "Outcome(6, 504, None)", "Outcome(4, 504, None)", "tests/unit/core/test_failure.py"),
    Mutant("core/inventory.py", "            if container.running\n", "", "tests/unit/core/test_inventory.py"),
    Mutant("core/inventory.py", 'in ("running", "paused")', 'in ("running",)', "tests/unit/core/test_inventory.py"),
    Mutant("core/tasks.py", "await asyncio.wait(tasks)", "pass", "tests/unit/core/test_tasks.py"),
    Mutant("core/tasks.py", "not task.cancelled() and ", "", "tests/unit/core/test_tasks.py"),
    # A handshake may come in pieces: one read is not one message.
    Mutant("proxy/wire/socks5.py", "if len(buffer) < 2 + count:", "if False:", "tests/unit/proxy/test_socks5.py"),
    Mutant("proxy/wire/http1.py", 'rb"):([^', 'rb")[ \\t]*:([^', "tests/unit/proxy/test_http1.py"),
    Mutant(
        "proxy/wire/http1.py",
        '_end_to_end(head.fields, {b"host"})',
        "_end_to_end(head.fields, set())",
        HTTP,
    ),
    Mutant("proxy/wire/http1.py", '        b"proxy-authorization",\n', "", "tests/unit/proxy/test_http1.py"),
    # Success is told after the connect, whatever its outcome.
    Mutant(
        "proxy/socks.py",
        "upstream = await door.dial(target, session)\n",
        "await client.channel.send(socks5.reply(0)); upstream = await door.dial(target, session)\n",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/http.py",
        "upstream = await door.dial(target, session)\n",
        'await client.channel.send(b"HTTP/1.1 200 OK\\r\\n\\r\\n"); upstream = await door.dial(target, session)\n',
        HTTP,
    ),
    # Every failure has a code of its own.
    Mutant(
        "proxy/socks.py",
        "socks5.reply(failure.value.socks5_rep)",
        "socks5.reply(socks5.GENERAL_FAILURE)",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/http.py",
        "status, sentence = error.failure.value.http_status, str(error)",
        "status, sentence = 502, str(error)",
        HTTP,
    ),
    # A refused method is two bytes, not a whole reply; and only what is offered is selected.
    Mutant(
        "proxy/socks.py",
        "socks5.greeting_reply(socks5.NO_ACCEPTABLE_METHOD)",
        "socks5.reply(socks5.NO_ACCEPTABLE_METHOD)",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/socks.py",
        "if method in methods:",
        "if methods:",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/socks.py",
        "socks5.reply(socks5.SUCCEEDED, bound)",
        "socks5.reply(socks5.SUCCEEDED)",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/socks.py",
        "socks5.reply(socks5.COMMAND_NOT_SUPPORTED)",
        "socks5.reply(socks5.GENERAL_FAILURE)",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant("proxy/socks.py", "if client.buffer:  #", "if False:  #", "tests/conformance/proxy/test_rfc1928.py"),
    Mutant(
        "proxy/http.py",
        "        if client.buffer:\n            await upstream.send(client.buffer)",
        "        if client.buffer and False:\n            await upstream.send(client.buffer)",
        HTTP,
    ),
    Mutant(
        "proxy/http.py",
        "asked is None or asked.host not in ours",
        "asked is None",
        HTTP,
    ),
    # A kept connection serves only the host it was opened for, and only while the name leads there.
    Mutant(
        "proxy/upstreams.py",
        "stream = self._idle.pop(target, None)",
        "stream = self._idle.pop(next(iter(self._idle), None), None)",
        HTTP,
    ),
    Mutant(
        "proxy/upstreams.py",
        " and (target is None or await self._dial.still_right(target, stream.channel))",
        "",
        "tests/unit/proxy/test_dial.py",
    ),
    Mutant("proxy/exchange.py", " and head.method in _IDEMPOTENT", "", HTTP),
    Mutant(
        "proxy/exchange.py",
        "            client.reset()\n",
        "            client.finish()\n",
        HTTP,
    ),
    Mutant(
        "proxy/exchange.py",
        "            upstream.reset()  #",
        "            upstream.finish()  #",
        HTTP,
    ),
    Mutant("proxy/policy.py", '"0.0.0.0/8"', '"192.0.2.0/24"', "tests/unit/proxy/test_policy.py"),
    Mutant("proxy/policy.py", '"169.254.0.0/16"', '"192.0.2.0/24"', "tests/unit/proxy/test_policy.py"),
    Mutant(
        "proxy/policy.py",
        'if address in self._gateways:\n            return "the engine',
        'if False:\n            return "the engine',
        "tests/unit/proxy/test_policy.py",
    ),
    # The policy judges what is dialed, and judges it before.
    Mutant(
        "proxy/dial.py",
        "            if objection:\n",
        "            if objection and False:\n",
        "tests/unit/proxy/test_dial.py",
    ),
    Mutant("proxy/dial.py", "addresses))[:MAX_ATTEMPTS]", "addresses))[:1]", "tests/unit/proxy/test_dial.py"),
    Mutant(
        "proxy/frontdoor.py",
        "if not self._admits(address[0]):",
        "if False:",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "            client.channel.deadline(HANDSHAKE_SECONDS)\n",
        "",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "if self._clients >= self._max_clients:",
        "if False:",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "                client.close()\n",
        "                pass\n",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    # A relay ends when both directions have ended, and carries each end on.
    Mutant(
        "proxy/relay/splice.py",
        "if self._up.shut and self._down.shut:",
        "if self._up.shut or self._down.shut:",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant("proxy/relay/splice.py", "        direction.sink.finish()\n", "", "tests/conformance/proxy/test_relay.py"),
    Mutant(
        "proxy/relay/splice.py",
        "self._pool.give_back(conduit, held)",
        "self._pool.give_back(conduit)",
        "tests/unit/proxy/test_relay_reset.py",
    ),
    # EPERM: the user's pipes are many already, and this one stays as small as it is.
    Mutant(
        "proxy/relay/pipes.py",
        "contextlib.suppress(OSError)",
        "contextlib.suppress(ValueError)",
        "tests/unit/proxy/test_relay_reset.py",
    ),
    Mutant(
        "proxy/relay/pipes.py",
        "        except OSError:\n            return Buffer()",
        "        except ValueError:\n            return Buffer()",
        "tests/conformance/proxy/test_relay.py",
    ),
    # Who has only just come is not silent, and who was answered last has been silent shortest.
    Mutant("proxy/guests.py", "< self._patience:", "< 0:", "tests/conformance/proxy/test_limits.py"),
    Mutant(
        "proxy/guests.py",
        "min(FRESH_SECONDS, places / LISTEN_BACKLOG)",
        "FRESH_SECONDS",
        "tests/unit/proxy/test_guests.py",
    ),
    Mutant("proxy/guests.py", "        self.pop(client, None)\n", "", "tests/conformance/proxy/test_limits.py"),
    # A dial ends with its client's RST, wherever it waits, and not with its FIN.
    Mutant("proxy/fiber.py", "            self._fiber.cancel()\n", "            pass\n", LEAVING),
    Mutant("proxy/fiber.py", "if self._client.is_cut and not self._told", "if not self._told", LEAVING),
    Mutant("proxy/fiber.py", "            if self._client.is_cut:\n", "            if False:\n", LEAVING),
    Mutant("proxy/fiber.py", "self._told and self._fiber is not None and", "self._fiber is not None and", LEAVING),
    Mutant("proxy/fiber.py", "            self._client.on_hangup = None\n", "            pass\n", LEAVING),
    Mutant("proxy/race.py", "            with UnlessCut():\n", "            if True:\n", LEAVING),
    Mutant("proxy/poller.py", "            with UnlessCut():\n", "            if True:\n", LEAVING),
    Mutant("agent/names.py", "            with UnlessCut():\n", "            if True:\n", LEAVING),
    Mutant("agent/sockets.py", "                with UnlessCut():\n", "                if True:\n", LEAVING),
    # Error pages: for people, escaped, bounded, and true about what listens.
    Mutant(
        "proxy/pages.py", "safe = html.escape(character)", "safe = character", f"{PAGES} tests/fuzz/test_fuzz_pages.py"
    ),
    Mutant("proxy/pages.py", "if character.isprintable()", "if True", PAGES),
    Mutant("proxy/pages.py", "        if room < 0:\n", "        if False:\n", PAGES),
    Mutant("proxy/pages.py", "for port in ports[:PAGE_PORTS]:", "for port in ports:", PAGES),
    Mutant("proxy/pages.py", "(found.silent if tried else found.untried)", "found.listens", PAGES),
    Mutant("proxy/http.py", "if head is None or not http1.prefers_html(head.fields):", "if head is None:", PAGES),
    Mutant("agent/missing.py", "request.rel_url.raw_path", "request.path", "tests/unit/agent/test_missing.py"),
    Mutant("proxy/wire/http1.py", 'weights[b"text/html"] > 0 and ', "", PAGES),
    # A name is what it is now.
    Mutant(
        "dns/resolver.py",
        "self._cache.drop(() if self._zone is None else zone.changed(self._zone))",
        "pass",
        "tests/unit/dns/test_resolver.py",
    ),
    # UDP: an answer is from whom it says, a source has one association, and only what may be reached is.
    Mutant(
        "proxy/flow.py",
        "self._permitted.get(peer[:2])",
        "self._permitted.get(peer[:2]) or next(iter(self._permitted.values()), None)",
        UDP,
    ),
    Mutant("proxy/flow.py", " or route.policy is not port.policy()", "", UDP),
    Mutant("proxy/flow.py", "len(self._held) >= UDP_LOOKUPS_PER_SOURCE or ", "", UDP),
    Mutant("proxy/flow.py", "        self._permitted.pop(route.peer, None)\n", "", UDP),
    Mutant(
        "proxy/associate.py",
        "self._hosts.get(source[0])",
        "next(iter(self._hosts.values()), None)",
        UDP,
    ),
    Mutant(
        "proxy/associate.py",
        """            if association.flow is None:
                break
""",
        """            break
""",
        UDP,
    ),
    Mutant(
        "proxy/associate.py",
        """        if not host.associations:
            for flow in tuple(host.flows):
                self._forget(flow)
""",
        """        for flow in tuple(host.flows):
            self._forget(flow)
        if not host.associations:
""",
        UDP,
    ),
    Mutant(
        "proxy/associate.py",
        """            if association.flow is flow:
                association.flow = None
""",
        """            pass
""",
        UDP,
    ),
    Mutant("proxy/associate.py", "if mask & HANGUP ", "if mask & 8 ", UDP),
    Mutant("proxy/wire/udp.py", "    if datagram[2]:", "    if datagram[2] & 0x80:", "tests/unit/proxy/test_udp.py"),
    Mutant(
        "proxy/dial.py",
        """                await self._allow(target, address)
            except""",
        """                pass
            except""",
        UDP,
    ),
    # The other worker has the socket still: without this its events go on coming here.
    Mutant(
        "proxy/poller.py",
        "        self._epoll.unregister(channel.fd)\n",
        "",
        "tests/unit/agent/test_handover.py",
    ),
    Mutant("agent/sockets.py", "self._ask(kind)  # again", "pass  # again", "tests/unit/agent/test_sockets.py"),
    # SOCKS4 has one code for all failures, none of it before the connect; 4a's name counts, and nothing is endless.
    Mutant(
        "proxy/socks.py",
        "    session.target = str(target)\n    try:\n",
        "    session.target = str(target)\n    await client.channel.send(granted((IPv4Address(0), 0)))\n    try:\n",
        "tests/conformance/proxy/test_socks4.py",
    ),
    Mutant(
        "proxy/socks4.py",
        "def _failed(_: Failure) -> bytes:\n    return socks4.reply(SOCKS4_REJECTED)",
        "def _failed(_: Failure) -> bytes:\n    return socks4.reply(socks4.GRANTED)",
        "tests/conformance/proxy/test_socks4.py",
    ),
    Mutant(
        "proxy/wire/socks4.py",
        "if address[:3] == bytes(3) and address[3]:",
        "if False:",
        "tests/conformance/proxy/test_socks4.py",
    ),
    Mutant("proxy/wire/socks4.py", "bytes(3) and address[3]:", "bytes(3):", "tests/unit/proxy/test_socks4.py"),
    Mutant("proxy/wire/socks4.py", "if len(buffer) > start + most:", "if False:", "tests/unit/proxy/test_socks4.py"),
    # Who may be reached is asked for lookups as well.
    Mutant(
        "proxy/lookup.py",
        "objection = await self._judge.objection(address, host)",
        'objection = ""',
        "tests/conformance/proxy/test_tor.py",
    ),
    Mutant(
        "proxy/lookup.py",
        "objection = await self._judge.objection(address)\n",
        'objection = ""\n',
        "tests/conformance/proxy/test_tor.py",
    ),
    Mutant(
        "proxy/socks.py",
        "versions: tuple[int, ...] = (4, 6)",
        "versions: tuple[int, ...] = (4,)",
        "tests/conformance/proxy/test_tor.py",
    ),
    # A password lets in who knows it, and nobody else, by any way; it goes no further.
    Mutant("proxy/socks.py", "if accepts(user, password):", "if user:", "tests/conformance/proxy/test_rfc1929.py"),
    Mutant(
        "proxy/socks.py",
        "socks5.NO_AUTHENTICATION if door.accepts is None else socks5.USERNAME_PASSWORD",
        "socks5.NO_AUTHENTICATION if door.accepts is None or 0 in methods else socks5.USERNAME_PASSWORD",
        "tests/conformance/proxy/test_rfc1929.py",
    ),
    Mutant("proxy/socks4.py", "if door.accepts is not None:", "if False:", "tests/conformance/proxy/test_socks4.py"),
    Mutant(
        "proxy/auth.py",
        "bool(colon) and accepts(user, password)",
        "bool(colon)",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant("proxy/auth.py", "if len(given) == 1 else", "if given else", "tests/conformance/proxy/test_http_auth.py"),
    Mutant(
        "proxy/auth.py",
        'head.target.partition(b"?")[0] in PUBLIC',
        "any(each in head.target for each in PUBLIC)",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant(
        "proxy/auth.py",
        " and http1.request_body(head)[0] is http1.Body.NONE",
        "",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant(
        "proxy/http.py",
        "            auth.check_proxied(head, door.accepts)\n            await _tunnel",
        "            await _tunnel",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant(
        "proxy/wire/http1.py",
        '        b"proxy-authorization",\n        b"proxy-authenticate",\n',
        "",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant("core/credentials.py", "len(user).to_bytes(4) + user", "user", "tests/unit/core/test_credentials.py"),
    Mutant("core/config.py", 'if self.auth != "" and not', "if self.auth and not", "tests/unit/core/test_config.py"),
    # Nor does it stand where others may read.
    Mutant(
        "agent/supervisor.py",
        'argv = [sys.executable, "-P", "-m", child.module]',
        'argv = [sys.executable, "-P", "-m", child.module, child.lent.to_json()]',
        "tests/unit/agent/test_supervisor.py",
    ),
    Mutant(
        "cli/passwords.py", "0o600", "0o644", "tests/unit/cli/test_passwords.py::test_it_is_kept_for_this_user_alone"
    ),
    Mutant(
        "cli/status.py",
        "for user {entry.user}",
        "{entry.password}",
        "tests/unit/cli/test_passwords.py::test_status_says_where_it_stands_and_not_what_it_is",
    ),
    # netcat: each end is told, and why there was no beginning.
    Mutant(
        "cli/nc.py",
        "sock.shutdown(socket.SHUT_WR)",
        "pass",
        "tests/unit/cli/test_nc.py::test_eof_on_stdin_is_fin_and_the_reading_goes_on_until_the_target_s",
    ),
    Mutant(
        "cli/nc.py",
        "            sender.join()",
        "            pass",
        "tests/unit/cli/test_nc.py::test_the_target_s_fin_is_eof_for_our_reader_and_the_sending_goes_on",
    ),
    Mutant(
        "cli/nc.py",
        "NameUnknown(sentence) if unknown else DconnectError(sentence)",
        "DconnectError(sentence)",
        "tests/unit/cli/test_nc.py::test_an_unknown_name_is_one_sentence_and_5",
    ),
)
