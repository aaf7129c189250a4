from __future__ import annotations

from ipaddress import ip_address

import pytest

from dconnect.core.errors import UsageError
from dconnect.core.limits import MAX_RULES
from dconnect.core.rules import Rules, parse_rule


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("FD00::/8", "fd00::/8"),
        ("fd00:0::1", "fd00::1"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("Example.COM.", "example.com"),
        (".example.com", "example.com"),
        ("*.example.com", "example.com"),
        ("docker", "docker"),
        ("my_db", "my_db"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_rule_has_one_spelling(text: str, spelling: str) -> None:
    rule = parse_rule("--deny", text)
    assert str(rule) == f"--deny {spelling}"
    assert parse_rule("--deny", rule.text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "*",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "300.1.1.1",
        "10.1",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a/b",
        "*.*.x",
        "a\n",
        "*a.example",
        "fd00::1/64",
        "http://example.com",
        "example.com:80",
        "fe80::1%eth0/64",
        "a" * 64,
        ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_no_rule_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_rule("--allow", text)
    assert str(refusal.value).startswith("--allow ")
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def test_host_bits_are_told_with_the_network_that_was_meant() -> None:
    with pytest.raises(UsageError, match=r"write 10\.0\.0\.0/8, or the address alone"):
        parse_rule("--deny", "10.1.2.3/8")


def test_a_contradiction_is_refused_however_it_is_spelt() -> None:
    with pytest.raises(UsageError, match=r"--allow example\.com and --deny example\.com contradict"):
        Rules(["*.example.com"], ["Example.com"])


def test_rules_are_bounded() -> None:
    texts = [f"10.0.{number >> 8}.{number & 255}" for number in range(MAX_RULES + 1)]
    assert Rules(texts[:-1]).about_addresses
    with pytest.raises(UsageError, match=str(MAX_RULES)):
        Rules(texts)


def test_families_do_not_mix() -> None:
    assert Rules(deny=["0.0.0.0/0"]).of_address(ip_address("::1")) is None
    assert Rules(deny=["::/0"]).of_address(ip_address("10.0.0.1")) is None


def test_rules_know_what_they_are_about() -> None:
    assert (Rules(["a"]).about_names, Rules(["a"]).about_addresses) == (True, False)
    assert (Rules(["::1"]).about_names, Rules(["::1"]).about_addresses) == (False, True)
