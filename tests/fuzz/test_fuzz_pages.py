"""Whatever stands on an error page, a browser finds the elements that we wrote, and no more than 4 KiB."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from dconnect.proxy import pages
from dconnect.proxy.wire import http1

_PROFILE = settings(max_examples=300, deadline=None, derandomize=True)
_TEXT = st.text(max_size=600) | st.sampled_from(["<script>", "'\">", "&lt;", "--><", "</style>", "{0}"]).map(
    "x".__add__
)
_PORTS = st.lists(st.integers(1, 65535), max_size=4)


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


@given(_TEXT, _TEXT, _TEXT, _TEXT, _PORTS, _PORTS)
@_PROFILE
def test_no_text_adds_an_element(
    sentence: str, asked: str, name: str, host: str, listens: list[int], silent: list[int]
) -> None:
    steps = [*pages._about_ports(name, pages.Ports(listens, silent, []), host), pages._link(name, host)]
    plain = [*pages._about_ports("x", pages.Ports(listens, silent, []), host), pages._link(name, "x")]
    page, bare = pages.render(502, sentence, asked, steps), pages.render(502, "x", "x", plain)
    assert _Elements(page.decode()).found == _Elements(bare.decode()).found
    assert len(page) < 4096


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"text/html;q=", b"text/html", b"*/*;q=1e9", b";q=.5"])))
@_PROFILE
def test_any_accept_is_judged(values: list[bytes]) -> None:
    assert http1.prefers_html([(b"Accept", value) for value in values]) in (True, False)
