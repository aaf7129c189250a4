"""The error page as text: no sockets."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys

import pytest

from dconnect.proxy import pages
from dconnect.proxy.wire.http1 import RequestHead, prefers_html

CHROME = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
LOADED = "import sys, dconnect.agent.worker; print('dconnect.proxy.pages' in sys.modules)"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ((CHROME,), True),
        ((b"text/html",), True),
        ((b"TEXT/HTML; Q=0.2",), True),
        ((b"text/html;level=1;q=0.4",), True),
        ((b"application/json", b"text/html"), True),
        ((b"text/html;q=0.5, */*;q=0.5",), True),
        ((), False),
        ((b"*/*",), False),
        ((b"text/*",), False),
        ((b"text/html;q=0",), False),
        ((b"text/html;q=0.000",), False),
        ((b"text/html;q=2",), False),
        ((b"text/html;q=nan",), False),
        ((b"text/html;q=",), False),
        ((b"text/html;q=0.5, text/plain",), False),
        ((b"text/html;q=0.5, */*",), False),
        ((b"text/htmlx",), False),
        ((b",;,=;q=1,",), False),
    ],
)
def test_rfc9110_s12_5_1_html_must_be_named_and_liked_best(accept: tuple[bytes, ...], expected: bool) -> None:
    assert prefers_html([(b"Accept", value) for value in accept]) is expected


def test_the_policy_names_the_style_by_its_hash() -> None:
    expected = base64.b64encode(hashlib.sha256(pages._STYLE.encode()).digest()).decode()
    assert expected == pages._STYLE_HASH
    assert f"<style>{pages._STYLE}</style>" in pages.render(502, "s", "a", []).decode()


@pytest.mark.parametrize(
    "character", ["\0", "\x1b", "\r", "\n", "\x7f", "\x85", "\u202e", "\u2028", "\ud800", "\ufeff"]
)
def test_what_does_not_print_is_replaced(character: str) -> None:
    page = pages.render(502, f"a{character}b", f"c{character}d", []).decode()
    assert character not in page
    assert "a\ufffdb" in page
    assert "c\ufffdd" in page


@pytest.mark.parametrize("filling", ['"', "&", "\N{GRINNING FACE}", "\0", "x"])
def test_a_page_is_less_than_4_kib_whatever_stands_on_it(filling: str) -> None:
    ports = pages.Ports([65535] * 4, [65535] * 4, [65535] * 9)
    most = [
        pages._about_ports(filling * 500, ports, "x" * 64),
        pages._about_ports(filling * 500, pages.Ports([65535] * 8, [], [1]), "x" * 64),
        [f"Did you mean {' or '.join([pages._link(filling * 96, filling * 96)] * pages._CANDIDATES)}?", pages._NAMES],
    ]
    for steps in most:
        assert len(pages.render(502, filling * 9999, filling * 9999, [*steps, pages._LOGS])) < 4096


def test_a_request_is_told_by_method_and_place() -> None:
    fields = [(b"Host", b"localhost:1080")]
    assert pages.asked_for(RequestHead(b"GET", b"/x", 1, fields)) == "GET localhost:1080/x"
    assert pages.asked_for(RequestHead(b"GET", b"http://web/x", 1, fields)) == "GET http://web/x"
    assert pages.asked_for(RequestHead(b"CONNECT", b"web:1", 1, fields)) == "CONNECT web:1"


@pytest.mark.parametrize("name", ["web:8x", "user@web", "web/x", "web\n", "WEB", "", ":80", "a b", "ẅeb"])
def test_only_a_plain_name_becomes_a_link(name: str) -> None:
    assert "href" not in pages._link(name, "x")


def test_workers_load_it_only_when_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
