"""Faults in names and the resolver."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
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
    Mutant(
        "dns/cache.py", "return query[:2] + answer if", "return key[:2] + answer if", "tests/unit/dns/test_cache.py"
    ),
    Mutant("dns/reverse.py", "(-subnet.prefixlen, int", "(subnet.prefixlen, int", "tests/fuzz/test_dns_zones.py"),
    Mutant("dns/names.py", " and not container.oneoff:", ":", "tests/fuzz/test_dns_zones.py"),
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
    Mutant("dns/forward.py", "self._checking.add(server)", "continue", "tests/conformance/dns/test_forwarding.py"),
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
    Mutant("dns/batch.py", "if taken > 0 else 1", "if taken > 0 else len(answers)", "tests/unit/dns/test_batch.py"),
    Mutant("dns/batch.py", "at + received[number]", "at + max(received)", "tests/unit/dns/test_batch.py"),
    Mutant("dns/batch.py", "lengths[number] = len(answer)", "lengths[number] = 100", "tests/unit/dns/test_batch.py"),
    Mutant("dns/server.py", "if not admitted[peer]:", "if False:", "tests/unit/dns/test_server.py"),
    Mutant(
        "dns/server.py",
        "loop.call_later(DNS_LOOK_SECONDS, self._watch, sock, datagrams)",
        "pass",
        "tests/unit/dns/test_server.py",
    ),
    Mutant("dns/server.py", "datagrams.waited() < self._patience", "False", "tests/unit/dns/test_server.py"),
    Mutant("dns/batch.py", "time.time() - seconds - nanoseconds / 1e9", "60.0", "tests/unit/dns/test_batch.py"),
    Mutant(
        "dns/wire/message.py",
        "if offset - HEADER_BYTES > 254:",
        "if offset - HEADER_BYTES > 255:",
        "tests/unit/dns/test_dns_message.py",
    ),
    # A name is what it is now.
    Mutant(
        "dns/resolver.py",
        "self._cache.drop(() if self._zone is None else zone.changed(self._zone))",
        "pass",
        "tests/unit/dns/test_resolver.py",
    ),
    Mutant(
        "dns/server.py",
        "asyncio.get_running_loop().call_soon(give, encode(asked.query, SERVFAIL, recursion=True))",
        "give(encode(asked.query, SERVFAIL))",
        "tests/conformance/dns/test_forwarding.py",
    ),
    Mutant(
        "dns/wire/response.py",
        "elif kind == TYPE_SOA and",
        "elif kind == TYPE_SOA and not answers and",
        "tests/conformance/dns/test_forwarding.py",
    ),
    Mutant("dns/wire/response.py", "    if opt:", "    if False:", "tests/conformance/dns/test_forwarding.py"),
)
