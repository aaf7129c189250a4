"""Faults in the host's side of the tunnel."""

from __future__ import annotations

from mutants.mutant import Mutant

SUBNETS = "tests/unit/tunnel/test_subnets.py"
KEEPER = "tests/unit/tunnel/test_keeper.py"
OUTBOX = "tests/unit/tunnel/test_outbox.py"
PUMP = "tests/unit/tunnel/test_pump.py"
HALVES = "tests/unit/cli/transparent/test_halves.py"
GATEWAY = "tests/unit/tunnel/test_gateway.py"
HELPER = "tests/unit/cli/transparent/test_private.py"
PRIVATE = "tests/unit/tunnel/test_private_linux.py"
STATS = "tests/unit/tunnel/test_stats.py"
NOTES = "tests/unit/cli/transparent/test_notes.py"
PACE = "tests/e2e/test_tun.py::test_neither_the_link_nor_a_connection_in_it_has_a_pace_of_its_own"
FIRST = "tests/e2e/test_tun.py::test_the_very_first_connection_of_each_family_does_not_wait_for_a_second_syn"
BEFORE = "tests/e2e/test_tun.py::test_what_others_wait_for_goes_before_them"

MUTANTS = (
    Mutant("cli/transparent/helper.py", "        go_first(self._process.pid)\n", "", BEFORE),
    Mutant(
        "tunnel/subnets.py",
        "_within(subnet, route.prefix) and subnet != route.prefix",
        "_within(subnet, route.prefix)",
        SUBNETS,
    ),
    Mutant("tunnel/subnets.py", "if route.gateway is not None and route.gateway in subnet:", "if False:", SUBNETS),
    Mutant("tunnel/subnets.py", "if not included and not any(", "if False and not any(", HALVES),
    Mutant("tunnel/keeper.py", "except FileExistsError:  # came in between", "except ZeroDivisionError:", KEEPER),
    Mutant("tunnel/keeper.py", "    for subnet in self._ours - set(verdict.routed):", "    for subnet in ():", KEEPER),
    Mutant(
        "tunnel/gate.py",
        "        if kind == SYN:\n            return False",
        "        if False:\n            return False",
        "tests/unit/tunnel/test_gate.py",
    ),
    Mutant("tunnel/outbox.py", "size <= EXPRESS_BYTES and key not in self._waiting", "size <= EXPRESS_BYTES", OUTBOX),
    Mutant(
        "tunnel/outbox.py",
        "self._batch.appendleft((view[sent:], slot))",
        "self._batch.appendleft((view, slot))",
        OUTBOX,
    ),
    Mutant("tunnel/pump.py", "        if link is None or link.config is None:\n", "        if False:\n", PUMP),
    Mutant("tunnel/pump.py", "            due = 0.0\n", "", PUMP),
    Mutant(
        "tunnel/pump.py",
        """            self._next_dial = now + backoff(self._attempt, most=LINK_RETRY_SECONDS)
            self._attempt += 1
        if self._full""",
        """            self._next_dial = now
        if self._full""",
        PUMP,
    ),
    Mutant("tunnel/link.py", "self._deadline = now + LINK_WOKEN_SECONDS", "pass", PUMP),
    Mutant(
        "tunnel/host_linux.py",
        'self._route("add", subnet, device, ',
        'self._route("replace", subnet, device, ',
        "tests/unit/tunnel/test_host_linux.py",
    ),
    Mutant(
        "cli/transparent/helper.py", "            device.close()  # the pump", "            pass  # the pump", HALVES
    ),
    Mutant("cli/transparent/rundir.py", "        before = os.umask(0o177)", "        before = os.umask(0o022)", NOTES),
    Mutant("tunnel/host_linux.py", ", txqlen=DEVICE_PACKETS", "", "tests/unit/tunnel/test_host_linux.py"),
    Mutant("tunnel/pump.py", "if not self._linked:  # later", "if True:  # later", PUMP),
    Mutant("tunnel/pump.py", ", host=self._host)", ")", PUMP),
    Mutant("tunnel/pump.py", "left -= size", "pass", PUMP),
    Mutant("tunnel/gateway/gateway.py", "left -= size", "pass", GATEWAY),
    Mutant("tunnel/gateway/tcp.py", "probe_in_turn(client)", "pass", "tests/unit/tunnel/test_gateway_flows.py"),
    Mutant(
        "tunnel/dial.py",
        ', "TCP_USER_TIMEOUT": round(LINK_UNTAKEN_SECONDS * 1000)',
        "",
        "tests/unit/tunnel/test_dial.py",
    ),
    Mutant("tunnel/gateway/plan.py", "taken.get(number, host) == host", "True", GATEWAY),
    Mutant("tunnel/gateway/plan.py", "crc32(host.encode()) % len(numbers)", "0", GATEWAY),
    Mutant("tunnel/private_linux.py", "packets) for each in own]", "packets) for each in ()]", PRIVATE),
    Mutant("tunnel/private_linux.py", "if code == errno.EEXIST:", "if False:", PRIVATE),
    Mutant("tunnel/private_linux.py", 'ip_unprivileged_port_start": "0"', 'ip_unprivileged_port_start": "99"', PRIVATE),
    Mutant("tunnel/private_linux.py", "        held.callback(packets.close)\n", "", PRIVATE),
    Mutant("tunnel/private_linux.py", "if frozenset(own) == self._own:", "if True:", PRIVATE),
    Mutant("tunnel/private_linux.py", "            (version, [protocol, syn], syns),\n", "", PRIVATE),
    Mutant("tunnel/private.py", 'b"\\x86\\xdd"', 'b"\\x08\\x00"', PRIVATE),
    Mutant("tunnel/stats.py", "(now, *self.totals())", "(now, self.sent_bytes, self.received_bytes)", STATS),
    Mutant(
        "tunnel/stats.py", "self.sent_bytes + sent, self.received_bytes", "self.sent_bytes, self.received_bytes", STATS
    ),
    Mutant(
        "tunnel/wire/messages.py",
        '_features("config", told) if "features" in told else frozenset()',
        "frozenset()",
        "tests/unit/tunnel/test_messages.py",
    ),
    Mutant(
        "cli/transparent/channel.py",
        "self.descriptors[:count], self.descriptors[count:]",
        "self.descriptors, []",
        HALVES,
    ),
    Mutant("cli/transparent/channel.py", "_MOST_DESCRIPTORS = 64", "_MOST_DESCRIPTORS = 5", HALVES),
    Mutant(
        "tunnel/pump.py",
        "            if self.link is not None:\n                self.on_door(self.link.door)\n",
        "",
        PUMP,
    ),
    Mutant("tunnel/pump.py", "        self.on_door(None)\n", "", PUMP),
    Mutant("cli/transparent/helper.py", "                self._private.syns.close()", "                pass", HELPER),
    Mutant("cli/transparent/helper.py", "not self._packets and ", "", HELPER),
    Mutant("cli/transparent/helper.py", "self._host.delete(DEVICE)", "pass", HELPER),
    Mutant("cli/transparent/helper.py", "        for each in sockets:\n            each.close()\n", "", HELPER),
    Mutant(
        "tunnel/host_linux.py",
        "if error.code != errno.ENODEV:  # it went",
        "if True:  # it went",
        "tests/unit/tunnel/test_host_linux.py",
    ),
    Mutant(
        "tunnel/host_linux.py",
        'metrics={"cc_algo": CONGESTION_CONTROL}',
        "metrics={}",
        "tests/unit/tunnel/test_host_linux.py",
    ),
    Mutant("agent/sockets.py", "if not address.is_global:", "if False:", "tests/unit/agent/test_sockets.py"),
    Mutant("agent/sockets.py", "if not address.is_global:", "if True:", "tests/unit/agent/test_sockets.py"),
    Mutant("agent/supervisor.py", "            unpace(sock)\n", "", PACE),
    Mutant(
        "cli/transparent/terminal.py",
        "        for version in self._spare:\n            self._want_sockets(version)\n",
        "        self.loop.add_reader(self._syns.fileno(), self._from_host)\n",
        FIRST,
    ),
    Mutant(
        "cli/transparent/terminal.py", "        os.sched_yield()\n", "", "tests/unit/cli/transparent/test_courteous.py"
    ),
)
