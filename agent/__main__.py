"""Entry point of the agent container."""

from __future__ import annotations

import os
import sys

from dconnect.agent import labels, supervisor
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError


def main() -> int:
    """Run the supervisor with the configuration from the environment."""
    try:
        config = AgentConfig.from_json(os.environ.get(labels.ENV_CONFIG, "{}"))
        return supervisor.run(
            config,
            f"unix://{labels.DOCKER_SOCKET}",
            address="0.0.0.0",  # noqa: S104 - the container's own namespace; Docker publishes it on loopback
            front_port=labels.FRONT_DOOR_CONTAINER_PORT,
            dns_port=labels.DNS_CONTAINER_PORT,
        )
    except DconnectError as error:
        supervisor.log(str(error), "error")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
