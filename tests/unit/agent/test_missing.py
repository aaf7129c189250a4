from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dconnect.agent.missing import missing

HOSTILE = "/%22%3E%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE%0D%0AX:%20y"


def _ask(method: str, path: str, accept: str) -> tuple[int, dict[str, str], str]:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="here")

    async def run() -> tuple[int, dict[str, str], str]:
        app = web.Application(middlewares=[missing])
        app.router.add_get("/here", page)
        async with TestClient(TestServer(app)) as client:
            answer = await client.request(method, path, headers={"Accept": accept})
            return answer.status, dict(answer.headers), await answer.text()

    return asyncio.run(run())


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/here", 405)])
def test_what_is_not_there_is_a_page_for_people_and_a_line_for_programs(method: str, path: str, status: int) -> None:
    code, headers, text = _ask(method, path, "*/*")
    assert (code, headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert path in text
    assert text.count("\n") == 1
    code, headers, text = _ask(method, path, "text/html")
    assert (code, headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert int(headers["Content-Length"]) == len(text.encode())
    assert ("Allow" in headers) is (status == 405)


def test_a_hostile_path_is_only_text() -> None:
    _, headers, text = _ask("GET", HOSTILE, "text/html")
    assert "<script" not in text
    assert "\u202e" not in text
    assert "X" not in headers
    assert _ask("GET", HOSTILE, "*/*")[2].count("\n") == 1


def test_what_is_there_passes() -> None:
    assert _ask("GET", "/here", "text/html")[2] == "here"
