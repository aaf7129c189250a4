"""The agent container, as the body of ``/containers/create``: pure, one function.

network    default bridge: a user-defined one would put nat rules, and so conntrack, into the agent's own namespace
mounts     as Mounts, not Binds: a wrong path is refused instead of created as a directory
rights     no capability, read-only root, no new privileges; uid 0 only because the engine's socket wants it
tunnel     only with --tun: the TUN device, the right to set up the agent's own network, and IPv6 in there
restart    always: with unless-stopped, an engine that crashed ends us as an orphan, takes that for the user's stop,
           and leaves us so (seen with 20.10)
userns     the engine's own, so that the agent may open the engine's socket and shares file ids with the dialer
SELinux    label=disable, else the engine's socket is out of reach
nofile     not set here: an engine refuses more than its own hard limit, so the supervisor raises soft to hard
"""

from __future__ import annotations

from typing import Any

from dconnect.agent.labels import (
    DNS_CONTAINER_PORT,
    DOCKER_SOCKET,
    ENV_CONFIG,
    FRONT_DOOR_CONTAINER_PORT,
    LABEL_CONFIG,
    LABEL_ROLE,
    LABEL_VERSION,
    ROLE_AGENT,
    RUN_DIR,
    VOLUME_NAME,
)
from dconnect.core.config import AgentConfig

STOP_TIMEOUT_S = 10
TUN_DEVICE = "/dev/net/tun"
_TUNNEL: dict[str, Any] = {
    "CapAdd": ["NET_ADMIN"],
    "Devices": [{"PathOnHost": TUN_DEVICE, "PathInContainer": TUN_DEVICE, "CgroupPermissions": "rwm"}],
    # Without these a network without IPv6 leaves the TUN device none; the default bridge is one.
    "Sysctls": {f"net.ipv6.conf.{which}.disable_ipv6": "0" for which in ("all", "default")},
}


def body(config: AgentConfig, *, image: str, version: str, docker_socket: str) -> dict[str, Any]:
    """The container's configuration.

    Args:
        config: what the agent is told; its ports are published on ``config.bind``.
        image: tag of the agent image.
        version: ours, as a label.
        docker_socket: path of the engine's socket on the engine's machine.
    """
    front, front_udp = f"{FRONT_DOOR_CONTAINER_PORT}/tcp", f"{FRONT_DOOR_CONTAINER_PORT}/udp"
    dns, dns_tcp = f"{DNS_CONTAINER_PORT}/udp", f"{DNS_CONTAINER_PORT}/tcp"
    text = config.to_json()
    rights: dict[str, Any] = _TUNNEL if config.tun else {}
    return {
        "Image": image,
        "Env": [f"{ENV_CONFIG}={text}"],
        "Labels": {LABEL_ROLE: ROLE_AGENT, LABEL_VERSION: version, LABEL_CONFIG: text},
        "ExposedPorts": {front: {}, front_udp: {}, dns: {}, dns_tcp: {}},
        "StopTimeout": STOP_TIMEOUT_S,
        "HostConfig": {
            "NetworkMode": "bridge",
            "PortBindings": {
                front: [{"HostIp": config.bind, "HostPort": str(config.port)}],
                front_udp: [{"HostIp": config.bind, "HostPort": str(config.port)}],
                dns: [{"HostIp": config.bind, "HostPort": str(config.dns_port)}],
                dns_tcp: [{"HostIp": config.bind, "HostPort": str(config.dns_port)}],
            },
            "Mounts": [
                {"Type": "bind", "Source": docker_socket, "Target": DOCKER_SOCKET},
                {
                    "Type": "volume",
                    "Source": VOLUME_NAME,
                    "Target": RUN_DIR,
                    "VolumeOptions": {"Labels": {LABEL_ROLE: ROLE_AGENT}},
                },
            ],
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=16m"},  # noqa: S108 - inside the container
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            **rights,
            "SecurityOpt": ["no-new-privileges", "label=disable"],
            "UsernsMode": "host",
            "RestartPolicy": {"Name": "always"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "2"}},
        },
    }
