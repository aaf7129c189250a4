"""Faults in what changes the host itself."""

from __future__ import annotations

from mutants.mutant import Mutant

JOURNAL = "tests/unit/cli/host/test_journal.py"

MUTANTS = (
    # The journal first.
    Mutant(
        "cli/host/journal.py",
        """                    self._note(record, {"file": path, "wrote": text})
                    env.write(path, _bytes(text))
""",
        """                    env.write(path, _bytes(text))
                    self._note(record, {"file": path, "wrote": text})
""",
        JOURNAL,
    ),
    Mutant(
        "cli/host/journal.py",
        """                    self._note(record, {"process": held.pid, "began": env.began(held.pid)})
                    held.release()
""",
        """                    held.release()
                    self._note(record, {"process": held.pid, "began": env.began(held.pid)})
""",
        JOURNAL,
    ),
    Mutant("cli/host/journal.py", "in reversed(record.entries)", "in record.entries", JOURNAL),
    Mutant(
        "cli/host/journal.py",
        '        self._env.remove(f"{path}{DRAFT}")\n        there, before',
        "        there, before",
        JOURNAL,
    ),
    # Nobody else's work.
    Mutant("cli/host/journal.py", "not there.startswith(MARK)", "not there", JOURNAL),
    Mutant("cli/host/journal.py", "if there is None or there == wrote:", "if True:", JOURNAL),
    Mutant(
        "cli/host/environment.py",
        "if self.began(pid) != began:",
        "if False:",
        "tests/unit/cli/host/test_environment.py",
    ),
    Mutant(
        "cli/host/environment.py",
        "if not self._same(descriptor, folder):",
        "if False:",
        "tests/unit/cli/host/test_environment.py",
    ),
    # The right manager, and only our suffixes.
    Mutant("cli/host/detect.py", "_PORTS_SINCE = 246", "_PORTS_SINCE = 245", "tests/unit/cli/host/test_detect.py"),
    Mutant(
        "cli/host/detect.py",
        '"resolve" in words and "dns" not in words[: words.index("resolve")]',
        '"resolve" in words',
        "tests/unit/cli/host/test_detect.py",
    ),
    Mutant("cli/host/plans.py", '"scope", "global")', '"scope", "host")', "tests/unit/cli/host/test_plans.py"),
    Mutant("cli/host/plans.py", " or not _is_loopback(wish.dns.host)", "", "tests/unit/cli/host/test_plans.py"),
    Mutant("cli/host/plans.py", 'f"~{suffix}" for', "suffix for", "tests/unit/cli/host/test_plans.py"),
    Mutant(
        "cli/host/forwarder.py",
        "return encode(parse_query(query), REFUSED)",
        'return b""',
        "tests/unit/cli/host/test_forwarder.py",
    ),
    Mutant(
        "cli/host/forwarder.py",
        "if len(self._tasks) < HOST_FORWARDS:",
        "if True:",
        "tests/unit/cli/host/test_forwarder.py",
    ),
    Mutant("cli/host/selftest.py", "if found == expected and found:", "if found:", "tests/unit/cli/test_install.py"),
)
