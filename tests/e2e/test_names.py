"""Names as the host that cannot route sees them, while containers come, change and go."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterator

import pytest

from bed.dconnect import DNS_PORT, Dconnect
from bed.scene import Scene
from bed.session import Bed
from bed.waiting import wait_for

DEADLINE = 5.0
"""A change must be seen within this even on a busy machine."""
NETWORK, OTHER = "names_net", "names_other"


def dig(bed: Bed, name: str, kind: str, transport: str) -> tuple[str, list[str]]:
    """The status and the answer section's values, in no order."""
    words = ["dig", "+noall", "+comments", "+answer", "+time=2", "+tries=1", transport]
    said = bed.host.run([*words, "-p", str(DNS_PORT), f"@{bed.address}", name, kind]).stdout
    status = re.search(r"status: (\w+)", said)
    values = [line.split()[4] for line in said.splitlines() if line and not line.startswith(";")]
    return status[1] if status else "no answer", sorted(values)


@pytest.fixture
def answers(bed: Bed, agent: Dconnect) -> Callable[..., None]:
    """Checks that a name has these values soon, and the same over UDP and TCP."""

    def check(name: str, *values: str, kind: str = "A", status: str = "NOERROR") -> None:
        wanted = status, sorted(values)
        for transport in ("+notcp", "+tcp"):
            with contextlib.suppress(AssertionError):  # the next line says more
                wait_for(name, lambda: dig(bed, name, kind, transport) == wanted, DEADLINE)  # noqa: B023 - called here
            assert dig(bed, name, kind, transport) == wanted, f"{name} {kind} {transport}"

    return check


@pytest.fixture
def leads_to(bed: Bed, agent: Dconnect) -> Callable[[str, str], None]:
    """Checks that curl by way of the agent comes to this container soon."""

    def page(host: str) -> str:
        words = ["curl", "-sS", "--max-time", "3", "--socks5-hostname", agent.proxy, f"http://{host}/"]
        return bed.host.run(words).stdout

    def check(host: str, container: str) -> None:
        wait_for(f"{host} leads to {container}", lambda: page(host) == f"hello from {container[:12]}\n", DEADLINE)

    return check


@pytest.fixture
def place(bed: Bed) -> Iterator[None]:
    """Two networks; what a test leaves on them goes with them."""
    bed.docker("network", "create", "--subnet=10.81.0.0/24", NETWORK)
    bed.docker("network", "create", "--subnet=10.82.0.0/24", OTHER)
    yield
    for container in bed.docker("ps", "--all", "--quiet", "--filter=label=names").split():
        bed.docker("rm", "--force", container)
    bed.docker("network", "rm", NETWORK, OTHER)


def made(bed: Bed, name: str, *options: str, **labels: str) -> str:
    shown = {key.replace("_", "."): value for key, value in labels.items()}
    return bed.target(name, network=NETWORK, labels={"names": "", **shown}, options=options)


Answers = Callable[..., None]
LeadsTo = Callable[[str, str], None]


def test_a_service_of_compose_has_the_addresses_of_all_its_replicas_on_all_networks(
    bed: Bed, scene: Scene, answers: Answers
) -> None:
    first = [bed.address_of(scene.web, "shop_front"), bed.address_of(scene.web, "shop_back")]
    second = bed.address_of(scene.web_2, "shop_front")
    for name in ("web.shop.docker", "web.docker", "web.docker.test"):
        answers(name, *first, second)
    answers("1.web.shop.docker", *first)
    answers("2.web.shop.docker", second)
    answers("shop_web_1.docker", *first)
    answers("shop_web_1.shop_back.docker", first[1])
    answers("db.shop.docker", bed.address_of(scene.db))
    answers(f"{scene.db[:12]}.docker", bed.address_of(scene.db))


@pytest.mark.usefixtures("place")
def test_an_alias_is_a_name_also_by_its_network(bed: Bed, answers: Answers, leads_to: LeadsTo) -> None:
    container = made(bed, "aliased", "--network-alias=api")
    address = bed.address_of(container)
    for name in ("api", f"api.{NETWORK}"):
        answers(f"{name}.docker", address)
        leads_to(name, container)


