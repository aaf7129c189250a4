"""Writing that never waits, and never changes what others share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dconnect.agent import stderr

PAGE = 4096
pytestmark = pytest.mark.timeout(10)  # a fault here waits for ever


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A blocking pipe of two pages."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 2 * PAGE)
    yield read, write
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("anew", [True, False])
def test_what_a_pipe_does_not_take_is_left(pipe: tuple[int, int], anew: bool) -> None:
    read, write = pipe
    text = b"".join(b"%0999d\n" % number for number in range(20))
    with stderr.opened(write) as own:
        left = stderr.write(own if anew else write, text)
        # Whole lines, as many as fit into each page.
        assert left == text[8000:]
        assert stderr.write(own if anew else write, left) == left
        assert os.read(read, 1 << 16) == text[:8000]
        assert stderr.write(own if anew else write, left) == left[8000:]


def test_a_line_longer_than_a_page_comes_through(pipe: tuple[int, int]) -> None:
    read, write = pipe
    left, got = b"y" * 3 * PAGE + b"\nshort\n", b""
    while left:
        left = stderr.write(write, left)
        got += os.read(read, 1 << 16)
    assert got == b"y" * 3 * PAGE + b"\nshort\n"


def test_the_shared_description_stays_as_it_was(pipe: tuple[int, int]) -> None:
    _, write = pipe
    with stderr.opened(write) as own:
        assert own != write
        assert not os.get_blocking(own)
        assert not os.get_inheritable(own)
        assert os.get_blocking(write)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(own)


def test_a_file_is_written_where_its_other_writers_are(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before\n")
        with stderr.opened(file.fileno()) as own:
            assert stderr.write(own, b"line\n") == b""
        file.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nline\nafter\n"


def test_nothing_is_kept_for_a_reader_that_is_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    with stderr.opened(write) as own:
        assert stderr.write(own, b"line\n") == b""
    os.close(write)
