"""The standard scene: the kinds of network that users have, with a container in each."""

from __future__ import annotations

from dataclasses import dataclass

from bed.session import Bed

IPV6_SUBNET = "fd00:dc::/64"
PROJECT = "shop"


@dataclass(frozen=True, slots=True)
class Scene:
    """The containers' ids; their names are the same words unless stated."""

    plain: str
    """On the default bridge."""
    web: str
    """``shop_web_1``, service web of compose project shop, on shop_front and shop_back."""
    web_2: str
    """``shop_web_2``, its second replica, on shop_front."""
    db: str
    """``shop_db_1``, service db, on shop_back."""
    vault: str
    """On ``vault_net``, an --internal network."""
    six: str
    """On ``six_net``, with an IPv6 address in fd00:dc::/64 besides its IPv4 one."""


def _labels(service: str, number: int) -> dict[str, str]:
    prefix = "com.docker.compose"
    return {
        f"{prefix}.project": PROJECT,
        f"{prefix}.service": service,
        f"{prefix}.container-number": str(number),
        f"{prefix}.oneoff": "False",
    }


def set_scene(bed: Bed) -> Scene:
    """Create the networks and start the containers; each accepts on port 80 when this returns."""
    for name in ("shop_front", "shop_back"):
        bed.docker("network", "create", name)
    bed.docker("network", "create", "--internal", "vault_net")
    bed.docker("network", "create", "--ipv6", "--subnet", IPV6_SUBNET, "six_net")
    web = bed.target("shop_web_1", network="shop_front", labels=_labels("web", 1), options=["--network-alias=web"])
    bed.docker("network", "connect", "--alias=web", "shop_back", web)
    return Scene(
        plain=bed.target("plain"),
        web=web,
        web_2=bed.target("shop_web_2", network="shop_front", labels=_labels("web", 2), options=["--network-alias=web"]),
        db=bed.target("shop_db_1", network="shop_back", labels=_labels("db", 1), options=["--network-alias=db"]),
        vault=bed.target("vault", network="vault_net"),
        six=bed.target("six", network="six_net"),
    )
