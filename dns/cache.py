"""Encoded answers by the query's bytes after the ID.

Three things make keys unique without end, and none of them may push out what is asked all the time: 0x20 case
and EDNS options (never kept: the bytes will not come again), names that do not exist or that a wildcard makes
(kept apart and forgotten at every change), odd types and flags (a few keys per name).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from dconnect.core.limits import DNS_CACHE_ANSWERS, DNS_CACHE_ANSWERS_PER_NAME, DNS_CACHE_PASSING


class AnswerCache:
    """Answers without their ID, until their name changes."""

    def __init__(self, answers: int = DNS_CACHE_ANSWERS, passing: int = DNS_CACHE_PASSING) -> None:
        self._most_answers = answers
        self._most_passing = passing
        self._answers: dict[bytes, bytes | deque[bytes]] = {}
        self._keys: dict[str, list[bytes]] = {}
        """Name → its keys in ``_answers``; the longest kept first."""
        self._passing: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._answers) + len(self._passing)

    def get(self, query: bytes) -> bytes | None:
        """The whole answer to a query, or None."""
        key = query[2:]
        answer = self._answers.get(key) or self._passing.get(key)
        if type(answer) is deque:
            answer.rotate(-1)
            answer = answer[-1]
        return query[:2] + answer if type(answer) is bytes else None

    def keep(self, query: bytes, answers: Sequence[bytes], name: str) -> None:
        """Keep an answer until its name is dropped; the name that came first goes when there is no room.

        Several answers take turns, in their order.
        """
        keys = self._keys.setdefault(name, [])
        if len(keys) >= DNS_CACHE_ANSWERS_PER_NAME:
            return
        keys.append(query[2:])
        bare = [answer[2:] for answer in answers]
        self._answers[query[2:]] = bare[0] if len(bare) == 1 else deque(bare)
        while len(self._answers) > self._most_answers:
            self._drop(next(iter(self._keys)))

    def keep_passing(self, query: bytes, answer: bytes) -> None:
        """Keep an answer until anything changes or there is no room."""
        if len(self._passing) >= self._most_passing:
            self._passing.clear()
        self._passing[query[2:]] = answer[2:]

    def drop(self, names: Iterable[str]) -> None:
        """Forget the answers for these names, and all passing ones."""
        self._passing.clear()
        for name in names:
            self._drop(name)

    def _drop(self, name: str) -> None:
        for key in self._keys.pop(name, ()):
            del self._answers[key]
