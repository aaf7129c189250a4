"""Random changes of a project, and after each of them every name: is it right, and since when.

While the docker CLI carries a change out, and until everything is right, the agent is asked all the time for the names
of the container concerned. Then the engine is asked what is true and when it told so; an answer
that was asked for later than ``FRESH_MS`` after that event and is not true is *stale*.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

from dnslib import DNSRecord

from bed.changes import Change, Project
from bed.dconnect import DNS_PORT, Dconnect
from bed.expected import SUFFIXES, Answer, Question, claims, expected, of_others
from bed.session import Bed
from bench.freshness import summary
from soak.parts import Ground, Outcome

COUNT = 500
FRESH_MS = 100.0
"""After the engine's event a name must be right."""
LOST_MS = 1000.0
"""Not right after this is an event that was missed, which the agent's periodic look would mend later still."""
SEED = "DCONNECT_SEED"
"""In the environment: do the same again."""
DEADLINE = 10.0
"""Names that are not right so long after a change are wrong for good."""
GONE = 400
"""Questions about what is gone that are still asked, the newest ones."""
AT_ONCE = 32
"""Queries on their way together; more would overflow the socket's buffer."""
PAUSE = 0.004
LOST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, unread: reading takes longer than asking."""

    question: Question
    asked: float
    """Seconds of the epoch, on the engine's own clock."""
    message: bytes

    @property
    def answer(self) -> Answer:
        record = DNSRecord.parse(self.message)
        return record.header.rcode, frozenset(str(each.rdata) for each in record.rr)


class Asker:
    """A stub resolver that asks many questions at once."""

    def __init__(self, bed: Bed) -> None:
        self._socket = bed.host.socket(kind=socket.SOCK_DGRAM)
        self._socket.settimeout(LOST_SECONDS)
        self._socket.connect((bed.address, DNS_PORT))
        self._queries: dict[Question, bytes] = {}
        self._ident = 0

    def close(self) -> None:
        self._socket.close()

    def ask(self, questions: Iterable[Question]) -> Iterator[Reply]:
        """The replies, in no order; a lost one is not asked for again."""
        waiting = iter(questions)
        while batch := list(islice(waiting, AT_ONCE)):
            sent: dict[int, tuple[Question, float]] = {}
            for question in batch:
                self._ident = (self._ident + 1) & 0xFFFF
                sent[self._ident] = question, time.time()
                self._socket.send(self._ident.to_bytes(2, "big") + self._query(question))
            with suppress(TimeoutError):
                while sent:
                    message = self._socket.recv(4096)
                    if of := sent.pop(int.from_bytes(message[:2], "big"), None):  # else it was given up
                        yield Reply(*of, message)

    def _query(self, question: Question) -> bytes:
        """All but the ID."""
        if question not in self._queries:
            self._queries[question] = bytes(DNSRecord.question(*question).pack())[2:]
        return self._queries[question]


@contextmanager
def asking(bed: Bed) -> Iterator[Asker]:
    asker = Asker(bed)
    try:
        yield asker
    finally:
        asker.close()


@contextmanager
def asking_all_along(bed: Bed, questions: Sequence[Question]) -> Iterator[list[Reply]]:
    """Within the block ask the same again and again; what came is complete after it."""
    replies: list[Reply] = []
    over = threading.Event()

    def ask() -> None:
        with asking(bed) as asker:
            while not over.wait(PAUSE):
                replies.extend(asker.ask(questions))

    thread = threading.Thread(target=ask, name="asking")
    thread.start()
    try:
        yield replies
    finally:
        over.set()
        thread.join()


