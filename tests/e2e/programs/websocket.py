"""Echo messages of three sizes over a WebSocket through an HTTP proxy: websocket.py PROXY URL."""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp

SIZES = (1, 70_000, 1_000_000)


async def main(proxy: str, url: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, proxy=proxy) as websocket:
        for size in SIZES:
            message = os.urandom(size)
            await websocket.send_bytes(message)
            assert await websocket.receive_bytes() == message
    print(f"echoed {' + '.join(map(str, SIZES))} bytes")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 30))
