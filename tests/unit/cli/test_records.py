from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dconnect.agent import listing
from dconnect.cli.records import number_of, records
from dconnect.core.errors import DconnectError, NameUnknown, UsageError
from kit.dns import respond, serving, zone
from kit.inventories import container, endpoint

WEB = container("web", endpoint("n", "10.0.0.2"), ports=("80/tcp",), domains="app.example", image="nginx")


class OfZone:
    """A ``Source`` over a zone."""

    suffixes: tuple[str, ...] = ("docker", "docker.test")
    pause = 1.0

    async def one(self, name: str) -> tuple[int, dict[str, Any]]:
        return listing.one(zone(WEB), name, "")

    async def everything(self) -> dict[str, Any]:
        raise NotImplementedError

    async def ask(self, query: bytes) -> bytes:
        answer = respond(serving(WEB), query, stream=True)
        assert answer is not None
        return answer


def asked(name: str, kind: str) -> list[dict[str, Any]]:
    return asyncio.run(records(OfZone(), name, number_of(kind)))


@pytest.mark.parametrize(
    ("name", "kind", "full", "data"),
    [
        ("web", "A", "web.docker", "10.0.0.2"),
        ("WEB.Docker.test.", "a", "web.docker.test", "10.0.0.2"),
        ("app.example", "A", "app.example", "10.0.0.2"),
        ("_http._tcp.web", "srv", "_http._tcp.web.docker", "0 0 80 web.docker."),
        ("web", "TXT", "web.docker", '"container=web","image=nginx"'),
        ("10.0.0.2", "PTR", "2.0.0.10.in-addr.arpa", "web.docker."),
        ("web", "TYPE1", "web.docker", "10.0.0.2"),
    ],
)
def test_a_name_has_its_records_with_and_without_suffix(name: str, kind: str, full: str, data: str) -> None:
    assert [(each["name"], each["data"]) for each in asked(name, kind)] == [(full, data)]


@pytest.mark.parametrize("kind", ["AAAA", "HTTPS", "TYPE64", "TYPE65280"])
def test_a_name_without_such_a_record_is_told_apart_from_an_unknown_one(kind: str) -> None:
    with pytest.raises(DconnectError, match="exists and has no") as caught:
        asked("web", kind)
    assert not isinstance(caught.value, NameUnknown)


@pytest.mark.parametrize("name", ["nobody", "nobody.docker", "example.com", "10.0.0.9", "192.0.2.1"])
def test_what_nobody_has_is_unknown(name: str) -> None:
    with pytest.raises(NameUnknown):
        asked(name, "A" if not name[0].isdigit() else "PTR")


@pytest.mark.parametrize("kind", ["", "X", "TYPE", "TYPE0", "TYPE65536", "TYPEx", "-1"])
def test_what_is_no_type_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="--type"):
        number_of(kind)


@pytest.mark.parametrize("name", ["a" * 64, ".".join(["abcdefg"] * 40)])
def test_what_is_no_domain_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="domain name"):
        asked(name, "A")


def test_an_address_tells_its_containers_names() -> None:
    status, body = asyncio.run(OfZone().one("10.0.0.2"))
    assert (status, body["containers"], body["names"][0]) == (200, ["web"], "web.docker")
    status, body = asyncio.run(OfZone().one("10.0.0.3"))
    assert (status, list(body)) == (404, ["error"])
