from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from dconnect.cli.lock import take
from dconnect.core.errors import DconnectError


def taken(directory: Path, engine_id: str = "one") -> ExitStack:
    return asyncio.run(take(directory, engine_id, said.append, deadline_s=0))


said: list[str] = []


def test_a_lock_that_is_kept_is_told_after_the_deadline_and_given_when_it_is_free(tmp_path: Path) -> None:
    with taken(tmp_path / "new" / "folder"):
        with pytest.raises(DconnectError, match="Another `dconnect up` has been at work on this engine for 0 s"):
            taken(tmp_path / "new" / "folder")
        taken(tmp_path / "new" / "folder", "two").close()
    taken(tmp_path / "new" / "folder").close()


def test_without_a_place_for_it_there_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with taken(tmp_path / "file"), taken(tmp_path / "file"):
        pass
