"""What is done to each kind of host: golden files and commands (resolver(5), resolvectl(1), nmcli(1))."""

from __future__ import annotations

import pytest

from dconnect.cli.host.detect import Manager
from dconnect.cli.host.plans import (
    Commands,
    File,
    FirstServer,
    Folder,
    Forward,
    Wish,
    first_server,
    plan,
    without_server,
)
from dconnect.core.address import Target

LOCAL = Target("127.0.0.1", 1053)


def wish(manager: Manager, dns: Target = LOCAL, *suffixes: str) -> Wish:
    return Wish(manager, suffixes or ("docker", "docker.test"), dns)


def test_nothing_wished_nothing_done() -> None:
    assert plan(None) == []


def test_macos_has_a_file_for_each_suffix_and_its_cache_emptied_after_the_last_change() -> None:
    text = "# dconnect\nnameserver 127.0.0.1\nport 1053\nsearch_order 1\ntimeout 5\n"
    flush = (("dscacheutil", "-flushcache"), ("killall", "-HUP", "mDNSResponder"))
    assert plan(wish(Manager.MACOS)) == [
        Commands(undo=flush, needed=False),
        Folder("/etc/resolver"),
        File("/etc/resolver/docker", text),
        File("/etc/resolver/docker.test", text),
        Commands(do=flush, needed=False),
    ]


RESOLVECTL = """ip address add 127.0.0.153/32 dev dconnect-dns scope global
ip link set dconnect-dns up
resolvectl dns dconnect-dns {server}
resolvectl domain dconnect-dns ~docker ~docker.test
resolvectl default-route dconnect-dns no
resolvectl dnssec dconnect-dns no
resolvectl dnsovertls dconnect-dns no
resolvectl llmnr dconnect-dns no
resolvectl mdns dconnect-dns no"""


@pytest.mark.parametrize(
    ("manager", "dns", "server"),
    [
        (Manager.RESOLVED, LOCAL, "127.0.0.1:1053"),
        (Manager.RESOLVED, Target("::1", 1053), "[::1]:1053"),
        (Manager.RESOLVED, Target("10.0.0.9", 1053), "127.0.0.153"),
        (Manager.OLD_RESOLVED, LOCAL, "127.0.0.153"),
    ],
)
def test_systemd_resolved_gets_a_link_and_a_forwarder_only_where_it_cannot_ask_itself(
    manager: Manager, dns: Target, server: str
) -> None:
    *before, link, settings = plan(wish(manager, dns))
    assert before == ([Forward("127.0.0.153", dns)] if server == "127.0.0.153" else [])
    assert isinstance(link, Commands)
    assert isinstance(settings, Commands)
    assert link.do == (("ip", "link", "add", "dconnect-dns", "type", "dummy"),)
    assert [" ".join(command) for command in link.instead] == [
        "ip link add dconnect-dns type veth peer name dconnect-dns-1",
        "ip link set dconnect-dns-1 up",
    ]
    assert link.undo == (("ip", "link", "delete", "dconnect-dns"),)
    assert link.makes == "/sys/class/net/dconnect-dns"
    assert [" ".join(command) for command in settings.do] == RESOLVECTL.format(server=server).splitlines()
    assert settings.undo == ()  # it all goes with the link


def test_network_manager_gets_a_file_for_its_dnsmasq_which_starts_anew() -> None:
    reload = (("nmcli", "general", "reload", "dns-full"),)
    assert plan(wish(Manager.NETWORK_MANAGER)) == [
        Commands(undo=reload),
        Folder("/etc/NetworkManager/dnsmasq.d"),
        File(
            "/etc/NetworkManager/dnsmasq.d/dconnect.conf",
            "# dconnect\nserver=/docker/127.0.0.1#1053\nserver=/docker.test/127.0.0.1#1053\n",
        ),
        Commands(do=reload),
    ]


def test_the_last_resort_is_a_forwarder_and_the_first_server_that_libc_asks() -> None:
    assert plan(wish(Manager.RESOLV_CONF)) == [
        Forward("127.0.0.153", LOCAL),
        FirstServer("/etc/resolv.conf", "127.0.0.153"),
    ]


OURS = "# dconnect: the next line goes with `sudo dconnect dns uninstall`\nnameserver 127.0.0.153\n"


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("nameserver 10.0.0.1\nnameserver 10.0.0.2\n", f"{OURS}nameserver 10.0.0.1\nnameserver 10.0.0.2\n"),
        ("# c\nsearch lan\nnameserver 10.0.0.1\noptions x", f"# c\nsearch lan\n{OURS}nameserver 10.0.0.1\noptions x"),
        # resolv.conf(5): "If no nameserver entries are present, the default is to use the name server on the local
        # machine."
        ("search lan", f"search lan\n{OURS}nameserver 127.0.0.1\n"),
        ("", f"{OURS}nameserver 127.0.0.1\n"),
    ],
)
def test_our_server_stands_before_all_others_which_stay(text: str, becomes: str) -> None:
    assert first_server(text, "127.0.0.153") == becomes
    assert "127.0.0.153" not in without_server(becomes, "127.0.0.153")


def test_only_our_lines_are_taken_out_of_a_file_that_was_changed() -> None:
    text = f"nameserver 9.9.9.9\n{OURS}nameserver 10.0.0.1\n# mine\n"
    assert without_server(text, "127.0.0.153") == "nameserver 9.9.9.9\nnameserver 10.0.0.1\n# mine\n"


def test_each_step_says_what_it_does() -> None:
    lines = [str(step) for manager in Manager for step in plan(wish(manager, LOCAL, "docker"))]
    assert "write /etc/resolver/docker" in lines
    assert "start a forwarder on 127.0.0.153 port 53 to 127.0.0.1:1053" in lines
    assert "put nameserver 127.0.0.153 first in /etc/resolv.conf" in lines
    assert "make the folder /etc/resolver, unless it is there" in lines
    assert "run ip link add dconnect-dns type dummy" in lines
