"""The one error tree. Each class answers: whose fault, and which exit code.

    DconnectError                 exit 1   something of ours failed
    ├── UsageError                exit 2   the user asked for something impossible
    ├── NotRunning                exit 3   there is no agent on this engine
    ├── EngineUnreachable         exit 4   no Docker engine answered
    ├── NameUnknown               exit 5   no container has that name
    ├── Interrupted               exit 130 the user pressed Ctrl-C (SIGTERM, SIGHUP: 128 + signal)
    ├── MalformedMessage                   the peer broke its protocol
    └── DialError                          a destination was not reached (see ``failure``)

Every message is one sentence that says what happened, to what, and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from dconnect.core.failure import Failure


class DconnectError(Exception):
    """Base of all errors that we raise on purpose; ``str()`` of it is fit for a person."""

    exit_code: ClassVar[int] = 1


class UsageError(DconnectError):
    """The command line or configuration cannot be carried out as written."""

    exit_code = 2


class NotRunning(DconnectError):
    """The command needs a running agent and there is none."""

    exit_code = 3


class EngineUnreachable(DconnectError):
    """No engine answered at the chosen endpoint."""

    exit_code = 4


class NameUnknown(DconnectError):
    """No container has this name."""

    exit_code = 5


class Interrupted(DconnectError):
    """The user pressed Ctrl-C, or a signal did as much; the sentence says what became of what was begun."""

    exit_code = 130  # 128 + SIGINT, as shells have it


class MalformedMessage(DconnectError):
    """The peer sent bytes that its protocol does not allow."""


class DialError(DconnectError):
    """A destination was not reached.

    Attributes:
        failure: the row of the one failure table, which every front translates from.
    """

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
