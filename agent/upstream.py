"""Which name servers are asked for other domains' names."""

from __future__ import annotations

from pathlib import Path

from dconnect.core.address import parse_ip
from dconnect.core.config import AgentConfig
from dconnect.core.limits import DNS_SERVERS
from dconnect.dns import Server

RESOLV_CONF = Path("/etc/resolv.conf")
"""What the engine gave the agent's container: its own machine's servers."""


def servers(config: AgentConfig, resolv_conf: Path = RESOLV_CONF) -> list[Server]:
    """The servers that the user named, or the engine's; none where nothing is forwarded."""
    if not config.dns_forward:
        return []
    if config.dns_forward == "auto":
        return _listed(resolv_conf)
    host, port = config.dns_server()
    address = parse_ip(host)
    return [] if address is None else [Server(address, port)]


def _listed(resolv_conf: Path) -> list[Server]:
    """The ``nameserver`` lines (resolv.conf(5)), those without a zone, which would be another interface's."""
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    texts = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver" and "%" not in each[1]]
    return [Server(address) for text in texts if (address := parse_ip(text)) is not None][:DNS_SERVERS]
