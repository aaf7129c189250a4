"""The agent's configuration: one frozen object, made by the command line, read by the agent."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from dconnect.core.address import Target, parse_authority, parse_ip
from dconnect.core.errors import UsageError
from dconnect.core.rules import Rules

Egress = Literal["allow", "deny"]

FRONT_DOOR_PORT = 1080
"""IANA's port for SOCKS; the one TCP port of SOCKS, HTTP proxy and API."""
DNS_PORT = 1053
DEFAULT_SUFFIXES = ("docker", "docker.test")
"""``docker`` because peers' users have it in their files; ``docker.test`` because RFC 6761 §6.2 reserves it."""

TUNNEL_SUBNET = "10.213.0.0/24"
"""Addresses of the links of the transparent mode, the agent's own first."""
TUNNEL_SUBNET_V6 = IPv6Network("fd3b:9c7e:51d2::/64")
"""Likewise: a prefix that nobody else draws (RFC 4193 §3.2.2)."""

_AUTH = re.compile(r"[0-9a-f]{32}:[0-9a-f]{64}\Z")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything the agent is told."""

    bind: str = "127.0.0.1"
    """Host address on which the ports are published."""
    port: int = FRONT_DOOR_PORT
    """Published front-door port."""
    dns_port: int = DNS_PORT
    """Published DNS port, UDP and TCP."""
    suffixes: tuple[str, ...] = DEFAULT_SUFFIXES
    """Domains under which containers are named; the first is the one we print."""
    egress: Egress = "allow"
    """Whether destinations other than containers may be dialed."""
    allow: tuple[str, ...] = ()
    """CIDRs and domains that may be dialed whatever the defaults say (``rules``)."""
    deny: tuple[str, ...] = ()
    """CIDRs and domains that may not."""
    auth: str = ""
    """How the front door knows its user's name and password again (``credentials.proof``); empty: it asks nobody."""
    dns_forward: str = ""
    """Who is asked for other domains' names: ``auto`` (the engine's own servers), an address with or without port, or
    empty: nobody."""
    tun: str = ""
    """How the agent knows the token of the link again (``credentials.proof``); empty: it has no transparent mode."""
    tun_subnet: str = TUNNEL_SUBNET
    """Where links get their IPv4 addresses."""
    embedded: bool = False
    """True when run by ``dconnect agent`` in the foreground, without a container and a dialer."""

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises: UsageError.
        """
        if parse_ip(self.bind) is None or set(self.bind) & set("[]%"):  # Docker publishes on bare addresses only
            raise UsageError(f"--bind {self.bind!r} is not an IP address; the default is 127.0.0.1.")
        for option, number in (("--port", self.port), ("--dns-port", self.dns_port)):
            if not 0 <= number <= 65535:
                raise UsageError(f"{option} {number} is not a port between 1 and 65535.")
        if not self.suffixes:
            raise UsageError("At least one --suffix is needed, for example --suffix docker.")
        for suffix in self.suffixes:
            if len(suffix) > 200 or not all(_LABEL.match(label) for label in suffix.split(".")):
                raise UsageError(f"--suffix {suffix!r} is not a domain name such as docker or docker.test.")
        if self.egress not in ("allow", "deny"):
            raise UsageError(f"--egress {self.egress!r} is neither allow nor deny.")
        if self.auth != "" and not _AUTH.match(self.auth):
            raise UsageError("The proof of the password is damaged; run `dconnect up` again.")
        if self.tun != "" and not _AUTH.match(self.tun):
            raise UsageError("The proof of the tunnel's token is damaged; run `dconnect up` again.")
        _ = self.tunnel_subnet()
        Rules(self.allow, self.deny)
        if self.dns_forward not in ("", "auto"):
            _ = self.dns_server()

    def tunnel_subnet(self) -> IPv4Network:
        """``tun_subnet``, read.

        Raises: UsageError when it cannot be one.
        """
        with contextlib.suppress(ValueError):
            subnet = IPv4Network(self.tun_subnet)
            if subnet.is_private and 16 <= subnet.prefixlen <= 29:
                return subnet
        raise UsageError(
            f"--tun-subnet {self.tun_subnet!r} is not a private IPv4 network of 8 to 65,536 addresses, "
            f"such as {TUNNEL_SUBNET}."
        )

    def dns_server(self) -> Target:
        """The server named in ``dns_forward``.

        Raises: UsageError when it is no address.
        """
        text = self.dns_forward
        if parse_ip(text) is not None:
            return Target(text.strip("[]"), 53)
        with contextlib.suppress(UsageError):
            target = parse_authority(text, 53)
            if parse_ip(target.host) is not None:
                return target
        raise UsageError(f"--dns-forward {text!r} is neither auto nor an address such as 10.0.0.53 or [fd00::53]:5353.")

    @property
    def reach(self) -> str:
        """The address at which this host reaches the published ports, bracketed for IPv6."""
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)  # noqa: S104 - compared, not bound
        return f"[{address}]" if ":" in address else address

    def to_json(self) -> str:
        """One JSON object with sorted keys, so equal configurations have equal texts."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> AgentConfig:
        """The inverse of ``to_json``; unknown keys of another version are ignored.

        Raises: UsageError when the text is not such an object.
        """
        try:
            data = json.loads(text)
            known = {field.name for field in dataclasses.fields(cls)}
            kept = {key: value for key, value in data.items() if key in known}
            for key, default in (("suffixes", DEFAULT_SUFFIXES), ("allow", ()), ("deny", ())):
                kept[key] = tuple(kept.get(key, default))
            return cls(**kept)
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"The agent's configuration cannot be read: {error}.") from error
