"""The host's side of a link at its simplest, for tests of the agent's: a TUN device, the upgrade, and a pump.

Run in the host's namespace:  python tunnel_host.py ADDRESS PORT TOKEN MTU [ADDRESS IT HAD]
Prints a line of JSON for every config, once its addresses and routes are set; ends at EOF of its standard input.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
from ipaddress import ip_address

from dconnect.tunnel.device import open_device
from dconnect.tunnel.wire import frames
from dconnect.tunnel.wire.messages import Config, Hello


def upgraded(address: str, port: int, token: str) -> tuple[socket.socket, bytes]:
    sock = socket.create_connection((address, port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = (
        "GET /api/v1/link HTTP/1.1",
        f"Host: {address}:{port}",
        "Connection: Upgrade",
        "Upgrade: dconnect-link/1",
        f"Authorization: Bearer {token}",
    )
    sock.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    received = b""
    while b"\r\n\r\n" not in received:
        part = sock.recv(4096)
        if not part:
            raise SystemExit(f"refused: {received.decode()}")
        received += part
    head, _, rest = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"refused: {received.decode()}")
    return sock, rest


def configure(device: str, config: Config) -> None:
    for address in config.addresses:
        words = ["nodad"] if address.version == 6 else []
        subprocess.run(["ip", "addr", "replace", str(address), "dev", device, *words], check=True)
    for subnet in config.subnets:
        subprocess.run(["ip", "route", "replace", str(subnet), "dev", device], check=True)
    print(
        json.dumps(
            {
                "addresses": [str(address.ip) for address in config.addresses],
                "dns": [str(address) for address in config.dns],
                "subnets": [str(subnet) for subnet in config.subnets],
            }
        ),
        flush=True,
    )


def main(address: str, port: int, token: str, mtu: int, had: str) -> None:
    device = open_device(mtu)
    descriptor = device.fileno()
    assert descriptor is not None
    link, rest = upgraded(address, port, token)
    link.sendall(frames.frame(frames.HELLO, Hello(mtu, address=ip_address(had) if had else None).encode()))
    link.settimeout(None)
    view, filled = memoryview(bytearray(1 << 20)), len(rest)
    view[:filled] = rest
    packet = memoryview(bytearray(4 + 65_535))
    poll = select.poll()
    for each in (descriptor, link.fileno(), 0):
        poll.register(each, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if 0 in ready and not os.read(0, 1):
            return
        if descriptor in ready:
            size = device.read_into(packet[4:])
            struct.pack_into("!I", packet, 0, frames.PACKET << 24 | size)
            link.sendall(packet[: 4 + size])
        if link.fileno() in ready:
            size = link.recv_into(view[filled : filled + (1 << 18)])
            if not size:
                raise SystemExit("the agent ended the link")
            filled += size
        found, used = frames.walk(view[:filled])
        for kind, start, end in found:
            if kind == frames.PACKET:
                device.write(view[start:end])
            elif kind == frames.CONFIG:
                configure(device.name, Config.parse(view[start:end]))
            elif kind == frames.PING:
                link.sendall(frames.frame(frames.PONG, bytes(view[start:end])))
            elif kind == frames.BYE:
                raise SystemExit(f"bye: {frames.parse_bye(view[start:end])}")
        view[: filled - used] = view[used:filled]
        filled -= used


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
