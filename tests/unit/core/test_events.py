"""The record of a session, and that its documentation is about the same fields."""

from __future__ import annotations

import re
from pathlib import Path

from dconnect.core.events import Session
from dconnect.core.failure import Failure
from dconnect.core.limits import SESSION_TEXT_CHARS
from dconnect.proxy import frontdoor

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "log.md").read_text()


def test_what_is_empty_is_not_told() -> None:
    told = Session("10.0.0.1:5", outcome="silent").told()
    assert told == {
        "peer": "10.0.0.1:5",
        "front": "none",
        "outcome": "silent",
        "status": 0,
        "bytes_up": 0,
        "bytes_down": 0,
    }


def test_texts_that_clients_sent_have_a_bound() -> None:
    told = Session("10.0.0.1:5", target="dconnect/" + "x" * 30_000, detail="y" * SESSION_TEXT_CHARS).told()
    assert len(str(told["target"])) == SESSION_TEXT_CHARS + 1
    assert str(told["target"]).endswith("x…")
    assert told["detail"] == "y" * SESSION_TEXT_CHARS


def test_every_field_and_every_reason_is_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", "".join(line for line in DOCS.splitlines() if line.startswith("| `"))))
    told = Session("x", target="y", address="z", detail="w").told()
    assert {*told, "seconds", "connect_seconds"} <= documented
    assert {failure.name.lower() for failure in Failure} <= documented
    proxy = Path(str(frontdoor.__file__)).parent
    literal = re.compile(
        r'(?:outcome(?:, \w+\.detail)? = |^[A-Z]+ = |errno\.\w+: )"([a-z]+(?: [a-z]+)?)"', re.MULTILINE
    )
    given = {outcome for file in proxy.glob("*.py") for outcome in literal.findall(file.read_text())}
    assert len(given) > 10
    assert {outcome for outcome in given if f"`{outcome}`" not in DOCS} == {
        "open",
        "idle",
        "relaying",
    }  # while it lives
