"""What a name means in a proxy request, and who wins when names clash."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from dconnect.core.inventory import Container, Inventory, Network
from dconnect.dns import Agent, Found, NoAddress, NotOurs, Stopped, Unknown, Zone, build
from dconnect.dns.zone import Answer, NxDomain
from kit.inventories import container, endpoint, ident, inventory, network


def zone(
    *containers: Container, networks: Sequence[Network] = (), suffixes: Sequence[str] = ("docker", "docker.test")
) -> Zone:
    return build(inventory(containers, networks), tuple(suffixes), [ip_address("127.0.0.1")])


def addresses(zone: Zone, host: str) -> list[str]:
    found = zone.resolve(host)
    assert isinstance(found, Found), found
    return [str(address) for address in found.addresses]


WEB = container(
    "web", endpoint("front", "172.18.0.2", "fd00::2", "www"), hostname="frontend", domainname="corp.example"
)


@pytest.mark.parametrize(
    "host",
    [
        "web",
        "WEB",
        "web.",
        "web.docker",
        "Web.Docker.",
        "web.docker.test",
        "www",
        "www.docker",
        "frontend",
        ident("web"),
        ident("web")[:12],
        f"{ident('web')[:12]}.docker",
        "web.front",
        "web.front.docker",
        "www.front.docker.test",
    ],
)
def test_names_work_bare_and_under_every_suffix(host: str) -> None:
    assert addresses(zone(WEB), host) == ["172.18.0.2", "fd00::2"]


@pytest.mark.parametrize(
    "stranger",
    [
        container("api.stripe.com", endpoint("n", "10.0.0.9")),
        container("x", endpoint("n", "10.0.0.9", None, "api.stripe.com")),
        container("x", endpoint("n", "10.0.0.9"), hostname="api.stripe.com"),
        container("x", endpoint("n", "10.0.0.9"), hostname="api", domainname="stripe.com"),
        container("api", endpoint("stripe.com", "10.0.0.9")),
        container("x", endpoint("n", "10.0.0.9"), domains="*.com,com,api.stripe.com.docker,*.stripe.com.docker"),
    ],
    ids=["container", "alias", "hostname", "domainname", "network", "label"],
)
def test_a_strangers_name_with_dots_holds_under_a_suffix_only(stranger: Container) -> None:
    assert zone(stranger).resolve("api.stripe.com") == NotOurs()
    assert addresses(zone(stranger), "api.stripe.com.docker") == ["10.0.0.9"]


def test_a_label_domain_takes_no_composite_from_a_project() -> None:
    domains = "web.shop,*.web.shop,web.shop.docker,1.web.shop.docker,shop-web-1.shop_default.docker,db.example"
    thief = container("x", endpoint("n", "10.0.0.9"), domains=domains)
    made = zone(*SHOP, thief)
    assert addresses(made, "web.shop") == addresses(made, "web.shop.docker") == ["172.18.0.2", "172.18.0.3"]
    for host in ("1.web.shop", "1.web.shop.docker", "shop-web-1.shop_default.docker"):
        assert addresses(made, host) == ["172.18.0.3"]
    assert made.lookup("web.shop", 1) == NotOurs()
    assert addresses(made, "db.example") == ["10.0.0.9"]
    assert addresses(zone(thief), "web.shop") == ["10.0.0.9"]


def test_a_wildcard_above_a_suffix_takes_nothing_below_it() -> None:
    thief = container("x", endpoint("n", "10.0.0.9"), domains="*.corp.example")
    made = zone(WEB, thief, suffixes=["docker.corp.example"])
    assert addresses(made, "web.docker.corp.example") == ["172.18.0.2", "fd00::2"]
    assert made.resolve("dconnect.docker.corp.example") == Agent()
    assert isinstance(made.resolve("localhost.docker.corp.example"), Unknown)
    assert isinstance(made.lookup("dconnect.docker.corp.example", 1), Answer)
    assert isinstance(made.lookup("nobody.docker.corp.example", 1), NxDomain)
    assert addresses(made, "api.corp.example") == ["10.0.0.9"]


def test_found_names_its_containers() -> None:
    found = zone(WEB).resolve("web")
    assert isinstance(found, Found)
    assert [each.name for each in found.containers] == ["web"]


@pytest.mark.parametrize(
    "host", ["nobody", "nobody.docker", "a.b.docker", "docker", "localhost", "", ".", "web.nowhere.docker"]
)
def test_unknown_names_of_one_label_or_under_a_suffix_are_unknown(host: str) -> None:
    assert isinstance(zone(WEB).resolve(host), Unknown)


@pytest.mark.parametrize(
    "host", ["example.com", "web.docker.com", "web.shop", "corp.example", "172.18.0.2", "docker.example"]
)
def test_other_domains_are_not_ours(host: str) -> None:
    assert zone(WEB).resolve(host) == NotOurs()


@pytest.mark.parametrize("host", ["dconnect", "dconnect.docker", "DCONNECT.docker.test."])
def test_the_agents_name_is_the_agent_even_if_a_container_bears_it(host: str) -> None:
    impostor = container("dconnect", endpoint("front", "172.18.0.9"), hostname="dconnect")
    assert zone(impostor).resolve(host) == Agent()
    assert addresses(zone(impostor), ident("dconnect")[:12]) == ["172.18.0.9"]


def test_our_own_containers_have_no_names() -> None:
    agent = container("dconnect-dialer", endpoint("bridge", "172.17.0.2"), role="dialer")
    assert isinstance(zone(agent).resolve("dconnect-dialer"), Unknown)
    assert isinstance(zone(agent).resolve(agent.short_id), Unknown)
    assert zone(agent).table() == ()


def test_a_paused_container_still_has_its_addresses() -> None:
    assert addresses(zone(container("web", endpoint("n", "10.0.0.2"), state="paused")), "web") == ["10.0.0.2"]


@pytest.mark.parametrize("state", ["created", "restarting", "removing", "exited", "dead"])
def test_a_container_that_does_not_run_is_stopped(state: str) -> None:
    stopped = container("web", endpoint("n", None), state=state)  # type: ignore[arg-type]
    assert zone(stopped).resolve("web.docker") == Stopped("web", stopped.state)


def test_a_running_container_without_addresses_is_told_apart() -> None:
    assert zone(container("web", endpoint("host", None))).resolve("web") == NoAddress("web")


# -- services --------------------------------------------------------------------------------

SHOP = [
    container("shop-web-1", endpoint("shop_default", "172.18.0.3", None, "web"), service="1.web.shop"),
    container("shop-web-2", endpoint("shop_default", "172.18.0.2", None, "web"), service="2.web.shop"),
]
BLOG = container("blog-web-1", endpoint("blog_default", "172.19.0.2", None, "web"), service="1.web.blog")


def test_a_service_gives_all_its_replicas() -> None:
    for host in ("web", "web.shop", "web.shop.docker"):
        assert addresses(zone(*SHOP), host) == ["172.18.0.2", "172.18.0.3"]


def test_a_replica_has_its_number() -> None:
    assert addresses(zone(*SHOP), "1.web.shop") == ["172.18.0.3"]
    assert addresses(zone(*SHOP), "2.web.shop.docker") == ["172.18.0.2"]


def test_a_service_of_two_projects_means_neither_and_says_which_there_are() -> None:
    both = zone(*SHOP, BLOG)
    assert both.resolve("web") == both.resolve("web.docker") == Unknown(("web.blog", "web.shop"))
    assert addresses(both, "web.blog") == ["172.19.0.2"]
    assert addresses(both, "web.blog_default") == ["172.19.0.2"]


def test_a_stopped_projects_service_leaves_the_bare_name_to_the_running_one() -> None:
    old = container("blog-web-1", service="1.web.blog", state="exited")
    assert addresses(zone(*SHOP, old), "web") == ["172.18.0.2", "172.18.0.3"]
    assert zone(*SHOP, old).resolve("web.blog") == Stopped("blog-web-1", "exited")


def test_a_service_with_one_replica_stopped_gives_the_others() -> None:
    stopped = container("shop-web-2", service="2.web.shop", state="exited")
    assert addresses(zone(SHOP[0], stopped), "web.shop") == ["172.18.0.3"]


def test_a_service_all_stopped_is_stopped() -> None:
    stopped = container("shop-web-2", service="2.web.shop", state="exited")
    assert zone(stopped).resolve("web.shop") == Stopped("shop-web-2", "exited")


def test_a_projects_name_alone_suggests_its_services() -> None:
    assert zone(*SHOP).resolve("shop") == Unknown(("web.shop",))


def test_a_misspelt_name_suggests_the_right_one() -> None:
    assert zone(container("postgres"), container("redis")).resolve("postgers") == Unknown(("postgres",))


# -- clashes ---------------------------------------------------------------------------------


def test_a_containers_name_beats_service_alias_and_hostname() -> None:
    rivals = (
        container("db", endpoint("a", "10.0.0.1")),
        container("shop-db-1", endpoint("a", "10.0.0.2"), service="db.shop"),
        container("x", endpoint("a", "10.0.0.3", None, "db")),
        container("y", endpoint("a", "10.0.0.4"), hostname="db"),
    )
    for count in range(len(rivals)):  # the strongest goes, the next one takes the name
        assert addresses(zone(*rivals[count:]), "db") == [f"10.0.0.{count + 1}"]


def test_a_stopped_container_gives_way_to_a_running_one_of_a_weaker_kind() -> None:
    old = container("db", state="exited")
    new = container("y", endpoint("a", "10.0.0.4"), hostname="db")
    assert addresses(zone(old, new), "db") == ["10.0.0.4"]
    assert zone(old).resolve("db") == Stopped("db", "exited")


def test_names_that_differ_in_case_only_go_to_the_lower_case_container() -> None:
    loud, quiet = container("WEB", endpoint("a", "10.0.0.1")), container("web", endpoint("a", "10.0.0.2"))
    assert addresses(zone(loud, quiet), "WEB") == ["10.0.0.2"]
    assert addresses(zone(loud), "web") == ["10.0.0.1"]


def test_an_alias_shared_by_containers_gives_all() -> None:
    shared = (
        container("a", endpoint("n", "10.0.0.3", None, "pool")),
        container("b", endpoint("n", "10.0.0.2", None, "pool")),
    )
    assert addresses(zone(*shared), "pool") == ["10.0.0.2", "10.0.0.3"]


def test_the_order_in_which_containers_are_listed_changes_nothing() -> None:
    forward, backward = Inventory((*SHOP, BLOG, WEB)), Inventory((WEB, BLOG, *reversed(SHOP)))
    one, two = (build(each, ("docker",), ()) for each in (forward, backward))
    assert not one.changed(two)
    for host in (*one.names.entries, "nothing"):
        first, second = one.resolve(host), two.resolve(host)
        if isinstance(first, Found):
            assert isinstance(second, Found)
            assert first.addresses == second.addresses
        else:
            assert first == second


# -- several networks ------------------------------------------------------------------------


def test_addresses_are_ordered_ipv4_first_ordinary_networks_first_default_bridge_later() -> None:
    many = container(
        "many",
        endpoint("bridge", "172.17.0.2", "fd17::2"),
        endpoint("closed", "10.1.0.2"),
        endpoint("user", "192.168.0.2", "fd00::2"),
    )
    made = zone(many, networks=[network("closed", "10.1.0.0/16", internal=True)])
    assert addresses(made, "many") == ["192.168.0.2", "172.17.0.2", "10.1.0.2", "fd00::2", "fd17::2"]


def test_a_name_on_a_network_gives_the_address_there_only() -> None:
    made = zone(container("db", endpoint("front", "10.0.0.2"), endpoint("back", "10.1.0.2", "fd00::2")))
    assert addresses(made, "db") == ["10.0.0.2", "10.1.0.2", "fd00::2"]
    assert addresses(made, "db.back.docker") == ["10.1.0.2", "fd00::2"]


# -- labels ----------------------------------------------------------------------------------


def test_a_label_domain_outside_the_suffixes_is_ours_alone_not_its_neighbours() -> None:
    made = zone(container("app", endpoint("n", "10.0.0.2"), domains="app.example.com"))
    assert addresses(made, "App.Example.com.") == ["10.0.0.2"]
    assert (
        made.resolve("example.com") == made.resolve("x.app.example.com") == made.resolve("b.example.com") == NotOurs()
    )


def test_a_wildcard_covers_everything_below_but_not_itself() -> None:
    made = zone(container("app", endpoint("n", "10.0.0.2"), domains="*.example.com,*.tenants.docker"))
    for host in ("a.example.com", "a.b.example.com", "x.tenants.docker", "x.y.tenants.docker"):
        assert addresses(made, host) == ["10.0.0.2"]
    assert made.resolve("example.com") == made.resolve("x.tenants") == NotOurs()
    assert isinstance(made.resolve("tenants.docker"), Unknown)


def test_an_exact_name_beats_a_wildcard_and_hides_it_below() -> None:
    made = zone(
        container("all", endpoint("n", "10.0.0.2"), domains="*.example.com"),
        container("one", endpoint("n", "10.0.0.3"), domains="one.example.com"),
    )
    assert addresses(made, "one.example.com") == ["10.0.0.3"]
    assert addresses(made, "two.example.com") == ["10.0.0.2"]
    assert isinstance(made.resolve("x.one.example.com"), Unknown)


def test_a_name_under_two_suffixes_belongs_to_the_longer() -> None:
    made = zone(WEB, suffixes=["test", "docker.test"])
    assert addresses(made, "web.docker.test") == addresses(made, "web.test") == ["172.18.0.2", "fd00::2"]


# -- the table -------------------------------------------------------------------------------


def test_the_table_lists_each_containers_names_best_first_under_the_first_suffix() -> None:
    made = zone(
        container(
            "shop-web-1",
            endpoint("net", "10.0.0.2", None, "www"),
            service="web.shop",
            domains="app.example.com,*.x.docker",
        ),
        container("old", state="exited"),
    )
    old, web = made.table()
    assert (old.name, old.state, old.names) == ("old", "exited", ("old.docker", f"{ident('old')[:12]}.docker"))
    assert web.names == (
        "shop-web-1.docker",
        "app.example.com",
        "*.x.docker",
        "1.web.shop.docker",
        "web.shop.docker",
        "web.docker",
        "shop-web-1.net.docker",
        "www.net.docker",
        "www.docker",
        f"{ident('shop-web-1')[:12]}.docker",
    )
    assert web.endpoints == (endpoint("net", "10.0.0.2", None, "www"),)


def test_the_table_leaves_out_names_that_mean_something_else() -> None:
    rows = {row.name: row.names for row in zone(*SHOP, BLOG, container("x", hostname="shop-web-1")).table()}
    assert "web.docker" not in rows["shop-web-1"]
    assert "shop-web-1.docker" not in rows["x"]
