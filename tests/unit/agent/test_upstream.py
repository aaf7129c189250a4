from __future__ import annotations

from pathlib import Path

import pytest

from dconnect.agent.upstream import servers
from dconnect.core.config import AgentConfig

RESOLV_CONF = """# made by the engine
search corp.example
nameserver 10.0.0.53
 nameserver fd00::53 # behind it
nameserver fe80::1%eth0
nameserver
nameserver none.example
nameserver 10.0.0.54
nameserver 10.0.0.55
options ndots:1
"""


@pytest.mark.parametrize(
    ("forward", "asked"),
    [
        ("", []),
        ("auto", ["10.0.0.53:53", "[fd00::53]:53", "10.0.0.54:53"]),
        ("192.0.2.1", ["192.0.2.1:53"]),
        ("[fd00::1]:54", ["[fd00::1]:54"]),
    ],
)
def test_the_servers_are_the_users_or_the_engines(tmp_path: Path, forward: str, asked: list[str]) -> None:
    (tmp_path / "resolv.conf").write_text(RESOLV_CONF)
    assert [str(each) for each in servers(AgentConfig(dns_forward=forward), tmp_path / "resolv.conf")] == asked


def test_without_a_resolv_conf_there_are_none(tmp_path: Path) -> None:
    assert servers(AgentConfig(dns_forward="auto"), tmp_path / "resolv.conf") == []
