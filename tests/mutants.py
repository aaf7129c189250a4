"""``make mutants``: plant one fault at a time and see which test turns red.

A fault that no test notices is a hole in the tests; this ends with 1 and names it. Each fault is
planted in a copy of the rooms, which stands before the installed ones on PYTHONPATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agent", "cli", "core", "dns", "proxy", "tunnel")
DEADLINE = 300.0
"""Seconds; a fault may well make a test hang until its own deadline."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: in ``file``, ``old`` (which stands there once) becomes ``new``; ``tests`` must notice."""

    file: str
    old: str
    new: str
    tests: str


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
    Mutant("dns/cache.py", "else query[:2] + answer", "else answer[:2] + answer", "tests/unit/dns/test_cache.py"),
    Mutant("dns/resolver.py", " and not (stream and is_truncated(kept))", "", "tests/unit/dns/test_resolver.py"),
    Mutant("dns/resolver.py", "len(answer) <= query.udp_limit and ", "", "tests/unit/dns/test_resolver.py"),
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
    Mutant("proxy/wire/http1.py", "if head.minor == 0 or tokens", "if tokens", "tests/unit/proxy/test_http1.py"),
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
)


def plant(mutant: Mutant, folder: Path) -> None:
    """Copy the rooms to a folder, with the fault."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / "dconnect" / room, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "dconnect" / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file}: {mutant.old!r} stands there {text.count(mutant.old)} times, not once")
    file.write_text(text.replace(mutant.old, mutant.new))


def first_red(mutant: Mutant) -> str:
    """The test that noticed; empty when none did."""
    with tempfile.TemporaryDirectory(prefix="dconnect-mutant-") as folder:
        plant(mutant, Path(folder))
        try:
            result = subprocess.run(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pytest",
                    "-x",
                    "-q",
                    "-p",
                    "no:cacheprovider",
                    "--timeout=30",
                    *mutant.tests.split(),
                ],
                env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
                cwd=ROOT,
                text=True,
                capture_output=True,
                timeout=DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "(the tests hang)"
    if result.returncode == 0:
        return ""
    red = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    if red is None:
        raise SystemExit(f"{mutant.file}: pytest did not run:\n{result.stdout}{result.stderr}")
    return red.group(1)


def main() -> int:
    """Try every fault whose file contains one of the arguments, or all; 1 if one survived."""
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or any(word in mutant.file for word in sys.argv[1:])]
    survivors = 0
    for mutant in chosen:
        red = first_red(mutant)
        survivors += not red
        what = " ".join(mutant.old.split())
        print(f"{mutant.file}: {what}  ->  {red.rpartition('/')[2] or 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} faults were noticed.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