@dataclass(slots=True)
class Findings:
    """Of all changes."""

    seed: int
    kinds: Counter[str] = field(default_factory=Counter)
    settled_ms: list[float] = field(default_factory=list)
    """By change: from its event to the last answer that was not right yet; 0 where none came after the event."""
    stale: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What was not right within ``DEADLINE``."""
    asked: int = 0


class Truth:
    """What the engine says now, and what DNS must therefore say."""

    def __init__(self, bed: Bed) -> None:
        listed = bed.engine.get("/containers/json?all=1")
        self.containers = [bed.engine.get(f"/containers/{each['Id']}/json") for each in listed]
        self.expected = expected(self.containers)

    def answer(self, question: Question) -> Answer:
        found = self.expected.get(question)
        return of_others(question, self.containers) if found is None else found

    def questions_of(self, change: Change) -> list[Question]:
        """Those about the container that will change, under the first suffix; its name at least."""
        now = [each for each in self.containers if each["Name"] == f"/{change.container}"]
        names = {claim.name for each in now for claim in claims(each)}
        fulls = names | {f"{each}.{SUFFIXES[0]}" for each in names}
        found = [question for question in self.expected if question[0] in fulls]
        coming = {name.lower() for name in (change.container, change.becomes) if name}
        return list(dict.fromkeys([*found, *((f"{name}.{SUFFIXES[0]}", "A") for name in coming)]))


class Moments:
    """When the engine told of a change, in seconds of the epoch."""

    def __init__(self, bed: Bed, since: float) -> None:
        words = ["events", f"--since={since:.9f}", f"--until={time.time():.9f}", "--format={{json .}}"]
        words += ["--filter=type=container", "--filter=type=network"]
        told = [(each["Action"], each["timeNano"] / 1e9) for each in map(json.loads, bed.docker(*words).splitlines())]
        self.last = max((moment for _, moment in told), default=since)
        """From then on everything that is asked must be true."""
        ends = {"die", "start"} & {action for action, _ in told}
        self.dead = next((moment for action, moment in told if action == "die" and ends == {"die"}), self.last)
        """From then on no name leads to what is no more; the engine goes on to tell of it for 200 ms."""

    def late(self, reply: Reply, truth: Answer) -> float:
        """Milliseconds after its event at which something untrue was still answered; 0 if all is well."""
        since = 0.0
        if reply.answer != truth:
            since = reply.asked - self.last
            if reply.answer[1] - truth[1]:  # an address, or a name, that is no more
                since = max(since, reply.asked - self.dead)
        return max(0.0, since * 1000)


def measure(bed: Bed, count: int, seed: int) -> Findings:
    """So many changes, one after the other; the agent must be up."""
    found = Findings(seed)
    project = Project(bed, random.Random(seed))
    try:
        truth, gone = Truth(bed), dict[Question, None]()
        with asking(bed) as asker:
            for number in range(count):
                change = project.next_change(truth.containers)
                found.kinds[change.what.partition(" ")[0]] += 1
                before = truth
                truth = _one(bed, asker, change, before, [*gone], f"{number}: {change.what} {change.container}", found)
                gone |= dict.fromkeys(before.expected.keys() - truth.expected.keys())
                for question in list(gone)[: max(0, len(gone) - GONE)]:
                    del gone[question]
                if found.wrong:  # each further one would be waited for in vain
                    break
    finally:
        project.close()
    return found


def _one(
    bed: Bed, asker: Asker, change: Change, before: Truth, gone: list[Question], what: str, found: Findings
) -> Truth:
    """Carry one change out and judge all answers; what is true after it."""
    begun = time.time()
    with asking_all_along(bed, before.questions_of(change)) as replies:
        change.carry_out()
        truth = Truth(bed)
        every = list(dict.fromkeys([*truth.expected, *before.expected, *gone]))
        moments = Moments(bed, begun)
        left, deadline = every, time.time() + DEADLINE
        while left and time.time() < deadline:
            answered = list(asker.ask(left))
            replies.extend(answered)
            right = {each.question for each in answered if each.answer == truth.answer(each.question)}
            left = [question for question in left if question not in right]
    found.asked += len(replies)
    found.wrong += [f"{what}: {question} must be {truth.answer(question)}" for question in left]
    delays = [(moments.late(each, truth.answer(each.question)), each.question) for each in replies]
    late = max((delay for delay, _ in delays), default=0.0)
    found.settled_ms.append(late)
    if late > FRESH_MS:
        questions = sorted({question for delay, question in delays if delay > FRESH_MS})
        found.stale.append(f"{what}: {late:.0f} ms, {questions[:4]}")
    return truth


def judge(found: Findings, tolerated: int = 0) -> Outcome:
    """What must hold of them; ``tolerated`` changes may have the machine do something else meanwhile."""
    outcome = Outcome({"seed": found.seed, "changes": len(found.settled_ms), "asked": found.asked})
    outcome.figures |= {"kinds": dict(sorted(found.kinds.items())), "settled_ms": summary(found.settled_ms)}
    outcome.must("after each change every name is right", found.wrong[:10], hold=not found.wrong)
    fresh = f"{FRESH_MS:.0f} ms after the engine's event answers are stale after {tolerated} of all changes at most"
    outcome.must(fresh, found.stale, hold=len(found.stale) <= tolerated)
    slowest = max(found.settled_ms)
    outcome.must(f"{LOST_MS:.0f} ms after it none is", slowest, hold=slowest <= LOST_MS)
    return outcome


def seed() -> int:
    """The one from the environment, or a new one."""
    return int(os.environ.get(SEED) or random.SystemRandom().randrange(1 << 32))


def run(ground: Ground) -> Outcome:
    chosen = seed()
    print(f"  {SEED}={chosen}", flush=True)
    Dconnect(ground.bed).up()
    return judge(measure(ground.bed, ground.scaled(COUNT, 20), chosen))
