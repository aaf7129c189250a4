"""The PAC file as a JavaScript engine reads it; real browsers use it in ``test_browsers``."""

from __future__ import annotations

import json
from ipaddress import ip_address

from bed.clients import needs
from bed.dconnect import Dconnect
from bed.scene import Scene
from bed.session import Bed

pytestmark = needs("nodejs", "node")

ASK = """
const vm = require("vm"), context = vm.createContext({});
vm.runInContext(process.argv[1], context);
const hosts = JSON.parse(process.argv[2]);
console.log(JSON.stringify(hosts.map(host => context.FindProxyForURL(`http://${host}/`, host))));
"""


def test_containers_go_to_the_front_door_and_all_else_does_not(bed: Bed, scene: Scene, agent: Dconnect) -> None:
    text = bed.host.run(["curl", "-sSi", f"http://{agent.proxy}/proxy.pac"], check=True).stdout
    head, _, body = text.partition("\n\n")
    fields = head.splitlines()
    assert "Content-Type: application/x-ns-proxy-autoconfig" in fields
    assert "X-Content-Type-Options: nosniff" in fields, "any site could load it as a script"
    six = bed.address_of(scene.six, version=6)
    inside = [
        *("web", "web.docker", "DB.shop.Docker.", "any.docker.test", bed.address_of(scene.vault)),
        *(six, f"[{six}]", ip_address(six).exploded),
    ]
    outside = [
        *("localhost", "x.localhost", "127.0.0.1", "example.com", "docker.com", "docker.example"),
        *("192.0.2.1", "::1", "2001:db8::1", "1.2.3.4.5", "x.notdocker"),
    ]
    answer = bed.host.run(["node", "-e", ASK, body, json.dumps(inside + outside)], check=True).stdout
    door = f"PROXY {agent.proxy}"
    assert json.loads(answer) == [door] * len(inside) + ["DIRECT"] * len(outside)
