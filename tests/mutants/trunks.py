"""Faults at the two ends of a trunk: who opens it, who dials, and who takes over what leaves it."""

from __future__ import annotations

from mutants.mutant import Mutant

HOST = "cli/transparent/trunks.py"
AGENT = "agent/trunks.py"
HOSTS = "tests/unit/cli/transparent/test_trunks.py"
HOSTS_FORMER = "tests/unit/cli/transparent/test_trunks_former.py"
HOSTS_MOVES = "tests/unit/cli/transparent/test_trunks_moving.py"
TOGETHER = "tests/unit/cli/transparent/test_trunks_together.py"
AGENTS = "tests/unit/agent/test_trunks.py"
AGENTS_MOVES = "tests/unit/agent/test_trunks_moving.py"

MUTANTS = (
    # The host's.
    Mutant(HOST, "            self.forget()\n        self.wake()", "            pass\n        self.wake()", HOSTS),
    Mutant(HOST, "        if not self.is_said:\n", "        if True:\n", HOSTS_MOVES),
    Mutant(HOST, "while self._last in self.streams or ", "while ", HOSTS),
    Mutant(HOST, " or self._last >= _NUMBERS:", ":", HOSTS),
    Mutant(HOST, "if trunk is None or trunk.closed:", "if True:", HOSTS),
    Mutant(HOST, "        if self._opening is None:\n", "        if True:\n", HOSTS),
    Mutant(HOST, "isinstance(error, TimeoutError) and stream", "False and stream", HOSTS),
    Mutant(HOST, "            stream.give_up()\n", "            pass\n", HOSTS),
    Mutant(HOST, "            self._let_go(stream.trunk)\n\n    async", "\n    async", HOSTS_FORMER),
    Mutant(HOST, "call_later(LINK_CONNECT_SECONDS, self._let_go, found)", "time()", HOSTS_FORMER),
    Mutant(HOST, "        if not stream.moving:\n", "        if True:\n", HOSTS_MOVES),
    Mutant(HOST, "        if there is None:\n", "        if False:\n", HOSTS_MOVES),
    Mutant(HOST, "                stream.own.reset()\n", "                stream.own.close()\n", HOSTS_MOVES),
    Mutant(HOST, "        stream.wake(error)\n", "", HOSTS),
    Mutant(HOST, "trunk is None or trunk.closed", "trunk is None", HOSTS),
    Mutant(HOST, "            trunk.finish()\n", "            trunk.close()\n", HOSTS_FORMER),
    Mutant(HOST, "if failure in (Failure.REFUSED, ", "if failure in (", HOSTS),
    # The agent's.
    Mutant(AGENT, "key in self._trunks or ", "", AGENTS),
    Mutant(AGENT, " or len(self._trunks) >= TRUNKS:", ":", AGENTS),
    Mutant(AGENT, "stream.own is not None or early:", "stream.own is not None:", AGENTS_MOVES),
    Mutant(AGENT, "stream.channel is None or stream.own is not None or", "stream.channel is None or", AGENTS_MOVES),
    Mutant(AGENT, "            if stream.over:\n                cut(upstream)\n", "            if False:\n", AGENTS),
    Mutant(AGENT, "                stream.forget()\n", "                pass\n", AGENTS),
    Mutant(AGENT, "            if not stream.over:\n", "            if True:\n", AGENTS),
    Mutant(AGENT, "            self._dials -= 1\n", "            pass\n", AGENTS),
    Mutant(AGENT, "streams >= self._most or ", "", AGENTS),
    Mutant(AGENT, "for each in self._trunks.values())", "for each in (trunk,))", AGENTS),
    Mutant(AGENT, "self.channel is None and kind != RESET", "False", AGENTS),
    Mutant(AGENT, "call_later(HANDOVER_SECONDS", "call_later(999", AGENTS_MOVES),
    Mutant(AGENT, "            self._hand_over(stream, 0)\n", "            pass\n", AGENTS_MOVES),
    Mutant(HOST, "self.answer is not None and kind not in", "False and kind not in", HOSTS),
    Mutant(HOST, "        if not stream.is_said:  # else", "        if True:  # else", HOSTS_MOVES),
    Mutant(HOST, "call_later(TRUNK_AGAIN_SECONDS", "call_later(999", HOSTS_MOVES),
    Mutant(AGENT, " or self._dials >= TUNNEL_DIALS:", ":", AGENTS),
    Mutant(AGENT, "        self.poller.release(stream.channel)\n", "", AGENTS_MOVES),
    Mutant(AGENT, "        cut(upstream)\n        if own", "        if own", AGENTS_MOVES),
    Mutant(
        AGENT,
        "            cut(stream.own)\n        if stream.channel",
        "            pass\n        if stream.channel",
        AGENTS_MOVES,
    ),
    Mutant(AGENT, "error.errno == errno.EPROTO:", "False:", AGENTS),
    Mutant(AGENT, "self.got, self.sent\n", "self.sent, self.got\n", AGENTS),
)
