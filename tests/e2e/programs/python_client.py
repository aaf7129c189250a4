"""GET one URL with one of Python's clients, through a proxy: python_client.py CLIENT PROXY URL.

Prints what arrived as JSON: status, host (what the target saw), body.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

DEADLINE = 30


@dataclass(frozen=True, slots=True)
class Arrived:
    status: int
    host: str
    body: str


def by_proxy(proxy: str) -> bool:
    """Whether the proxy looks names up; curl's schemes say it, and these libraries want it apart."""
    return not proxy.startswith(("socks5:", "socks4:"))


def plain(proxy: str) -> str:
    """The proxy with a scheme that every library knows."""
    return proxy.replace("socks5h", "socks5").replace("socks4a", "socks4")


def over(sock: socket.socket, url: str) -> Arrived:
    """One request over a socket that leads to the target."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
    connection.sock = sock
    connection.request("GET", parts.path)
    response = connection.getresponse()
    arrived = Arrived(response.status, response.headers["X-Host"], response.read().decode())
    connection.close()
    return arrived


def with_python_socks(proxy: str, url: str) -> Arrived:
    from python_socks.sync import Proxy  # noqa: PLC0415 (only the client that is asked for is needed)

    parts = urlsplit(url)
    assert parts.hostname
    door = Proxy.from_url(plain(proxy), rdns=by_proxy(proxy))
    return over(door.connect(parts.hostname, parts.port or 80, timeout=DEADLINE), url)


def with_python_socks_asyncio(proxy: str, url: str) -> Arrived:
    from python_socks.async_.asyncio import Proxy  # noqa: PLC0415

    async def fetch() -> Arrived:
        parts = urlsplit(url)
        assert parts.hostname
        door = Proxy.from_url(plain(proxy), rdns=by_proxy(proxy))
        sock = await door.connect(parts.hostname, parts.port or 80, timeout=DEADLINE)
        sock.setblocking(True)
        return over(sock, url)

    return asyncio.run(fetch())


def with_pysocks(proxy: str, url: str) -> Arrived:
    import socks  # noqa: PLC0415

    door, parts = urlsplit(plain(proxy)), urlsplit(url)
    kind = {"socks5": socks.SOCKS5, "socks4": socks.SOCKS4, "http": socks.HTTP}[door.scheme]
    sock = socks.socksocket()
    sock.set_proxy(kind, door.hostname, door.port, rdns=by_proxy(proxy))
    sock.settimeout(DEADLINE)
    sock.connect((parts.hostname, parts.port or 80))
    return over(sock, url)


def with_aiohttp_socks(proxy: str, url: str) -> Arrived:
    import aiohttp  # noqa: PLC0415
    from aiohttp_socks import ProxyConnector  # noqa: PLC0415

    async def fetch() -> Arrived:
        connector = ProxyConnector.from_url(plain(proxy), rdns=by_proxy(proxy))
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
            return Arrived(response.status, response.headers["X-Host"], await response.text())

    return asyncio.run(fetch())


def with_aiohttp(proxy: str, url: str) -> Arrived:
    import aiohttp  # noqa: PLC0415

    async def fetch() -> Arrived:
        async with aiohttp.ClientSession() as session, session.get(url, proxy=proxy) as response:
            return Arrived(response.status, response.headers["X-Host"], await response.text())

    return asyncio.run(fetch())


def with_requests(proxy: str, url: str) -> Arrived:
    import requests  # noqa: PLC0415

    response = requests.get(url, proxies={"http": proxy}, timeout=DEADLINE)
    return Arrived(response.status_code, response.headers["X-Host"], response.text)


def with_urllib3(proxy: str, url: str) -> Arrived:
    import urllib3  # noqa: PLC0415
    from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415

    manager = SOCKSProxyManager(proxy) if proxy.startswith("socks") else urllib3.ProxyManager(proxy)
    response = manager.request("GET", url, timeout=DEADLINE)
    return Arrived(response.status, response.headers["X-Host"], response.data.decode())


def with_urllib(proxy: str, url: str) -> Arrived:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    with opener.open(url, timeout=DEADLINE) as response:
        return Arrived(response.status, response.headers["X-Host"], response.read().decode())


def with_http_client(proxy: str, url: str) -> Arrived:
    door, parts = urlsplit(proxy), urlsplit(url)
    connection = http.client.HTTPConnection(door.netloc, timeout=DEADLINE)
    connection.set_tunnel(parts.hostname or "", parts.port or 80)
    connection.request("GET", parts.path)
    response = connection.getresponse()
    return Arrived(response.status, response.headers["X-Host"], response.read().decode())


CLIENTS: dict[str, Callable[[str, str], Arrived]] = {
    "python-socks": with_python_socks,
    "python-socks, asyncio": with_python_socks_asyncio,
    "PySocks": with_pysocks,
    "aiohttp-socks": with_aiohttp_socks,
    "aiohttp": with_aiohttp,
    "requests": with_requests,
    "urllib3": with_urllib3,
    "urllib": with_urllib,
    "http.client": with_http_client,
}

if __name__ == "__main__":
    name, proxy, url = sys.argv[1:]
    print(json.dumps(asdict(CLIENTS[name](proxy, url))))
