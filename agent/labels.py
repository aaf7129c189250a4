"""The names by which we and Docker know our own things.

Whatever we create on an engine carries ``LABEL_ROLE``; ``down`` removes what carries it and
nothing else.
"""

from __future__ import annotations

AGENT_NAME = "dconnect"
DIALER_NAME = "dconnect-dialer"
VOLUME_NAME = "dconnect-run"
"""Shared by agent and dialer; holds the unix socket over which descriptors are passed."""
IMAGE_REPOSITORY = "dconnect-agent"

LABEL_ROLE = "dev.dconnect.role"
ROLE_AGENT = "agent"
ROLE_DIALER = "dialer"
ROLE_BUILD = "build"
"""Intermediate images of our build; pruned when it ends, however it ends."""
LABEL_VERSION = "dev.dconnect.version"
LABEL_CONFIG = "dev.dconnect.config"
"""The running agent's ``AgentConfig.to_json()``, by which ``up`` sees whether anything changes."""

ENV_CONFIG = "DCONNECT_CONFIG"
"""Environment variable that carries ``AgentConfig.to_json()`` into the agent."""
ENV_LENT = "DCONNECT_LENT"
"""Environment variable that carries ``Lent.to_json()`` into a child; its arguments anybody on the machine may read."""
RUN_DIR = "/run/dconnect"
"""Where ``VOLUME_NAME`` is mounted in agent and dialer."""
DOCKER_SOCKET = "/var/run/docker.sock"
"""Where the engine's socket is mounted in the agent."""
TUN_NAME = "dconnect0"
"""The tunnel's device in the agent."""
FRONT_DOOR_CONTAINER_PORT = 1080
DNS_CONTAINER_PORT = 1053
