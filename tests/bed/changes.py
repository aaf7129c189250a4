"""A compose-like project that is never left alone: one random change after the other, by the docker CLI.

Which change comes next is drawn from a seed and from what ``docker inspect`` says, so a run can be had again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bed.expected import COMPOSE, IGNORE
from bed.session import Bed

PROJECT, MARK = "stall", "changes"
FRONT, BACK = "stall_front", "stall_back"
SUBNETS = {FRONT: ("10.84.0.0/24", "fd00:84::/64"), BACK: ("10.85.0.0/24", None)}
SERVICES = ("web", "cache")
"""The first is a service of the scene's project too, so that the bare name means none."""
SINGLES = ("solo", "Mixed-Case", "lamp", "desk")
MOST = 8
"""Containers of ours; at each change about the same number comes and goes."""
_LABELS: tuple[dict[str, str], ...] = (
    {},
    {"dev.dconnect.domains": "stall.example,*.wild.example"},
    {"dev.dconnect.domains": "*.desk.docker"},
    {"dev.orbstack.domains": "orb.example,shared.example"},
    {"com.dnsdock.alias": "dock.docker,shared.example"},
    {"coredns.dockerdiscovery.host": "discovered.example"},
    {IGNORE: "true"},
)
_ALIASES = (None, "alias-one", "Alias-Two", "web", "solo", "api.stripe.com")
"""Some are other containers' names, which those keep."""
_HOSTNAMES = (None, "the-host", "solo", "alias-one")


@dataclass(frozen=True, slots=True)
class Change:
    """What is done, and what it is about."""

    what: str
    container: str
    """Its name before, or, of a new one, its name."""
    carry_out: Callable[[], object]
    becomes: str = ""
    """Its name afterwards, where that is another."""


class Project:
    """The networks and containers, and what may be done with them next."""

    def __init__(self, bed: Bed, chance: random.Random) -> None:
        self._bed = bed
        self._chance = chance
        for name, (four, six) in SUBNETS.items():
            ipv6 = ["--ipv6", f"--subnet={six}"] if six else []
            bed.docker("network", "create", f"--subnet={four}", *ipv6, name)

    def close(self) -> None:
        """Remove all of it."""
        left = self._bed.docker("ps", "--all", "--quiet", f"--filter=label={MARK}").split()
        self._docker("rm", "--force", *left) if left else None
        self._docker("network", "rm", *SUBNETS)

    def next_change(self, containers: Sequence[Mapping[str, Any]]) -> Change:
        """Draw one that is possible, given what is there."""
        ours = [each for each in containers if MARK in (each["Config"]["Labels"] or {})]
        names = {each["Name"].removeprefix("/") for each in containers}
        if len(ours) < MOST and self._chance.random() < (MOST - len(ours)) / MOST:
            return self._come(names)
        chosen = self._chance.choice(ours)
        return self._chance.choice(self._possible(chosen, names))

    def _possible(self, container: Mapping[str, Any], names: set[str]) -> list[Change]:
        """What may be done with one container."""
        name, state = container["Name"].removeprefix("/"), container["State"]
        networks = container["NetworkSettings"]["Networks"]
        words: dict[str, list[str]] = {"remove": ["rm", "--force", name]}
        if state["Paused"]:
            words["unpause"] = ["unpause", name]
        elif state["Running"]:
            words |= {"kill": ["kill", name], "stop": ["stop", "--time=0", name], "pause": ["pause", name]}
            words["restart"] = ["restart", "--time=0", name]
            for network in SUBNETS.keys() - networks.keys():
                alias = self._chance.choice(_ALIASES)
                options = [f"--alias={alias}"] if alias else []
                words[f"connect to {network}"] = ["network", "connect", *options, network, name]
        else:
            words["start"] = ["start", name]
        if not state["Paused"]:
            for network in sorted(SUBNETS.keys() & networks.keys()):
                words[f"disconnect from {network}"] = ["network", "disconnect", network, name]
        free = [each for each in SINGLES if each not in names]
        found = [Change(what, name, partial(self._docker, *line)) for what, line in words.items()]
        found.append(Change("replace", name, partial(self._replace, container)))
        if free and name in SINGLES:
            other = self._chance.choice(free)
            found.append(Change("rename", name, partial(self._docker, "rename", name, other), other))
        return found

    def _come(self, names: set[str]) -> Change:
        """A new replica of a service, or a container on its own; most are started too."""
        numbers = [(service, number) for service in SERVICES for number in range(1, 4)]
        replicas = {f"{PROJECT}_{service}_{number}": (service, number) for service, number in numbers}
        name = self._chance.choice([each for each in (*replicas, *SINGLES) if each not in names])
        words = [f"--name={name}", f"--label={MARK}", f"--network={self._chance.choice((FRONT, BACK))}"]
        if name in replicas:
            service, number = replicas[name]
            labels = {"project": PROJECT, "service": service, "container-number": number, "oneoff": "False"}
            words += [f"--label={COMPOSE}.{key}={value}" for key, value in labels.items()]
            words.append(f"--network-alias={service}")
        words += [f"--label={key}={value}" for key, value in self._chance.choice(_LABELS).items()]
        if alias := self._chance.choice(_ALIASES):
            words.append(f"--network-alias={alias}")
        if hostname := self._chance.choice(_HOSTNAMES):
            words.append(f"--hostname={hostname}")
        verb = ["create"] if self._chance.random() < 0.1 else ["run", "--detach"]
        words.append(self._bed.busybox_image)
        return Change(verb[0], name, partial(self._docker, *verb, *words))

    def _replace(self, container: Mapping[str, Any]) -> None:
        """As compose does it: another container with the same name, labels and network, maybe at another place."""
        name, config = container["Name"].removeprefix("/"), container["Config"]
        networks = container["NetworkSettings"]["Networks"]
        words = [f"--label={key}={value}" for key, value in config["Labels"].items()]
        words.append(f"--network={next(iter(networks), FRONT)}")
        self._docker("rm", "--force", name)
        self._docker("run", "--detach", f"--name={name}", *words, config["Image"])

    def _docker(self, *words: str) -> None:
        self._bed.docker(*words)
