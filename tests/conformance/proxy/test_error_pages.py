"""Failures as a person sees them in a browser, over a real front door; programs get the one line."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dconnect.core.failure import Failure
from dconnect.core.limits import PAGE_PORTS
from dconnect.proxy.door import Known
from dconnect.proxy.fake import FakeDescribe
from kit.asking import ask, status
from kit.door import WEB, DoorThread, rest
from kit.failing import Failing

FIREFOX = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
TAGS = {
    *("html lang", "meta charset", "meta name content", "title", "style", "small", "h1", "p", "code", "h2", "ul", "li"),
    *("a href", "b"),
}
HOSTILE = b"\"><script>alert(1)</script>'&amp;"


def _ask(door: DoorThread, line: bytes, accept: bytes = FIREFOX, host: bytes = b"x") -> bytes:
    return rest(ask(door, b"%s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n\r\n" % (line, host, accept)))


def _parts(response: bytes) -> tuple[dict[str, str], str]:
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body.decode()


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(" ".join((tag, *(name for name, _ in attrs))))


def _tags(body: str) -> set[str]:
    """Elements with their attributes' names, as a browser finds them."""
    return _Tags(body).found


def _refusing() -> Iterator[int]:
    """A port that refuses: bound without listening, so that no server of the test's is given it."""
    with socket.socket() as held:
        held.bind((WEB, 0))
        yield held.getsockname()[1]


refused = pytest.fixture(_refusing, name="refused")
exposed = pytest.fixture(_refusing, name="exposed")


def test_a_browser_gets_a_page_that_nothing_can_be_smuggled_into(door: DoorThread) -> None:
    response = _ask(door, b"GET http://nobody/" + HOSTILE)
    assert status(response) == 502
    fields, body = _parts(response)
    assert fields["content-type"] == "text/html; charset=utf-8"
    assert fields["content-length"] == str(len(body.encode()))
    assert fields["cache-control"] == "no-store"
    assert fields["connection"] == "close"
    assert fields["x-content-type-options"] == "nosniff"
    policy = fields["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert all("script" not in rule and "unsafe" not in rule for rule in policy)
    assert body.startswith("<!doctype html>")
    assert "No container is called nobody." in body
    assert "<script" not in body
    assert "GET http://nobody/&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#x27;&amp;amp;" in body
    assert "prefers-color-scheme:dark" in body
    assert not re.search(r"<(link|img|iframe|form|base)|@import|url\(", body)


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://%s/" % HOSTILE.replace(b"/", b""),
        b"CONNECT %s:80" % HOSTILE.replace(b"/", b""),
        b"GET /%s" % HOSTILE,
        b"GET %s" % HOSTILE,
        b"GET %s://x/" % HOSTILE.replace(b"/", b""),
        b"GET http://nobody/" + b'"' * 20_000,
    ],
)
def test_names_methods_and_targets_are_escaped_and_bounded(door: DoorThread, line: bytes) -> None:
    fields, body = _parts(_ask(door, line))
    assert _tags(body) <= TAGS
    assert len(body.encode()) < 4096
    assert fields["content-length"] == str(len(body.encode()))


def test_a_host_is_escaped(door: DoorThread) -> None:
    response = _ask(door, b"GET /path", host=b"a'&b")
    assert status(response) == 421
    assert "GET a&#x27;&amp;b/path" in _parts(response)[1]


@pytest.mark.parametrize(
    "accept", [b"*/*", b"application/json", b"text/*", b"text/html;q=0", b"text/plain, text/html;q=0.5"]
)
def test_a_program_gets_one_line(door: DoorThread, accept: bytes) -> None:
    fields, body = _parts(_ask(door, b"GET http://nobody/", accept))
    assert fields["content-type"] == "text/plain; charset=utf-8"
    assert body == "No container is called nobody.\n"


def test_rfc9110_s9_3_2_a_page_for_head_is_described_and_not_sent(door: DoorThread) -> None:
    got, asked = (_parts(_ask(door, b"%s http://nobody/" % method)) for method in (b"GET", b"HEAD"))
    letters = asked[0].pop("content-length"), got[0].pop("content-length")
    assert got[0] == asked[0]
    assert int(letters[0]) - int(letters[1]) == 2, "the title and the page say HEAD instead of GET"
    assert asked[1] == ""


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_has_a_page_with_its_sentence(tmp_path: Path, failure: Failure) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure)) as door:
        for line in (b"GET http://web/", b"CONNECT web:80"):
            response = _ask(door, line)
            assert status(response) == failure.value.http_status
            assert "<h1>web fails.</h1>" in _parts(response)[1]
            assert "<li>" in _parts(response)[1]
    assert {session.detail for session in door.recorder.sessions} == {"web fails."}


