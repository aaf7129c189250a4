"""The image's health check: asks the front door whether the agent is well, as a client would."""

from __future__ import annotations

import http.client
import sys

from dconnect.agent.labels import FRONT_DOOR_CONTAINER_PORT


def main() -> int:
    """0 when ``/healthz`` answers 200, 1 otherwise."""
    connection = http.client.HTTPConnection("127.0.0.1", FRONT_DOOR_CONTAINER_PORT, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
