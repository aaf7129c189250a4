"""A proxy auto-config file: a browser comes to containers by way of the front door, to all else as before.

It names suffixes, label domains and subnets as they are when the browser asks, which it does at its start; names
without a dot go to the front door always, so that a container started later is found.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from string import Template

from dconnect.core.address import parse_authority, parse_ip
from dconnect.core.config import AgentConfig
from dconnect.core.errors import UsageError
from dconnect.core.inventory import Inventory
from dconnect.core.limits import PAC_DOMAINS
from dconnect.dns import Zone

CONTENT_TYPE = "application/x-ns-proxy-autoconfig"

# An address is compared as bits: isInNet would ask a name server for every host that is none.
_FILE = Template("""\
var door = $door, names = $names, subnets = $subnets;

function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/^\\[|\\]$$|\\.$$/g, "");
  if (host === "localhost" || /\\.localhost$$/.test(host)) return "DIRECT";
  var bits = bitsOf(host);
  if (bits) return subnets.some(function (net) { return bits.indexOf(net) === 0; }) ? door : "DIRECT";
  if (host.indexOf(".") < 0) return door;
  return names.some(function (name) {
    return name.charAt(0) === "." ? host.slice(-name.length) === name : host === name;
  }) ? door : "DIRECT";
}

function bitsOf(host) {
  var four = /^(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})$$/.exec(host);
  if (four) return "4" + four.slice(1).map(function (part) { return binary(+part, 8); }).join("");
  if (host.indexOf(":") < 0) return "";
  var halves = host.split("%")[0].split("::").map(function (half) { return half ? half.split(":") : []; });
  var groups = halves[0];
  if (halves.length === 2) {
    while (groups.length + halves[1].length < 8) groups.push("0");
    groups = groups.concat(halves[1]);
  }
  return "6" + groups.map(function (group) { return binary(parseInt(group, 16), 16); }).join("");
}

function binary(number, digits) {
  var text = number.toString(2);
  while (text.length < digits) text = "0" + text;
  return text;
}
""")


def render(config: AgentConfig, inventory: Inventory, zone: Zone | None, host: str) -> str:
    """The file's text.

    Args:
        config: where the front door is, if ``host`` does not tell.
        inventory: whose subnets.
        zone: whose suffixes and label domains.
        host: the request's Host; an address in it is one that the browser reaches.
    """
    return _FILE.substitute(
        door=json.dumps(f"PROXY {_door(config, host)}"),
        names=json.dumps([f".{suffix}" for suffix in config.suffixes] + sorted(_domains(zone))[:PAC_DOMAINS]),
        subnets=json.dumps(sorted({bits for network in inventory.networks for bits in _bits(network.subnets)})),
    )


def _door(config: AgentConfig, host: str) -> str:
    """An address: a name of ours would be looked up by the browser, which may not know it."""
    try:
        target = parse_authority(host, 80)
    except UsageError:
        target = None
    return str(target) if target is not None and parse_ip(target.host) else f"{config.reach}:{config.port}"


def _domains(zone: Zone | None) -> Iterable[str]:
    """Names from labels outside the suffixes; those with a dot in front stand for everything below."""
    if zone is None:
        return
    yield from zone.domains.entries
    yield from (f".{name}" for name in zone.domains.wildcards)


def _bits(subnets: Iterable[str]) -> Iterable[str]:
    for text in subnets:
        network = ipaddress.ip_network(text, strict=False)
        bits = f"{int(network.network_address):0{network.max_prefixlen}b}"
        yield f"{network.version}{bits[: network.prefixlen]}"
