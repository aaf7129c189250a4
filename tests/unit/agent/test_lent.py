"""What the supervisor lends: as a child's argument, and borrowed."""

from __future__ import annotations

import os
import socket

from dconnect.agent.lent import Lent, borrow
from dconnect.core.config import AgentConfig


def test_a_child_reads_what_the_supervisor_wrote() -> None:
    config = AgentConfig(suffixes=("docker", "box"), port=3)
    lent = Lent(config, "unix:///s", 3, 4, 5, 6, 7, 8, 9, "/run/x", index=2)
    assert Lent.from_json(lent.to_json()) == lent
    assert (lent.bus_path, lent.api_path) == ("/run/x/bus.sock", "/run/x/api.sock")


def test_all_descriptors_are_lent() -> None:
    assert Lent(AgentConfig(), "", 3, 4, 5, 6, 7, 8, 9, "").descriptors() == (3, 4, 5, 6, 7, 8, 9)


def test_closing_what_was_borrowed_leaves_the_lenders_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as lender:
        borrowed = borrow(lender.fileno())
        assert not borrowed.getblocking()
        assert borrowed.getsockname() == lender.getsockname()
        assert not os.get_inheritable(borrowed.fileno())
        borrowed.close()
        with socket.create_connection(lender.getsockname()):
            lender.accept()[0].close()
