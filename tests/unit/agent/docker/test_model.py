"""The model, fed with what engines write; see data/README.md for what was recorded and how."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dconnect.agent.docker import model
from dconnect.core.inventory import Container, Endpoint, Inventory, Network

RECORDED: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "data" / "engine-20.10.json").read_text()
)
ID = "5e420a94f6065b84ee0b4afa7b56084e3aa2f64443055174c48d95223f31487f"
NETWORK_ID = "47178b1bdadf56847b50fc419dc329f487b0800112d1377d7ca456860a179cc5"


def recorded(name: str) -> Container:
    return model.container(next(each for each in RECORDED["containers"] if each["Name"] == f"/{name}"))


def recorded_network(name: str) -> Network:
    return model.network(next(each for each in RECORDED["networks"] if each["Name"] == name))


def places(container: Container) -> dict[str, tuple[str | None, str | None, tuple[str, ...]]]:
    return {each.network: (each.ipv4, each.ipv6, each.aliases) for each in container.endpoints}


def inspected(networks: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {"Id": ID, "Name": "/web", "State": {"Status": "running"}}
    return raw | {"NetworkSettings": {"Networks": networks}} | fields


def pools(*config: dict[str, Any], driver: str = "bridge") -> Network:
    return model.network({"Id": NETWORK_ID, "Name": "net", "Driver": driver, "IPAM": {"Config": list(config)}})


# -- engine 20.10, recorded --------------------------------------------------------------------------


def test_a_compose_container_on_two_networks() -> None:
    web = recorded("shop_web_1")
    assert (web.project, web.service, web.number, web.oneoff) == ("shop", "web", 1, False)
    assert web.state == "running"
    assert web.running
    assert web.image == "dconnect-bed/target:latest"
    assert web.hostname == web.short_id
    assert web.ports == ("7/tcp", "9/tcp", "19/tcp", "80/tcp")
    assert places(web) == {
        "shop_back": ("172.19.0.2", None, ("web",)),
        "shop_front": ("172.18.0.2", None, ("web",)),
    }


def test_replicas_differ_by_number() -> None:
    assert [recorded(f"shop_web_{number}").number for number in (1, 2)] == [1, 2]


def test_an_ipv6_address_stands_beside_the_ipv4_one() -> None:
    assert places(recorded("six")) == {"six_net": ("172.21.0.2", "fd00:dc::2", ())}


def test_a_stopped_container_keeps_its_networks_and_aliases_but_no_address() -> None:
    gone = recorded("gone")
    assert gone.state == "exited"
    assert places(gone) == {"shop_front": (None, None, ("gonealias",))}


def test_a_container_never_started_has_names_and_no_address() -> None:
    never = recorded("never")
    assert never.state == "created"
    assert (never.hostname, never.domainname) == ("box", "example.org")
    assert never.labels == (("dev.dconnect.domains", "a.test, *.b.test"),)
    assert never.ports == ("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp")
    assert places(never) == {"bridge": (None, None, ())}


def test_a_paused_container_keeps_its_address() -> None:
    paused = recorded("paused")
    assert paused.state == "paused"
    assert paused.running
    assert places(paused)["bridge"][0] == "172.17.0.4"


def test_health_is_told_where_there_is_a_check() -> None:
    assert recorded("healthy").health == "healthy"
    assert recorded("plain").health == ""


@pytest.mark.parametrize("name", ["hosty", "sidecar"])
def test_a_container_in_anothers_network_has_neither_address_nor_that_ones_host_name(name: str) -> None:
    container = recorded(name)
    assert container.running
    assert container.hostname == ""
    assert [(each.ipv4, each.ipv6) for each in container.endpoints] in ([], [(None, None)])


def test_networks_have_their_subnets_and_the_engines_addresses() -> None:
    front = recorded_network("shop_front")
    assert (front.driver, front.internal) == ("bridge", False)
    assert (front.subnets, front.gateways) == (("172.18.0.0/16",), ("172.18.0.1",))
    assert recorded_network("gw_net").gateways == ("10.78.0.254",)
    assert recorded_network("vault_net").internal


def test_a_bridges_untold_gateway_is_the_first_address() -> None:
    assert recorded_network("bridge").gateways == ("172.17.0.1",)
    six = recorded_network("six_net")
    assert (six.subnets, six.gateways) == (("172.21.0.0/16", "fd00:dc::/64"), ("172.21.0.1", "fd00:dc::1"))


def test_other_drivers_and_empty_networks_have_no_gateway() -> None:
    assert recorded_network("mac_net").gateways == ()
    for name in ("host", "none"):
        network = recorded_network(name)
        assert (network.subnets, network.gateways) == ((), ())


def test_the_order_of_the_answers_does_not_matter() -> None:
    containers = [model.container(each) for each in RECORDED["containers"]]
    networks = [model.network(each) for each in RECORDED["networks"]]
    first = model.inventory(containers, networks)
    assert [each.id for each in first.containers] == sorted(each.id for each in containers)
    shuffle = random.Random(1)
    for items in (containers, networks):
        shuffle.shuffle(items)
    assert model.inventory(containers, networks) == first
    assert Inventory.from_json(first.to_json()) == first
    assert first.addresses["fd00:dc::2"].name == "six"


def test_the_order_of_keys_does_not_matter() -> None:
    raw = next(each for each in RECORDED["containers"] if each["Name"] == "/shop_web_1")
    turned = json.loads(json.dumps(raw), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert list(turned["NetworkSettings"]["Networks"]) != list(raw["NetworkSettings"]["Networks"])
    assert model.container(turned) == model.container(raw)


# -- engine 26 to 29, after the API's documentation (EndpointSettings in versions 1.44, 1.45 and 1.52) --


@pytest.mark.parametrize(
    ("aliases", "dns_names"),
    [
        pytest.param(["server_x", "server_y", ID[:12]], None, id="1.43: the short id is among the aliases"),
        pytest.param(
            ["server_x", "server_y", ID[:12]], ["web", "server_x", "server_y", ID[:12], "my.ctr"], id="1.44: both"
        ),
        pytest.param(["server_x", "server_y"], ["web", "server_x", "server_y", ID[:12], "my.ctr"], id="1.45"),
        pytest.param(None, ["web", "server_x", "server_y", ID[:12], "my.ctr"], id="DNSNames alone"),
    ],
)
def test_aliases_are_those_the_user_gave(aliases: object, dns_names: object) -> None:
    endpoint = {
        "IPAMConfig": None,
        "Aliases": aliases,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": NETWORK_ID,
        "IPAddress": "172.18.0.4",
        "GlobalIPv6Address": "2001:DB8::5689",
        "DNSNames": dns_names,
    }
    container = model.container(inspected({"net": endpoint}, Config={"Hostname": "my.ctr"}))
    assert container.endpoints == (
        Endpoint("net", NETWORK_ID, "172.18.0.4", "2001:db8::5689", ("server_x", "server_y")),
    )


def test_a_network_of_engine_29_with_status_and_without_ipv4() -> None:
    network = model.network(
        {
            "Id": NETWORK_ID,
            "Name": "six_only",
            "Driver": "bridge",
            "EnableIPv4": False,
            "EnableIPv6": True,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": "fd12::/64", "IPRange": "", "Gateway": "fd12::1"}]},
            "Internal": False,
            "Status": {"IPAM": {"Subnets": {"fd12::/64": {"IPsInUse": 3}}}},
        }
    )
    assert (network.subnets, network.gateways) == (("fd12::/64",), ("fd12::1",))


# -- Podman's compatible API, after its sources (pkg/api/handlers/compat, libpod/define) ------------------


def test_a_container_of_podman() -> None:
    raw = {
        "Id": ID,
        "Name": "web",
        "State": {"Status": "stopping", "Running": True, "Healthcheck": {"Status": "", "Log": None}},
        "Image": "sha256:00",
        "ImageName": "docker.io/library/nginx:latest",
        "HostConfig": {"NetworkMode": "bridge"},
        "Config": {"Hostname": ID[:12], "Labels": None, "ExposedPorts": None},
        "NetworkSettings": {
            "IPAddress": "10.88.0.3",
            "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
            "Networks": {"podman": {"NetworkID": "podman", "IPAddress": "10.88.0.3", "Aliases": [ID[:12]]}},
        },
    }
    container = model.container(raw)
    assert (container.name, container.state, container.health) == ("web", "running", "")
    assert container.image == "docker.io/library/nginx:latest"
    assert container.ports == ("80/tcp",)
    assert places(container) == {"podman": ("10.88.0.3", None, ())}


@pytest.mark.parametrize(
    ("status", "state"), [("configured", "created"), ("initialized", "created"), ("stopped", "exited")]
)
def test_podmans_words_for_states(status: str, state: str) -> None:
    assert model.container(inspected(State={"Status": status})).state == state


# -- what is missing, null, or odd -----------------------------------------------------------------------


def test_an_unknown_state_is_judged_by_its_flags() -> None:
    def state(**flags: object) -> str:
        return model.container(inspected(State={"Status": "hibernating", **flags})).state

    assert state(Running=True) == "running"
    assert state(Running=True, Paused=True) == "paused"
    assert state() == "exited"


@pytest.mark.parametrize("networks", [None, {}, [], "bridge", {"net": None}, {"net": []}])
def test_odd_networks_mean_no_address(networks: Any) -> None:
    container = model.container(inspected(networks))
    assert all(each.ipv4 is None and each.ipv6 is None for each in container.endpoints)


@pytest.mark.parametrize("text", ["", "<nil>", "0.0.0.0", "fd00::1", "172.18.0", None, 7])
def test_what_is_no_ipv4_address_is_none(text: object) -> None:
    (endpoint,) = model.container(inspected({"net": {"IPAddress": text}})).endpoints
    assert endpoint.ipv4 is None


@pytest.mark.parametrize("text", ["", "::", "172.18.0.2", None])
def test_what_is_no_ipv6_address_is_none(text: object) -> None:
    (endpoint,) = model.container(inspected({"net": {"GlobalIPv6Address": text}})).endpoints
    assert endpoint.ipv6 is None


def test_compose_labels_may_say_anything() -> None:
    labels = {"com.docker.compose.container-number": "many", "com.docker.compose.oneoff": "True", "x": 1}
    container = model.container(inspected(Config={"Labels": labels}))
    assert container.number == 0
    assert container.oneoff


def test_our_own_containers_have_a_role() -> None:
    assert model.container(inspected(Config={"Labels": {"dev.dconnect.role": "agent"}})).role == "agent"


def test_ports_are_sorted_by_number_and_odd_ones_left_out() -> None:
    exposed = ["443/tcp", "80/tcp", "53/udp", "53/tcp", "http", "\N{ARABIC-INDIC DIGIT ONE}/tcp"]
    container = model.container(inspected(Config={"ExposedPorts": {key: {} for key in exposed}}))
    assert container.ports == ("53/tcp", "53/udp", "80/tcp", "443/tcp")


@pytest.mark.parametrize("raw", [None, [], {}, {"Id": ID}, {"Name": "/web"}, {"Id": 7, "Name": "web"}])
def test_without_id_and_name_it_is_unreadable(raw: Any) -> None:
    with pytest.raises(model.Unreadable, match="container without an id or a name"):
        model.container(raw)
    with pytest.raises(model.Unreadable, match="network without an id or a name"):
        model.network(raw)


def test_old_engines_write_the_gateway_with_its_prefix_length() -> None:
    assert pools({"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1/16"}).gateways == ("172.18.0.1",)


def test_odd_pools_are_left_out() -> None:
    network = pools({"Subnet": "all"}, {}, {"Subnet": "10.1.0.9/24"}, {"Subnet": "255.255.255.255/32"})
    assert network.subnets == ("10.1.0.0/24", "255.255.255.255/32")
    assert network.gateways == ("10.1.0.1",)


@pytest.mark.parametrize("ipam", [None, {}, {"Config": None}, {"Config": [None]}, []])
def test_a_network_without_pools(ipam: Any) -> None:
    network = model.network({"Id": NETWORK_ID, "Name": "net", "Driver": "bridge", "IPAM": ipam})
    assert (network.subnets, network.gateways) == ((), ())
