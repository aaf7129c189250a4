"""The helper: what ``sudo dconnect tun up`` is. It has root's rights, so it does little and believes nobody.

It starts the pump as its user, waits for what the agent wants, judges that, makes device and routes, hands the device
over, and from then on has the routes follow. It ends with the pump, or at a signal, and the device with them: nobody
else holds it, and a private network's it removes itself, which is sooner. Killed, it leaves a pump that sees the
channel end, and ends.
"""

from __future__ import annotations

import ipaddress
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from dconnect.cli.transparent.channel import Channel
from dconnect.cli.transparent.invoker import Invoker
from dconnect.cli.transparent.rundir import Entry, RunDir
from dconnect.core.address import parse_ip
from dconnect.core.errors import DconnectError, EngineUnreachable, Interrupted, NotRunning, UsageError
from dconnect.core.limits import RECHECK_SECONDS
from dconnect.core.priority import go_first
from dconnect.tunnel.device import Device, open_device
from dconnect.tunnel.host import Host
from dconnect.tunnel.keeper import Keeper
from dconnect.tunnel.subnets import Choice
from dconnect.tunnel.wire.messages import TCP_BY_TRUNK, Config

if TYPE_CHECKING:
    from dconnect.tunnel.private_linux import PrivateNetwork

DEVICE = "dconnect0"
"""On Linux; macOS chooses itself."""
END_SECONDS = 3.0
"""For the pump to end by itself, once it is told."""

MOST_CHARS = 10_000
"""Of an error's sentences: one for each subnet that is refused."""

Report: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for."""

    mtu: int
    include: tuple[str, ...] = ()
    """CIDR texts."""
    exclude: tuple[str, ...] = ()
    packets: bool = False
    """TCP goes over the link as packets too, as it does on macOS."""
    context: str | None = None
    host: str | None = None


_BY_CODE = {kind.exit_code: kind for kind in (UsageError, NotRunning, EngineUnreachable, Interrupted)}


def failure(message: dict[str, Any]) -> DconnectError:
    """The error that another process of ours met: what it said, and its exit code."""
    return _BY_CODE.get(message.get("code", 1), DconnectError)(str(message["error"])[:MOST_CHARS])


def host_network() -> Host:
    """This system's."""
    if sys.platform == "darwin":
        from dconnect.tunnel.host_macos import MacHost  # noqa: PLC0415 - only there

        return MacHost()
    from dconnect.tunnel.host_linux import LinuxHost  # noqa: PLC0415 - only there, and it takes 0.1 s

    return LinuxHost()


def run(order: Order, rundir: RunDir, invoker: Invoker, report: Report) -> None:
    """Keep a tunnel until it ends: by SIGTERM, SIGINT or SIGHUP, or with the pump.

    ``report`` is called once, when packets flow.

    Raises: DconnectError when there is no tunnel; then nothing of it is left.
    """
    with ExitStack() as held:
        held.enter_context(rundir.take())
        signals = held.enter_context(_signals())
        rundir.write(Entry(os.getpid(), invoker.uid, DEVICE if sys.platform == "linux" else ""))
        held.callback(rundir.forget)
        host = host_network()
        held.callback(host.close)
        listener = held.enter_context(rundir.listen(invoker.uid, invoker.gid))
        helper = Helper(order, host, report)
        held.callback(helper.close)
        pump = held.enter_context(Pumping(order, invoker, listener))
        listener.close()
        helper.serve(pump.channel, signals)


