from __future__ import annotations

import pytest

from dconnect.core import errors
from dconnect.core.failure import Failure


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DconnectError, 1),
        (errors.UsageError, 2),
        (errors.NotRunning, 3),
        (errors.EngineUnreachable, 4),
        (errors.NameUnknown, 5),
        (errors.MalformedMessage, 1),
        (errors.DialError, 1),
    ],
)
def test_exit_codes_are_those_of_the_manual(error: type[errors.DconnectError], code: int) -> None:
    assert error.exit_code == code
    assert issubclass(error, errors.DconnectError)


def test_a_dial_error_carries_its_row_of_the_table() -> None:
    error = errors.DialError(Failure.REFUSED, "web:80 refused the connection.")
    assert (error.failure, str(error)) == (Failure.REFUSED, "web:80 refused the connection.")