# -- what to do next ----------------------------------------------------------------------------


def test_a_refused_port_tells_which_ports_listen_and_which_are_only_exposed(
    tmp_path: Path, refused: int, exposed: int
) -> None:
    describe = FakeDescribe({})
    with DoorThread(tmp_path, describe=describe) as door:
        servers = [door.server(), door.server()]
        listening = sorted(server.port for server in servers)
        describe.known[WEB] = Known("shop_web_1", (exposed, refused, *listening))
        fields, body = _parts(_ask(door, b"GET http://web:%d/" % refused))
        for server in servers:
            assert rest(server.accept()) == b"", "it was asked nothing"
        linked = ", ".join(f'<a href="http://web:{port}/">{port}</a>' for port in listening)
        assert f"<b>shop_web_1</b> listens on {linked}." in body
        assert f"<b>shop_web_1</b> exposes {exposed}, but nothing answers there." in body
        tunnel = _parts(_ask(door, b"CONNECT web:%d" % refused))[1]
        assert f"listens on <code>{listening[0]}</code>, <code>{listening[1]}</code>." in tunnel
    assert [session.outcome for session in door.recorder.sessions] == ["refused"] * 2, "what was tried is no session"
    assert [session.address for session in door.recorder.sessions] == [WEB] * 2
    assert fields["content-length"] == str(len(body.encode()))


def test_a_container_that_listens_nowhere_is_told_the_usual_cause(tmp_path: Path, refused: int) -> None:
    with DoorThread(tmp_path, describe=FakeDescribe({WEB: Known("w", (refused,))})) as door:
        body = _parts(_ask(door, b"GET http://web:%d/" % refused))[1]
    assert "docker logs w" in body
    assert "0.0.0.0" in body
    assert "listens on <" not in body


def test_no_port_is_tried_for_a_program(tmp_path: Path, refused: int) -> None:
    describe = FakeDescribe({})
    with DoorThread(tmp_path, describe=describe) as door:
        server = door.server()
        describe.known[WEB] = Known("w", (server.port,))
        assert _ask(door, b"GET http://web:%d/" % refused, b"*/*").endswith(b"there.\n")
        server.listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_ports_beyond_the_bound_are_not_tried(tmp_path: Path, refused: int) -> None:
    describe = FakeDescribe({})
    with DoorThread(tmp_path, describe=describe) as door:
        servers = [door.server() for _ in range(PAGE_PORTS + 2)]
        describe.known[WEB] = Known("w", tuple(server.port for server in servers))
        body = _parts(_ask(door, b"GET http://web:%d/" % refused))[1]
        assert "exposes 2 more, which were not tried" in body
        for server in servers[PAGE_PORTS:]:
            server.listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()


def test_a_port_that_is_silent_costs_a_bounded_time(tmp_path: Path, refused: int) -> None:
    describe = FakeDescribe({})
    with DoorThread(tmp_path, describe=describe) as door:
        full = door.server()
        full.listener.listen(0)  # one fits; further SYNs are dropped
        door.adopt(socket.create_connection((WEB, full.port)))
        late = door.server()
        describe.known[WEB] = Known("w", (full.port, late.port))
        body = _parts(_ask(door, b"GET http://web:%d/" % refused))[1]
        assert f"exposes {full.port}, but nothing answers there" in body
    assert "exposes 1 more, which were not tried" in body


@pytest.mark.parametrize(
    ("failure", "known", "step"),
    [
        (Failure.STOPPED, Known("shop_web_1"), "<code>docker start shop_web_1</code>"),
        (Failure.NAME_UNKNOWN, Known(), "<code>dconnect dns</code>"),
        (
            Failure.NAME_UNKNOWN,
            Known(candidates=("web.shop", "<b>:1")),
            'Did you mean <a href="http://web.shop/">web.shop</a> or <code>&lt;b&gt;:1</code>?',
        ),
        (Failure.POLICY, Known(), "<code>--allow</code>"),
    ],
)
def test_what_to_do_next_depends_on_what_failed(tmp_path: Path, failure: Failure, known: Known, step: str) -> None:
    with DoorThread(tmp_path, resolve=Failing(failure), describe=FakeDescribe({"web": known})) as door:
        assert step in _parts(_ask(door, b"GET http://web/"))[1]