class Helper:
    """Serves one pump."""

    def __init__(
        self, order: Order, host: Host, report: Report, make: Callable[[int, str], Device] = open_device
    ) -> None:
        choice = Choice(*(tuple(map(ipaddress.ip_network, texts)) for texts in (order.include, order.exclude)))
        self._keeper = Keeper(host, choice, order.mtu, self._make_device, DEVICE)
        self._host, self._report, self._make_simple = host, report, make
        self._packets = order.packets
        self._private: PrivateNetwork | None = None
        self._lacking = ""
        """Why there is none, where there should be."""
        self._up = False

    def _make_device(self, config: Config, mtu: int, name: str) -> Device:
        """A private network's, where that can be; the simple one, which takes TCP as packets, otherwise.

        Raises: DconnectError.
        """
        if sys.platform == "linux" and not self._packets and TCP_BY_TRUNK in config.features:
            from dconnect.tunnel.private_linux import Lacking, PrivateNetwork  # noqa: PLC0415 - only there

            try:
                self._private = PrivateNetwork(name, mtu, [each.network for each in config.addresses])
            except Lacking as error:
                self._lacking = str(error)
            else:
                return self._private.device
        return self._make_simple(mtu, name)

    def close(self) -> None:
        """Remove what does not vanish at once with the pump."""
        if self._private is not None:
            self._private.close()
            with suppress(OSError):
                self._host.delete(DEVICE)

    def serve(self, channel: Channel, signals: socket.socket) -> None:
        """Do what the pump asks, until it or a signal ends it.

        Raises: DconnectError when there is no tunnel.
        """
        while True:
            ready, _, _ = select.select([channel.sock, signals], [], [], RECHECK_SECONDS)
            if signals in ready:
                if not self._up:
                    raise Interrupted("interrupted; nothing was changed.")
                return
            if not ready:
                self._recheck(channel)
                continue
            messages = channel.receive()
            if messages is None:
                if not self._up:
                    raise DconnectError("The tunnel's pump ended unexpectedly; DCONNECT_DEBUG=1 shows more.")
                return
            for message in messages:
                self._handle(channel, message)

    def _handle(self, channel: Channel, message: dict[str, Any]) -> None:
        if "error" in message:
            raise failure(message)
        if "sockets" in message:
            self._supply(channel, 6 if message["sockets"] == 6 else 4)
            return
        config = Config.parse(str(message.get("config")).encode())
        door = parse_ip(str(message.get("door")))
        try:
            device = self._keeper.follow(config, door)
            if self._private is not None:
                self._private.keep_apart([each.network for each in config.addresses])
        except (DconnectError, OSError) as error:
            if not self._up:
                raise (
                    error
                    if isinstance(error, DconnectError)
                    else DconnectError(f"The tunnel's device could not be set up: {error.strerror or error}.")
                ) from error
            with suppress(OSError):
                channel.send({"trouble": str(error)})
            return
        self._tell(channel, device)

    def _supply(self, channel: Channel, version: int) -> None:
        """Have the pump listen in the private network."""
        if self._private is None:
            return
        sockets: list[socket.socket] = []
        with suppress(OSError):  # none is an answer too: the pump asks again when it needs one
            sockets = self._private.sockets(version)
        with suppress(OSError):
            channel.send({"sockets": version, "count": len(sockets)}, [each.fileno() for each in sockets])
        for each in sockets:
            each.close()

    def _recheck(self, channel: Channel) -> None:
        try:
            if self._keeper.recheck():
                self._tell(channel, None)
        except OSError as error:
            with suppress(OSError):
                channel.send({"trouble": str(error)})

    def _tell(self, channel: Channel, device: Device | None) -> None:
        kept = self._keeper.kept
        assert kept is not None
        message = {
            "device": kept.device,
            "mtu": kept.mtu,
            "addresses": [str(each) for each in kept.addresses],
            "subnets": [str(each) for each in kept.routed],
            "dns": [str(each) for each in kept.dns],
            "private": self._private is not None,
            "lacking": self._lacking or None,
            "refused": [{"subnet": str(each.subnet), "reason": each.reason} for each in kept.refused],
        }
        descriptors: tuple[int, ...] = ()
        if device is not None:
            descriptors = device.descriptors if self._private is None else self._private.descriptors
            message["descriptors"] = len(descriptors)
        with suppress(OSError):  # a pump that is gone is seen at the next turn
            channel.send(message, descriptors)
        if device is not None:
            if self._private is not None:
                self._private.syns.close()
            device.close()  # the pump holds it now: it ends with the pump, whatever becomes of us
            self._up = True
            self._report(message)


class Pumping:
    """The pump's process."""

    def __init__(self, order: Order, invoker: Invoker, listener: socket.socket) -> None:
        """Start it.

        Raises: DconnectError.
        """
        ours, theirs = socket.socketpair()
        told = {
            "mtu": order.mtu,
            "context": order.context,
            "host": order.host,
            "channel": theirs.fileno(),
            "listener": listener.fileno(),
        }
        other = {} if invoker.uid == os.getuid() else _as(invoker)
        with theirs, _explained(invoker):
            self._process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
                [sys.executable, "-P", "-m", "dconnect.cli.transparent.pumping", json.dumps(told)],
                env=invoker.environment(os.environ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), listener.fileno()),
                start_new_session=True,  # Ctrl-C is ours to handle
                **other,
            )
        go_first(self._process.pid)
        self.channel = Channel(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.sock.close()  # which ends it
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _explained(invoker: Invoker) -> Iterator[None]:
    """What it means when the pump cannot be started."""
    try:
        yield
    except OSError as error:
        raise DconnectError(
            f"The user {invoker.name} cannot run {sys.executable} ({error.strerror}), as the tunnel's pump must; "
            "install dconnect where all may read it."
        ) from error


def _as(invoker: Invoker) -> dict[str, Any]:
    return {"user": invoker.uid, "group": invoker.gid, "extra_groups": invoker.groups(), "umask": 0o077}


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Within the block SIGTERM, SIGINT and SIGHUP make a socket readable, and do nothing else."""
    read, write = socket.socketpair()
    write.setblocking(False)
    with read, write:
        wakeup = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            yield read
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The socket tells."""


def main() -> None:
    """Keep a tunnel in the background; the one argument is JSON: order, invoker, and the descriptor for the report."""
    told = json.loads(sys.argv[1])
    order, invoker = Order(**told["order"]), Invoker(**told["invoker"])
    with os.fdopen(told["report"], "w") as pipe:

        def report(message: dict[str, Any]) -> None:
            with suppress(OSError):  # whoever asked is gone, and has ended us or does not mind
                pipe.write(json.dumps(message))
                pipe.close()

        try:
            run(order, RunDir(), invoker, report)
        except DconnectError as error:
            report({"error": str(error), "code": error.exit_code})
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
