"""Faults in the trunk, which many small connections share."""

from __future__ import annotations

from mutants.mutant import Mutant

ENGINE = "proxy/relay/trunk.py"
STREAMS = "tests/unit/proxy/test_trunk.py"
MOVES = "tests/unit/proxy/test_trunk_moves.py"
AGENTS = "tests/unit/agent/test_trunks.py"
AGENTS_MOVES = "tests/unit/agent/test_trunks_moving.py"
CONNECTION = "tests/unit/proxy/test_trunk_connection.py"
_THEN = "\n                pass\n            except OSError as error:\n                self.close(error)"

MUTANTS = (
    # The trunk's own connection.
    Mutant(ENGINE, "self._channel.deadline(None)", "pass", CONNECTION),
    Mutant(ENGINE, "        if early:\n            self._take(early)\n", "", CONNECTION),
    Mutant(ENGINE, "        self._read(HANGUP)\n\n    def say", "\n    def say", CONNECTION),
    Mutant(ENGINE, "self.poller.loop.call_soon(self._flush)", "self._flush()", STREAMS),
    Mutant(
        ENGINE,
        "        if self.closed:\n            return\n        self.closed, ",
        "        self.closed, ",
        CONNECTION,
    ),
    Mutant(ENGINE, "del waiting[: self._channel.sock.send(waiting)]", "self._channel.sock.send(waiting)", CONNECTION),
    Mutant(ENGINE, "self._channel.tell_writable()", "pass", CONNECTION),
    Mutant(
        ENGINE,
        f"except BlockingIOError:{_THEN}",
        f"except ZeroDivisionError:{_THEN}",
        CONNECTION,
    ),
    Mutant(ENGINE, "if mask & WRITE and self._blocked:", "if False:", CONNECTION),
    Mutant(ENGINE, "if len(data) < TRUNK_READ_BYTES and not not_dry:", "if len(data) < TRUNK_READ_BYTES:", CONNECTION),
    Mutant(ENGINE, "self.poller.loop.call_soon(self._read_on)", "pass", CONNECTION),
    Mutant(ENGINE, "self._reads = False\n        self._read(HANGUP)", "self._read(HANGUP)", CONNECTION),
    Mutant(ENGINE, "if len(self._waiting) < TRUNK_WAITING_BYTES:", "if True:", CONNECTION),
    Mutant(ENGINE, "                stream.read()", "                pass", CONNECTION),
    Mutant(ENGINE, "self._blocked = bool(waiting)", "pass", CONNECTION),
    Mutant(ENGINE, "(self._left and self._has_left)\n", "(self._left and self._has_ended)\n", AGENTS_MOVES),
    Mutant(ENGINE, "if len(self._waiting) > TRUNK_UNSENT_BYTES:", "if False:", CONNECTION),
    Mutant(ENGINE, "self._received + data if self._received else data", "data", STREAMS),
    Mutant(ENGINE, "self._received = received[used:]", 'self._received = b""', STREAMS),
    Mutant(ENGINE, "if number in self.streams:", "if False:", STREAMS),
    Mutant(ENGINE, "stream.lost(reason)", "pass", CONNECTION),
    # Bytes, ends and resets.
    Mutant(ENGINE, "        if self.over:\n            channel.reset()\n            return\n", "", STREAMS),
    Mutant(ENGINE, "self._settle()\n        if not channel.dry:", "if not channel.dry:", STREAMS),
    Mutant(ENGINE, "if not channel.dry:", "if False:", STREAMS),
    Mutant(ENGINE, "self.trunk.say(RESET, self.number)", "pass", STREAMS),
    Mutant(ENGINE, "self.lost(ConnectionResetError", "self.cut(ConnectionResetError", STREAMS),
    Mutant(ENGINE, "self._has_left or (self._has_ended and kind != LEAVE)", "self._has_left", STREAMS),
    Mutant(
        ENGINE, "self._has_left or (self._has_ended and kind != LEAVE)", "kind == DATA and self._has_ended", STREAMS
    ),
    Mutant(ENGINE, "if mask & WRITE and self._held:", "if False:", STREAMS),
    Mutant(ENGINE, "if mask & ERROR and not self.over:", "if False:", STREAMS),
    Mutant(ENGINE, "if len(data) < room and not not_dry:", "if len(data) < room:", STREAMS),
    Mutant(
        ENGINE,
        "self._ended = True\n                self.trunk.say(END, self.number)\n                self._settle()",
        "self._ended = True\n                self.trunk.say(END, self.number)",
        STREAMS,
    ),
    Mutant(
        ENGINE,
        "            if held:\n                channel.tell_writable()\n                return\n",
        "            if held:\n                channel.tell_writable()\n",
        STREAMS,
    ),
    Mutant(ENGINE, "                channel.tell_writable()\n", "", STREAMS),
    Mutant(ENGINE, "            channel.finish()", "            pass", STREAMS),
    Mutant(ENGINE, "if self._ended and self._finished:", "if self._ended or self._finished:", STREAMS),
    Mutant(ENGINE, "if self._ended and self._finished:", "if self._ended and self._has_left:", STREAMS),
    Mutant(ENGINE, "        del self.trunk.streams[self.number]\n", "", STREAMS),
    Mutant(
        ENGINE,
        "if error is None:\n                self.channel.close()",
        "if True:\n                self.channel.close()",
        STREAMS,
    ),
    # The bound, and leaving.
    Mutant(ENGINE, "room = min(TRUNK_DATA_BYTES, TRUNK_STREAM_BYTES - self.sent)", "room = TRUNK_DATA_BYTES", MOVES),
    Mutant(ENGINE, "self.sent += len(data)", "self.sent = len(data)", MOVES),
    Mutant(ENGINE, "if self.sent >= TRUNK_BULK_BYTES:", "if self.sent > TRUNK_BULK_BYTES:", MOVES),
    Mutant(ENGINE, "if self.got >= TRUNK_BULK_BYTES", "if self.got > TRUNK_BULK_BYTES", MOVES),
    Mutant(ENGINE, "if self.got > TRUNK_STREAM_BYTES:", "if self.got >= TRUNK_STREAM_BYTES:", MOVES),
    Mutant(ENGINE, "if self.got > TRUNK_STREAM_BYTES:", "if False:", STREAMS),
    Mutant(ENGINE, "if not self._left and not self.over:", "if not self.over:", MOVES),
    Mutant(ENGINE, "if not self._left and not self.over:", "if not self._left:", MOVES),
    Mutant(
        ENGINE, "while not (self.over or self._ended or self._left):", "while not (self.over or self._ended):", MOVES
    ),
    Mutant(
        ENGINE,
        "            self._has_left = True\n            self.leave()",
        "            self._has_left = True",
        MOVES,
    ),
    Mutant(ENGINE, "self.leave()\n            self._settle()", "self.leave()", MOVES),
    Mutant(ENGINE, "if self._left and self._has_left:", "if self._left:", MOVES),
    Mutant(ENGINE, "socket.SO_OOBINLINE, 0)", "socket.SO_OOBINLINE, 1)", MOVES),
    Mutant(ENGINE, "socket.SO_OOBINLINE, 1)", "socket.SO_OOBINLINE, 0)", MOVES),
    Mutant(ENGINE, "and not self.is_said:\n            self._end", "and True:\n            self._end", AGENTS),
    Mutant(
        ENGINE, "            self.abort(OSError(errno.EPROTO", "            self.close(OSError(errno.EPROTO", STREAMS
    ),
    Mutant(ENGINE, "self.closed and not self.streams and", "self.closed and", CONNECTION),
)
