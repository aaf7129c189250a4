"""``dconnect nc``: standard input and output, connected through the front door (for ``ssh -o ProxyCommand=…``).

    stdin ──thread──► front door ──► target      EOF on stdin is FIN for the target
    stdout ◄──main thread──┘                      the target's FIN is EOF for whoever reads us

It speaks HTTP CONNECT: that answers with the whole sentence about what went wrong, where SOCKS has a number.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeVar

from dconnect.cli import passwords
from dconnect.core.address import Target, parse_authority
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError, NameUnknown, UsageError
from dconnect.core.failure import PROXY_ERRORS, Failure

T = TypeVar("T")

ANSWER_S = 30.0
"""The front door itself gives up a dial after 15 s at most, lookup included."""
MAX_ANSWER = 64 * 1024
"""Of an answer to CONNECT, head and sentence."""
CHUNK = 256 * 1024
"""One read: larger buys nothing."""
_STDIN, _STDOUT = 0, 1


def target_of(host: str, port: int) -> Target:
    """What the user typed, as the front door takes it.

    Raises: UsageError.
    """
    if not host.isascii():
        raise UsageError(f"{host!r} is not ASCII; write an international name as xn--….")
    return parse_authority(str(Target(host.removeprefix("[").removesuffix("]"), port)))


def nc(config: AgentConfig, target: Target) -> None:
    """Carry bytes both ways until the target has ended, and stdin too unless a person sits there.

    Raises: DconnectError; BrokenPipeError when nobody reads our output any more.
    """
    if sys.stdout is None:  # and its number may be another's by now
        raise DconnectError("There is no standard output to write to; leave it open.")
    _binary()
    sock, early = _open(config, target)
    with sock:
        sender = threading.Thread(target=_send, args=(sock,), name="stdin", daemon=True)
        sender.start()
        _write(early)
        _receive(sock, target)
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # EOF for whoever reads us
        if sys.stdin is not None and not sys.stdin.isatty():
            sender.join()  # the target may go on listening; a person would not know that


def _open(config: AgentConfig, target: Target) -> tuple[socket.socket, bytes]:
    """A tunnel, and what of the target's bytes came along with the answer.

    Raises: DconnectError.
    """
    where = f"{config.reach}:{config.port}"
    try:
        sock = socket.create_connection((config.reach.strip("[]"), config.port), timeout=ANSWER_S)
    except OSError as error:
        raise DconnectError(
            f"The agent runs, but does not answer at {where} ({error}); see `dconnect logs`."
        ) from error
    with ExitStack() as held:
        held.enter_context(sock)
        try:
            head, rest = _ask(sock, target, passwords.find(config))
        except OSError as error:
            reason = "time-out" if isinstance(error, TimeoutError) else error.strerror
            raise DconnectError(f"The front door at {where} broke off ({reason}); see `dconnect logs`.") from error
        if head.startswith(("HTTP/1.1 407 ", "HTTP/1.0 407 ")):
            raise passwords.needed(config)
        if not head.startswith(("HTTP/1.1 200 ", "HTTP/1.0 200 ")):
            raise _refusal(head, rest.decode(errors="replace").strip(), where)
        sock.settimeout(None)
        held.pop_all()
    return sock, rest


def _ask(sock: socket.socket, target: Target, entry: passwords.Entry | None) -> tuple[str, bytes]:
    """CONNECT (RFC 9110 §9.3.6): the answer's head, and what came after it, wholly where that is an error."""
    signed = f"Proxy-Authorization: {entry.basic}\r\n" if entry is not None else ""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{signed}\r\n".encode())
    answer = b""
    while len(answer) < MAX_ANSWER and not _tunnels(answer) and (data := sock.recv(CHUNK)):
        answer += data
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def _tunnels(answer: bytes) -> bool:
    """Whether nothing is to be waited for: what comes next is the target's, or another attempt is awaited."""
    return b"\r\n\r\n" in answer and answer[8:13] in (b" 200 ", b" 407 ")


def _refusal(head: str, sentence: str, where: str) -> DconnectError:
    """Why there is no tunnel, in the front door's own sentence."""
    if not head.startswith("HTTP/1.") or not sentence:
        return DconnectError(f"What answers at {where} is not dconnect; another program may have the port.")
    unknown = f"error={PROXY_ERRORS[Failure.NAME_UNKNOWN]}" in head.lower()
    return NameUnknown(sentence) if unknown else DconnectError(sentence)


def _send(sock: socket.socket) -> None:
    """Standard input to the target, then FIN. What the target does not take any more, the main thread learns too."""
    with suppress(OSError):
        while sys.stdin is not None and (
            data := _patient(_STDIN, select.POLLIN, functools.partial(os.read, _STDIN, CHUNK))
        ):
            sock.sendall(data)
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _receive(sock: socket.socket, target: Target) -> None:
    """The target's bytes to stdout, up to its FIN.

    Raises: DconnectError when it cuts the connection; BrokenPipeError of stdout.
    """
    buffer = memoryview(bytearray(CHUNK))
    while True:
        try:
            count = sock.recv_into(buffer)
        except OSError as error:
            raise DconnectError(f"{target} cut the connection ({error.strerror}).") from error
        if not count:
            return
        _write(buffer[:count])


def _write(data: bytes | memoryview) -> None:
    """All of it to stdout.

    Raises: BrokenPipeError when nobody reads it; DconnectError when it has no place.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[_patient(_STDOUT, select.POLLOUT, functools.partial(os.write, _STDOUT, view)) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DconnectError(f"Standard output takes no more: {error.strerror}.") from error


def _patient(descriptor: int, event: int, call: Callable[[], T]) -> T:
    """Whoever started us may have made the descriptor non-blocking, which we share with them."""
    while True:
        try:
            return call()
        except BlockingIOError:
            ready = select.poll()
            ready.register(descriptor, event)
            ready.poll()


def _binary() -> None:
    """Windows would turn line ends about."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - only there

        for descriptor in (_STDIN, _STDOUT):
            msvcrt.setmode(descriptor, os.O_BINARY)
