"""For ``make soak``: the same tests with more examples, new ones each time, and a report.

    DCONNECT_FUZZ_FACTOR   how many times a test's own number of examples
    DCONNECT_FUZZ_REPORT   a JSON file to write: by test, the examples tried and the failure, if any

Without the first everything is as the tests say.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_HERE = Path(__file__).parent
_FACTOR = float(os.environ.get("DCONNECT_FUZZ_FACTOR", "0"))
_REPORT = os.environ.get("DCONNECT_FUZZ_REPORT")
_seen: dict[str, dict[str, Any]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _FACTOR and _HERE in item.path.parents and isinstance(item, pytest.Function):
            _multiply(item)


def _multiply(item: pytest.Function) -> None:
    seen = _seen[item.nodeid] = {"examples": 0, "failure": ""}
    test: Any = item.obj
    if not hasattr(test, "hypothesis"):
        return
    inner = test.hypothesis.inner_test  # documented, for whoever runs the examples in a way of his own

    @functools.wraps(inner)
    def counted(*arguments: Any, **words: Any) -> Any:
        seen["examples"] += 1
        return inner(*arguments, **words)

    test.hypothesis.inner_test = counted
    own: settings = test._hypothesis_internal_use_settings  # set by both decorators; no public way changes it
    test._hypothesis_internal_use_settings = settings(
        own,
        max_examples=max(1, round(own.max_examples * _FACTOR)),
        derandomize=False,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),  # a busy machine is no finding
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and report.nodeid in _seen:
        _seen[report.nodeid]["failure"] = report.longreprtext[-4000:]


def pytest_sessionfinish() -> None:
    if _REPORT:
        Path(_REPORT).write_text(json.dumps(_seen))
