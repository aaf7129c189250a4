"""What the agent's container may do, as it is asked of the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dconnect.cli.container import body
from dconnect.core.config import AgentConfig

CONFIG = AgentConfig(bind="127.0.0.1", port=2080, dns_port=2053, suffixes=("docker",), egress="deny")
BODY = body(CONFIG, image="dconnect-agent:1-abc", version="1", docker_socket="/run/engine.sock")
HOST: dict[str, Any] = BODY["HostConfig"]


def test_the_agent_has_no_right_that_it_does_not_need() -> None:
    assert HOST["CapDrop"] == ["ALL"]
    assert "CapAdd" not in HOST
    assert not HOST.get("Privileged")
    assert HOST["ReadonlyRootfs"] is True
    assert "no-new-privileges" in HOST["SecurityOpt"]
    assert HOST["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,nodev,size=16m"}


def test_a_tunnel_adds_one_device_and_the_right_to_set_it_up() -> None:
    config = replace(CONFIG, tun=f"{'0' * 32}:{'1' * 64}")
    host = body(config, image="dconnect-agent:1-abc", version="1", docker_socket="/run/engine.sock")["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host.pop("CapAdd") == ["NET_ADMIN"]
    assert [device["PathOnHost"] for device in host.pop("Devices")] == ["/dev/net/tun"]
    assert host.pop("Sysctls") == {
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv6.conf.default.disable_ipv6": "0",
    }
    assert host == HOST


def test_selinux_and_user_namespaces_do_not_keep_the_agent_from_the_socket() -> None:
    assert "label=disable" in HOST["SecurityOpt"]
    assert HOST["UsernsMode"] == "host"


def test_the_agent_is_on_the_default_bridge_where_no_nat_rules_are_installed() -> None:
    assert HOST["NetworkMode"] == "bridge"
    assert "NetworkingConfig" not in BODY


def test_a_wrong_socket_path_is_refused_because_it_is_given_as_a_mount() -> None:
    assert "Binds" not in HOST
    bind, volume = HOST["Mounts"]
    assert bind == {"Type": "bind", "Source": "/run/engine.sock", "Target": "/var/run/docker.sock"}
    assert (volume["Type"], volume["Source"], volume["Target"]) == ("volume", "dconnect-run", "/run/dconnect")
    assert volume["VolumeOptions"]["Labels"] == {"dev.dconnect.role": "agent"}


def test_ports_are_published_on_the_bind_address_and_nowhere_else() -> None:
    assert HOST["PortBindings"] == {
        "1080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "2080"}],
        "1080/udp": [{"HostIp": "127.0.0.1", "HostPort": "2080"}],
        "1053/udp": [{"HostIp": "127.0.0.1", "HostPort": "2053"}],
        "1053/tcp": [{"HostIp": "127.0.0.1", "HostPort": "2053"}],
    }
    assert set(BODY["ExposedPorts"]) == set(HOST["PortBindings"])
    assert "PublishAllPorts" not in HOST


def test_the_agent_comes_back_with_the_engine_and_its_log_is_bounded() -> None:
    assert HOST["RestartPolicy"] == {"Name": "always"}
    assert HOST["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "2"}}


def test_label_and_environment_carry_the_same_configuration() -> None:
    (variable,) = BODY["Env"]
    name, _, text = variable.partition("=")
    assert name == "DCONNECT_CONFIG"
    assert AgentConfig.from_json(text) == CONFIG
    assert BODY["Labels"]["dev.dconnect.config"] == text
    assert BODY["Labels"]["dev.dconnect.role"] == "agent"
    assert BODY["Image"] == "dconnect-agent:1-abc"
