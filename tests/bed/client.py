"""Clients that speak to a front door byte by byte, where curl hides what a test must see."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
from dataclasses import dataclass
from typing import Any

from bed.namespace import Namespace

CONNECT_DEADLINE = 20.0
"""Seconds; longer than the front door's own deadline of 10."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a front door said."""

    code: int
    """SOCKS5 REP or HTTP status; -1 when the connection ended without one."""
    text: str = ""
    """The body of an HTTP error."""


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer when the peer is done."""
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data


def receive_all(connection: socket.socket) -> bytes:
    """Everything up to the peer's FIN."""
    return b"".join(iter(lambda: connection.recv(1 << 18), b""))


def destination(host: str, port: int) -> bytes:
    """ATYP, DST.ADDR, DST.PORT (RFC 1928 §5)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b"\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed + port.to_bytes(2, "big")


class Association:
    """A SOCKS5 UDP association, and the socket of the program that asked for it."""

    def __init__(self, tcp: socket.socket, udp: socket.socket, relay: tuple[str, int]) -> None:
        self.tcp = tcp
        self.udp = udp
        self.relay = relay
        """BND.ADDR and BND.PORT."""

    def send(self, host: str, port: int, payload: bytes) -> None:
        self.udp.sendto(bytes(3) + destination(host, port) + payload, self.relay)

    def receive(self) -> tuple[str, int, bytes]:
        """Who sent the next datagram, and what. Raises: TimeoutError."""
        data = self.udp.recv(65_535)
        assert data[:3] == bytes(3)
        end = 20 if data[3] == 4 else 8
        address = ipaddress.ip_address(data[4:end])
        return str(address), int.from_bytes(data[end : end + 2], "big"), data[end + 2 :]

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()


class Client:
    """Opens connections through one front door from one namespace."""

    def __init__(self, namespace: Namespace, address: str, port: int) -> None:
        self._namespace = namespace
        self._address = address
        self._port = port

    @property
    def address(self) -> tuple[str, int]:
        """Where the front door is."""
        return self._address, self._port

    def open(self) -> socket.socket:
        """A connection to the front door itself."""
        return self._namespace.connect(self._address, self._port, timeout=CONNECT_DEADLINE)

    def socks(self, host: str, port: int) -> tuple[socket.socket, Reply]:
        """SOCKS5 CONNECT; the connection, good when the code is 0."""
        connection = self.open()
        connection.sendall(b"\x05\x01\x00")
        assert receive_exactly(connection, 2) == b"\x05\x00"
        connection.sendall(b"\x05\x01\x00" + destination(host, port))
        reply = receive_exactly(connection, 4)
        if len(reply) == 4:
            receive_exactly(connection, 18 if reply[3] == 4 else 6)
        return connection, Reply(reply[1] if len(reply) == 4 else -1)

    def socks_code(self, host: str, port: int) -> int:
        connection, reply = self.socks(host, port)
        connection.close()
        return reply.code

    def associate(self, timeout: float = 5) -> Association:
        """SOCKS5 UDP ASSOCIATE; ``timeout`` is seconds, of its UDP socket."""
        tcp = self.open()
        try:
            tcp.sendall(b"\x05\x01\x00\x05\x03\x00" + destination("0.0.0.0", 0))
            reply = receive_exactly(tcp, 12)
            assert reply[:6] == b"\x05\x00\x05\x00\x00\x01", reply
        except BaseException:
            tcp.close()
            raise
        udp = self._namespace.socket(kind=socket.SOCK_DGRAM)
        udp.settimeout(timeout)
        return Association(tcp, udp, (str(ipaddress.ip_address(reply[6:10])), int.from_bytes(reply[10:], "big")))

    def connect(self, host: str, port: int) -> tuple[socket.socket, Reply]:
        """HTTP CONNECT; the connection, good when the code is 200."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connection = self.open()
        connection.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        return connection, _http_reply(connection)

    def connect_refusal(self, host: str, port: int) -> Reply:
        """What CONNECT is answered with."""
        connection, reply = self.connect(host, port)
        connection.close()
        return reply

    def own(self, path: str) -> Any:
        """One of the agent's own pages, which are JSON; None unless it is answered with 200.

        Raises: OSError.
        """
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self.open()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return json.loads(response.read()) if response.status == 200 else None
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def get(self, url: str, head: bytes = b"") -> Reply:
        """One absolute-form GET; ``head`` are further header lines."""
        with self.open() as connection:
            authority = url.split("/")[2]
            connection.sendall(f"GET {url} HTTP/1.1\r\nHost: {authority}\r\n".encode() + head + b"\r\n")
            return _http_reply(connection)


def _http_reply(connection: socket.socket) -> Reply:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return Reply(-1, head.decode("latin-1"))
        head += byte
    code = int(head.split()[1])
    body = b"" if code == 200 else receive_all(connection)
    return Reply(code, body.decode())
