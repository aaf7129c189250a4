"""Faults in the agent, the command line and what all rooms share."""

from __future__ import annotations

from mutants.mutant import Mutant

LEAVING = "tests/conformance/proxy/test_leaving.py tests/unit/proxy/test_unless_cut.py"

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
        "[self.serial] * self.members",
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
        "agent/knowledge.py",
        "            raise not_informed()\n",
        "            return Policy(Inventory(), 'allow')\n",
        "tests/unit/agent/test_worker.py",
    ),
    Mutant("agent/informed.py", "self._serial = -1  #", "#", "tests/unit/agent/test_worker.py"),
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
    Mutant(
        "agent/sockets.py",
        " or flags & socket.MSG_CTRUNC",
        "",
        "tests/unit/agent/test_sockets.py",
    ),
    Mutant("agent/worker.py", "cpus[index::workers]", "cpus", "tests/unit/agent/test_worker.py"),
    Mutant("core/address.py", "return address.ipv4_mapped", "return address", "tests/unit/core/test_address.py"),
    Mutant("core/address.py", 'rstrip(".")', 'removesuffix(".")', "tests/unit/core/test_address.py"),
    Mutant("core/address.py", "1 <= int(port) <= 65535", "int(port) <= 65535", "tests/unit/core/test_address.py"),
    Mutant("core/config.py", "len(suffix) > 200 or ", "", "tests/unit/core/test_config.py"),
    Mutant("core/config.py", '"0.0.0.0": "127.0.0.1", ', "", "tests/unit/core/test_config.py"),
    Mutant("core/failure.py", "Outcome(6, 504, None)", "Outcome(4, 504, None)", "tests/unit/core/test_failure.py"),
    Mutant("core/inventory.py", "            if container.running\n", "", "tests/unit/core/test_inventory.py"),
    Mutant("core/inventory.py", 'in ("running", "paused")', 'in ("running",)', "tests/unit/core/test_inventory.py"),
    Mutant("core/tasks.py", "await asyncio.wait(tasks)", "pass", "tests/unit/core/test_tasks.py"),
    Mutant("core/tasks.py", "not task.cancelled() and ", "", "tests/unit/core/test_tasks.py"),
    Mutant("agent/names.py", "            with UnlessCut():\n", "            if True:\n", LEAVING),
    Mutant("agent/sockets.py", "                with UnlessCut():\n", "                if True:\n", LEAVING),
    Mutant("agent/missing.py", "request.rel_url.raw_path", "request.path", "tests/unit/agent/test_missing.py"),
    Mutant("agent/sockets.py", "self._ask(kind)  # again", "pass  # again", "tests/unit/agent/test_sockets.py"),
    Mutant("core/credentials.py", "len(user).to_bytes(4) + user", "user", "tests/unit/core/test_credentials.py"),
    Mutant("core/config.py", 'if self.auth != "" and not', "if self.auth and not", "tests/unit/core/test_config.py"),
    # Nor does it stand where others may read.
    Mutant(
        "agent/supervisor.py",
        "child.module, str(child.lent.index)]",
        "child.module, child.lent.to_json()]",
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
    # An agent outlives its engine.
    Mutant(
        "agent/mooring.py", "            left_behind = True\n", "            pass\n", "tests/unit/agent/test_mooring.py"
    ),
    Mutant("agent/mooring.py", " or gone >= patience", "", "tests/unit/agent/test_mooring.py"),
    Mutant(
        "cli/client.py",
        "if config is not None and await _answers(config):",
        "if config is not None:",
        "tests/unit/cli/test_commands.py::test_an_engine_that_is_away_with_its_agent_is_the_engine_s_failure",
    ),
)