@pytest.mark.usefixtures("place")
def test_the_label_gives_names_also_outside_the_suffixes(bed: Bed, answers: Answers, leads_to: LeadsTo) -> None:
    container = made(bed, "labelled", dev_dconnect_domains="shop.example, *.wild.example, short.docker, *.com")
    address = bed.address_of(container)
    for name in ("shop.example", "any.thing.wild.example", "short.docker"):
        answers(name, address)
        leads_to(name, container)
    for name in ("other.example", "shop.com"):  # the second would need *.com, which nobody is given
        answers(name, status="REFUSED")


@pytest.mark.usefixtures("place")
def test_a_renamed_container_has_its_new_name_only(bed: Bed, answers: Answers, leads_to: LeadsTo) -> None:
    container = made(bed, "before")
    answers("before.docker", bed.address_of(container))
    bed.docker("rename", "before", "after")
    answers("after.docker", bed.address_of(container))
    answers("before.docker", status="NXDOMAIN")
    leads_to("after", container)


@pytest.mark.usefixtures("place")
def test_addresses_come_and_go_with_networks(bed: Bed, answers: Answers, leads_to: LeadsTo) -> None:
    container = made(bed, "roamer")
    first = bed.address_of(container, NETWORK)
    answers("roamer.docker", first)
    bed.docker("network", "connect", "--alias=visitor", OTHER, container)
    second = bed.address_of(container, OTHER)
    answers("roamer.docker", first, second)
    answers(f"visitor.{OTHER}.docker", second)
    bed.docker("network", "disconnect", NETWORK, container)
    answers("roamer.docker", second)
    answers(f"roamer.{NETWORK}.docker", status="NXDOMAIN")
    leads_to("roamer", container)
    bed.docker("network", "disconnect", OTHER, container)
    answers("roamer.docker")  # it exists, without an address


@pytest.mark.usefixtures("place")
def test_a_paused_container_keeps_its_name(bed: Bed, agent: Dconnect, answers: Answers) -> None:
    container = made(bed, "sleeper")
    bed.docker("pause", container)
    try:
        wait_for("the agent knows of the pause", lambda: state_of(agent, "sleeper") == "paused", DEADLINE)
        answers("sleeper.docker", bed.address_of(container))
    finally:
        bed.docker("unpause", container)


def state_of(agent: Dconnect, name: str) -> str:
    listed = json.loads(agent("dns", "--json"))["containers"]
    return next((str(each["state"]) for each in listed if each["name"] == name), "")


@pytest.mark.usefixtures("place")
def test_a_container_that_comes_back_with_another_address_is_found_there(
    bed: Bed, answers: Answers, leads_to: LeadsTo
) -> None:
    container = made(bed, "mover")
    old = bed.address_of(container)
    answers("mover.docker", old)
    bed.docker("stop", container)
    answers("mover.docker", status="NXDOMAIN")
    squatter = made(bed, "squatter", f"--ip={old}")
    bed.docker("start", container)
    bed.wait_ready(container)
    assert bed.address_of(container) != old
    answers("mover.docker", bed.address_of(container))
    answers("squatter.docker", old)
    answers(ipaddress.ip_address(old).reverse_pointer, "squatter.docker.", kind="PTR")
    leads_to("mover", container)
    leads_to("squatter", squatter)
    bed.docker("rm", "--force", squatter)
    answers("squatter.docker", status="NXDOMAIN")
    answers(ipaddress.ip_address(old).reverse_pointer, kind="PTR", status="NXDOMAIN")


def test_aaaa_is_an_address_or_no_data_and_never_a_missing_name(bed: Bed, scene: Scene, answers: Answers) -> None:
    answers("six.docker", bed.address_of(scene.six, version=6), kind="AAAA")
    answers("six.docker", bed.address_of(scene.six))
    answers("plain.docker", kind="AAAA")
    answers("plain.docker", kind="MX")


def test_addresses_have_their_names(bed: Bed, scene: Scene, answers: Answers) -> None:
    for container, name, version in ((scene.plain, "plain", 4), (scene.six, "six", 4), (scene.six, "six", 6)):
        address = ipaddress.ip_address(bed.address_of(container, version=version))
        answers(address.reverse_pointer, f"{name}.docker.", kind="PTR")


def test_an_unknown_name_does_not_exist_and_a_name_elsewhere_is_refused(scene: Scene, answers: Answers) -> None:
    for kind in ("A", "AAAA"):
        answers("nobody.docker", kind=kind, status="NXDOMAIN")
        answers("nobody.docker.test", kind=kind, status="NXDOMAIN")
        answers("example.com", kind=kind, status="REFUSED")
    answers("8.8.8.8.in-addr.arpa", kind="PTR", status="REFUSED")
