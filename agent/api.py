"""The agent's HTTP API and status page, served by control on a unix socket behind the front door.

GET /healthz             200 when names are known and every worker serves them, else 503
GET /                    a page for people
GET /proxy.pac           proxy auto-config for browsers; /wpad.dat is the same
GET /api/v1/status       what runs, how containers are reached, what the workers did
GET /api/v1/connections  who is connected to what now
GET /metrics             for Prometheus
GET /api/v1/names        every container with its names; ?name=web for one name or address, 404 if unknown
"""

from __future__ import annotations

import html
import socket
import time
from importlib.metadata import version
from typing import Any, Protocol

from aiohttp import web

from dconnect.agent import listing, pac
from dconnect.agent.dialing import Strategy
from dconnect.agent.docker.watch import Watcher
from dconnect.agent.links import Links
from dconnect.agent.metrics import render
from dconnect.agent.missing import missing
from dconnect.core.config import AgentConfig
from dconnect.core.inventory import Inventory
from dconnect.core.limits import CONNECTIONS_TOLD
from dconnect.dns import Zone

VERSION = version("dconnect")


class State(Protocol):
    """What the API shows; control has it."""

    config: AgentConfig
    links: Links
    watcher: Watcher
    engine_version: dict[str, str]
    inventory: Inventory
    zone: Zone | None

    @property
    def strategy(self) -> Strategy:
        """How containers are reached."""

    @property
    def dialer_state(self) -> str:
        """The dialer container's state."""


def application(state: State) -> web.Application:
    """The routes over a state."""
    api = _Api(state)
    app = web.Application(middlewares=[missing])
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/", api.page)
    app.router.add_get("/proxy.pac", api.pac)
    app.router.add_get("/wpad.dat", api.pac)
    app.router.add_get("/api/v1/status", api.status)
    app.router.add_get("/api/v1/names", api.names)
    app.router.add_get("/api/v1/connections", api.connections)
    app.router.add_get("/metrics", api.metrics)
    return app


class _Api:
    def __init__(self, state: State) -> None:
        self._state = state
        self._instance = socket.gethostname()

    async def healthz(self, _request: web.Request) -> web.Response:
        state = self._state
        ready = state.zone is not None and state.links.in_step and state.strategy.name != "testing"
        body = {"status": "ok" if ready else "starting", "version": VERSION, "instance": self._instance}
        return web.json_response(body, status=200 if ready else 503)

    async def status(self, _request: web.Request) -> web.Response:
        return web.json_response(self._status())

    def _status(self) -> dict[str, Any]:
        state, watcher = self._state, self._state.watcher
        age = None if watcher.updated_at is None else round(time.monotonic() - watcher.updated_at, 1)
        return {
            "version": VERSION,
            "engine": {**state.engine_version, "connected": watcher.connected, "error": watcher.last_error},
            "strategy": {"name": state.strategy.name, "detail": state.strategy.detail},
            "inventory": {
                "containers": len(state.inventory.containers),
                "networks": len(state.inventory.networks),
                "age_s": age,
                "stale": state.zone is not None and not watcher.connected,
            },
            "suffixes": list(state.config.suffixes),
            "egress": state.config.egress,
            "allow": list(state.config.allow),
            "deny": list(state.config.deny),
            "dialer": {"state": state.dialer_state},
            "workers": state.links.worker_reports,
            "tunnel": self._tunnel(),
        }

    def _tunnel(self) -> dict[str, Any] | None:
        """The transparent mode; None where it was not asked for."""
        state = self._state
        if not state.config.tun:
            return None
        report = state.links.tunnel_report
        return {"subnet": state.config.tun_subnet, "ready": report is not None, **(report or {}).get("tunnel", {})}

    async def connections(self, _request: web.Request) -> web.Response:
        answers = await self._state.links.ask("connections")
        found = [each for answer in answers for each in answer["connections"]]
        found.sort(key=lambda each: float(each["age_s"]))
        return web.json_response(
            {
                "total": sum(answer["total"] for answer in answers),
                "connections": found[:CONNECTIONS_TOLD],
                "silent_workers": self._state.links.members - len(answers),
            }
        )

    async def metrics(self, request: web.Request) -> web.Response:
        _ = await self._state.links.ask("report")  # what a silent worker told last must do
        body, content_type = render(self._state, VERSION, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def names(self, request: web.Request) -> web.Response:
        zone = self._state.zone
        if zone is None:
            return web.json_response({"error": "The agent has not heard from the engine yet; try again."}, status=503)
        name = request.query.get("name")
        if name is None:
            stale = not self._state.watcher.connected
            return web.json_response(listing.everything(zone, self._state.inventory, stale=stale))
        status, body = listing.one(zone, name, self._state.config.reach)
        return web.json_response(body, status=status)

    async def pac(self, request: web.Request) -> web.Response:
        state = self._state
        text = pac.render(state.config, state.inventory, state.zone, request.headers.get("Host", ""))
        headers = {
            "Content-Type": pac.CONTENT_TYPE,
            "Cache-Control": "no-cache",
            # It is JavaScript: without these any site could load it as a script and read our subnets.
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        return web.Response(body=text.encode(), headers=headers)

    async def page(self, _request: web.Request) -> web.Response:
        status = self._status()
        zone = self._state.zone
        rows = "".join(
            f"<tr><td>{html.escape(row.name)}<td>{row.state}<td>{html.escape(', '.join(row.names))}"
            for row in (zone.table() if zone is not None else ())
        )
        engine, strategy = status["engine"], status["strategy"]
        connected = "connected" if engine["connected"] else f"away: {engine['error']}"
        text = _PAGE.format(
            version=VERSION,
            engine=html.escape(f"{engine.get('version', '?')} ({connected})"),
            strategy=html.escape(f"{strategy['name']}: {strategy['detail']}"),
            rows=rows,
        )
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return web.Response(text=text, content_type="text/html", headers=headers)


_PAGE = """<!doctype html><meta charset="utf-8"><title>dconnect</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem}}td,th{{text-align:left;padding:0 1.5em .2em 0}}</style>
<h1>dconnect {version}</h1><p>Engine {engine}<br>{strategy}
<table><tr><th>Container<th>State<th>Names{rows}</table>
"""
