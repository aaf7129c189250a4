"""What a container sees of a port that is none of its business."""

from __future__ import annotations

from bed.session import Bed

_KNOCK = """
import socket, sys
address, port, message = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
try:
    connection = socket.create_connection((address, port), 2)
    connection.sendall(message)
    print("got", connection.recv(100))
except OSError as error:
    print("failed", type(error).__name__)
"""
_ASK = """
import socket, sys
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(2)
try:
    asker.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
    print("got", asker.recv(100))
except OSError as error:
    print("failed", type(error).__name__)
"""
NOTHING = ("got b''", "failed ConnectionResetError", "failed BrokenPipeError")
"""What is seen of a connection that was accepted and closed again."""


def knock(bed: Bed, container: str, address: str, port: int, message: bytes) -> str:
    """Send bytes over TCP from a container made of ``target_image``; what came back, or how nothing did."""
    return _inside(bed, container, _KNOCK, address, port, message)


def ask(bed: Bed, container: str, address: str, port: int, message: bytes) -> str:
    """The same with a datagram."""
    return _inside(bed, container, _ASK, address, port, message)


def _inside(bed: Bed, container: str, script: str, address: str, port: int, message: bytes) -> str:
    return bed.docker("exec", container, "python3", "-c", script, address, str(port), message.hex())
