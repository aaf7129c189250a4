from __future__ import annotations

from ipaddress import ip_address

import pytest

from dconnect.core.address import Target, canonical, normal_name, parse_authority, parse_ip
from dconnect.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("172.17.0.2", "172.17.0.2"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("[::ffff:7f00:1]", "127.0.0.1"),
    ],
)
def test_literals_are_parsed_to_their_canonical_address(text: str, expected: str) -> None:
    assert parse_ip(text) == ip_address(expected)


@pytest.mark.parametrize("text", ["", "web", "1.2.3", "1.2.3.256", "0x7f.0.0.1", "2130706433", "01.2.3.4", "[web]"])
def test_what_is_not_a_literal_gives_none(text: str) -> None:
    assert parse_ip(text) is None


def test_only_mapped_addresses_are_unwrapped() -> None:
    assert canonical(ip_address("::ffff:10.0.0.1")) == ip_address("10.0.0.1")
    assert canonical(ip_address("::10.0.0.1")) == ip_address("::10.0.0.1")
    assert canonical(ip_address("10.0.0.1")) == ip_address("10.0.0.1")


@pytest.mark.parametrize("text", ["Web.Docker", "Web.Docker.", "Web.Docker.."])
def test_names_are_compared_without_case_and_final_dots(text: str) -> None:
    assert normal_name(text) == "web.docker"


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("web:80", None, Target("web", 80)),
        ("WEB.Docker.:65535", None, Target("web.docker", 65535)),
        ("web", 80, Target("web", 80)),
        ("web:", 80, Target("web", 80)),
        ("[::1]:1", None, Target("::1", 1)),
        ("[fd00::2]", 80, Target("fd00::2", 80)),
        ("172.17.0.2:0443", None, Target("172.17.0.2", 443)),
    ],
)
def test_authorities_of_rfc3986_s3_2(text: str, default: int | None, expected: Target) -> None:
    assert parse_authority(text, default) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "web",
        "web:",
        "web:0",
        "web:65536",
        "web:+80",
        "web:\uff18\uff10",
        "web:80:80",
        "::1:80",
        "[::1",
        "[::1]80",
        "[web]:80",
        "user@web:80",
        "we b:80",
        "web/x:80",
        "we\x00b:80",
        "a" * 256 + ":80",
        ".:80",
        "..:80",
    ],
)
def test_an_authority_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_authority(text)


@pytest.mark.parametrize("target", [Target("web", 80), Target("fd00::2", 443)])
def test_a_target_reads_back_from_its_text(target: Target) -> None:
    assert parse_authority(str(target)) == target
