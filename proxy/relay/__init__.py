"""The relay: bytes between two connected sockets, moved by the kernel.

The contract of a relay, whatever moves the bytes:

- Every byte arrives once, in order, at any chunking.
- FIN is carried: when one side ends its stream, the other is told (``shutdown``) after the last
  byte, and the opposite direction lives on until it ends too.
- RST is carried: when one side is cut, the other is cut, not ended politely.
- Back-pressure is carried: a side that does not read stops the reading from the other side.
- A relay ends once; then both sockets are closed and its owner is told how it went.
"""

from dconnect.proxy.relay.pipes import PipePool
from dconnect.proxy.relay.splice import Relay

__all__ = ["PipePool", "Relay"]
