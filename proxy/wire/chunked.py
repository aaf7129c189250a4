"""The chunked transfer coding (RFC 9112 §7.1), scanned without changing it."""

from __future__ import annotations

from collections.abc import Generator

from dconnect.core.errors import MalformedMessage
from dconnect.core.limits import MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES

_HEX = frozenset(b"0123456789abcdefABCDEF")


class ChunkScanner:
    """Finds the end of a chunked body in a stream of bytes, and its payload on the way.

    Wire:  (chunk-size hex [;extension] CRLF  data  CRLF)*  0 [;extension] CRLF  trailer-fields  CRLF
    """

    def __init__(self) -> None:
        self.done = False
        """The final empty line was seen; bytes after it belong to the next message."""
        self._parser = self._scan()
        self._data = memoryview(b"")
        self._at = 0
        self._payload: list[memoryview] = []
        next(self._parser)

    def feed(self, data: bytes) -> tuple[int, list[memoryview]]:
        """Scan more bytes.

        Returns: (how many of them belong to this body, the payload slices among them).
        Raises:  MalformedMessage: the coding is broken or a line is longer than its bound.
        """
        self._data, self._at, self._payload = memoryview(data), 0, []
        if not self.done:
            try:
                next(self._parser)
            except StopIteration:
                self.done = True
        return self._at, self._payload

    def _scan(self) -> Generator[None, None, None]:
        yield
        while size := self._size((yield from self._line(MAX_CHUNK_LINE_BYTES))):
            while size:
                if self._at == len(self._data):
                    yield
                taken = self._data[self._at : self._at + size]
                self._payload.append(taken)
                self._at += len(taken)
                size -= len(taken)
            if (yield from self._line(2)):
                raise MalformedMessage("A chunk is longer than its size says.")
        left = MAX_TRAILER_BYTES
        while line := (yield from self._line(left)):
            left -= len(line)

    def _line(self, limit: int) -> Generator[None, None, bytes]:
        """One line without its CRLF, which may be split anywhere; a bare LF or CR is refused."""
        line = bytearray()
        while not line.endswith(b"\r\n"):
            if self._at == len(self._data):
                yield
            rest = self._data[self._at : self._at + limit + 2 - len(line)].tobytes()
            end = rest.find(b"\n") + 1
            line += rest[: end or len(rest)]
            self._at += end or len(rest)
            if (end and not line.endswith(b"\r\n")) or (not end and len(line) >= limit + 2):
                raise MalformedMessage("A line of the chunked coding is too long or not ended by CRLF.")
        del line[-2:]
        if b"\r" in line:
            raise MalformedMessage("A line of the chunked coding has a carriage return inside.")
        return bytes(line)

    @staticmethod
    def _size(line: bytes) -> int:
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not digits or len(digits) > 16 or not _HEX.issuperset(digits):
            raise MalformedMessage("A chunk size is not a hexadecimal number.")
        return int(digits, 16)
