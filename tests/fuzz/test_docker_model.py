"""Whatever JSON an engine writes, the model reads it or says Unreadable."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.agent.docker import model
from dconnect.agent.docker.watch import Look, hint
from dconnect.core.inventory import Inventory

KEYS = [
    "Id",
    "Name",
    "State",
    "Status",
    "Running",
    "Paused",
    "Health",
    "Config",
    "Labels",
    "Hostname",
    "ExposedPorts",
    "HostConfig",
    "NetworkMode",
    "Image",
    "NetworkSettings",
    "Networks",
    "Ports",
    "Aliases",
    "DNSNames",
    "NetworkID",
    "IPAddress",
    "GlobalIPv6Address",
    "Driver",
    "Internal",
    "IPAM",
    "Subnet",
    "Gateway",
    "com.docker.compose.container-number",
    "dev.dconnect.domains",
    "Type",
    "Action",
    "Actor",
    "ID",
    "Attributes",
    "container",
]
TEXTS = [
    "172.18.0.2",
    "172.18.0.0/16",
    "255.255.255.255/32",
    "::/128",
    "fd00::/64",
    "fe80::1%eth0",
    "80/tcp",
    "99999999/tcp",
    "٣/udp",
    "running",
    "bridge",
    "host",
    "container:x",
    "1",
    "²",
    "network",
    "connect",
    "create",
]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.sampled_from(TEXTS)
)
ANY_KEY = st.one_of(st.sampled_from(KEYS), st.text(max_size=4))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(ANY_KEY, inner, max_size=8)),
    max_leaves=40,
)
TOLD = st.one_of(st.sampled_from(TEXTS), JSON)
ENDPOINT = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("NetworkID", "IPAddress", "GlobalIPv6Address", "Aliases", "DNSNames"), TOLD)
)
NEAR_CONTAINER = st.fixed_dictionaries(
    {"Id": st.text(min_size=1, max_size=64), "Name": st.text(min_size=2, max_size=8)},
    optional={
        "State": st.one_of(JSON, st.dictionaries(st.sampled_from(["Status", "Running", "Health"]), TOLD)),
        "Config": st.one_of(JSON, st.dictionaries(st.sampled_from(["Labels", "ExposedPorts", "Hostname"]), JSON)),
        "HostConfig": JSON,
        "NetworkSettings": st.fixed_dictionaries({"Networks": st.dictionaries(st.text(max_size=4), ENDPOINT)}),
    },
)
POOL = st.dictionaries(st.sampled_from(["Subnet", "Gateway"]), TOLD)
NEAR_NETWORK = st.fixed_dictionaries(
    {"Id": st.text(min_size=1), "Name": st.text(min_size=2), "Driver": TOLD},
    optional={"IPAM": st.fixed_dictionaries({"Config": st.lists(st.one_of(POOL, JSON), max_size=4)})},
)


@settings(max_examples=250, deadline=None)
@given(JSON | NEAR_CONTAINER)
def test_a_container_is_read_or_unreadable(raw: Any) -> None:
    with suppress(model.Unreadable):
        container = model.container(raw)
        inventory = model.inventory([container], [])
        assert Inventory.from_json(inventory.to_json()) == inventory
        assert model.container(json.loads(json.dumps(raw))) == container


@settings(max_examples=250, deadline=None)
@given(JSON | NEAR_NETWORK)
def test_a_network_is_read_or_unreadable(raw: Any) -> None:
    with suppress(model.Unreadable):
        network = model.network(raw)
        inventory = model.inventory([], [network])
        assert Inventory.from_json(inventory.to_json()) == inventory


@settings(max_examples=250, deadline=None)
@given(JSON | st.fixed_dictionaries({"Type": TOLD, "Action": TOLD, "Actor": JSON}))
def test_every_event_hints_at_something(event: Any) -> None:
    look, container_id = hint(event)
    assert (look in (Look.PROMPT, Look.PATIENT)) == bool(container_id)
