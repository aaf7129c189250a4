"""The agent's end of the transparent mode: hosts' packets become the agent's own connections, datagrams and pings."""

from dconnect.tunnel.gateway.gateway import Gateway
from dconnect.tunnel.gateway.plan import Plan
from dconnect.tunnel.gateway.ways import Ways

__all__ = ["Gateway", "Plan", "Ways"]
