"""The helper, with a pump that is scripted here and a host's network in memory."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from dconnect.cli.transparent.channel import Channel
from dconnect.cli.transparent.helper import Helper, Order, failure
from dconnect.core.errors import DconnectError, EngineUnreachable, Interrupted, MalformedMessage, NotRunning
from dconnect.core.limits import CHANNEL_LINE_BYTES, TUNNEL_SOCKETS
from dconnect.tunnel.fake import MemoryDevice
from dconnect.tunnel.host import FakeHost
from dconnect.tunnel.subnets import HostNet, Route
from dconnect.tunnel.wire.messages import Config

A, B = ip_network("172.17.0.0/16"), ip_network("172.18.0.0/16")
PATIENCE = 5.0


def config(*subnets: Any) -> dict[str, Any]:
    """What a pump says of its agent's config."""
    told = Config(65_535, (ip_interface("10.213.0.2/24"),), subnets, (ip_address("10.213.0.1"),))
    return {"config": told.encode().decode(), "door": "127.0.0.1"}


class Scene:
    """A helper at work, the pump's end of its channel, and the end that signals come by."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.reports: list[dict[str, Any]] = []
        self.others: list[MemoryDevice] = []
        ours, theirs = socket.socketpair()
        theirs.settimeout(PATIENCE)
        self.pump = Channel(theirs)
        self.channel = Channel(ours)
        self.signals, self.signal = socket.socketpair()
        self.helper = Helper(Order(65_535, exclude=("172.18.5.0/24",)), self.host, self.reports.append, self._make)
        self.failed: list[DconnectError] = []
        self._thread = threading.Thread(target=self._serve)

    def _make(self, mtu: int, name: str) -> MemoryDevice:
        device, other = MemoryDevice.pair(mtu)
        self.others.append(other)
        device.name = name
        return device

    def _serve(self) -> None:
        try:
            self.helper.serve(self.channel, self.signals)
        except DconnectError as error:
            self.failed.append(error)

    def start(self) -> None:
        self._thread.start()

    def answer(self) -> dict[str, Any]:
        messages = self.pump.receive()
        assert messages
        return messages[0]

    def ended(self) -> DconnectError | None:
        """Wait for the end; what it failed with."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.failed[0] if self.failed else None

    def close(self) -> None:
        self.pump.sock.close()
        self._thread.join(PATIENCE)
        for sock in (self.channel.sock, self.signals, self.signal):
            sock.close()
        for device in self.others:
            device.close()
        for fd in self.pump.descriptors:
            os.close(fd)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    made.start()
    try:
        yield made
    finally:
        made.close()


def test_the_first_config_is_answered_with_the_device_and_reported(scene: Scene) -> None:
    scene.pump.send(config(A))
    answer = scene.answer()
    assert (answer["device"], answer["subnets"]) == ("dconnect0", ["172.17.0.0/16"])
    assert answer["dns"] == ["10.213.0.1"]
    assert len(scene.pump.descriptors) == 1
    scene.others[0].write(b"a packet")
    assert os.read(scene.pump.descriptors[0], 100) == b"a packet"
    scene.pump.send(config(A, B))
    scene.answer()
    assert len(scene.pump.descriptors) == 1
    assert len(scene.reports) == 1


def test_the_helper_keeps_no_descriptor_of_the_device(scene: Scene) -> None:
    scene.pump.send(config(A))
    scene.answer()
    scene.pump.send(config(A))  # once it is answered, what came before is done
    scene.answer()
    os.close(scene.pump.descriptors.pop())
    with pytest.raises(OSError, match=r"Broken pipe|file descriptor"):
        scene.others[0].write(b"nobody holds the other end")


def test_options_are_the_helpers_to_apply(scene: Scene) -> None:
    scene.pump.send(config(B))
    assert "172.18.5.0/24" not in scene.answer()["subnets"]
    assert not any(ip_network("172.18.5.0/24").overlaps(each) for each in scene.host.routed["dconnect0"])


def test_a_pump_cannot_have_routed_what_is_not_private(scene: Scene) -> None:
    scene.pump.send(config(A, ip_network("8.8.8.0/24"), ip_network("0.0.0.0/1")))
    assert scene.answer()["subnets"] == ["172.17.0.0/16"]


def test_a_later_config_that_cannot_be_is_told_and_the_tunnel_stays(scene: Scene) -> None:
    scene.pump.send(config(A))
    scene.answer()
    scene.host.own = HostNet((Route(ip_network("10.213.0.0/24"), "wg0"),))
    scene.pump.send(config(A, B))
    assert "10.213.0.0/24 cannot be used" in scene.answer()["trouble"]
    assert scene.host.routed["dconnect0"] == {A}


@pytest.mark.parametrize(
    ("code", "kind"), [(3, NotRunning), (4, EngineUnreachable), (1, DconnectError), (99, DconnectError)]
)
def test_what_a_pump_failed_with_is_what_the_person_is_told(scene: Scene, code: int, kind: type[DconnectError]) -> None:
    scene.pump.send({"error": "There is no agent.", "code": code})
    error = scene.ended()
    assert type(error) is kind
    assert str(error) == "There is no agent."
    assert not scene.host.changes


def test_a_pump_that_ends_before_there_is_a_tunnel_is_an_error_later_it_is_the_end(scene: Scene) -> None:
    scene.pump.sock.close()
    assert "ended unexpectedly" in str(scene.ended())
    other = Scene()
    other.start()
    try:
        other.pump.send(config(A))
        other.answer()
        other.pump.sock.close()
        assert other.ended() is None
    finally:
        other.close()


def test_a_signal_ends_it(scene: Scene) -> None:
    scene.pump.send(config(A))
    scene.answer()
    scene.signal.send(b"\x0f")
    assert scene.ended() is None


def test_a_signal_before_there_is_a_tunnel_is_an_interruption(scene: Scene) -> None:
    scene.signal.send(b"\x02")
    assert isinstance(scene.ended(), Interrupted)


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b'{"config": "{}"}\n', b'{"config": 7}\n', b"{}\n"])
def test_a_pump_that_says_what_it_must_not_ends_it(scene: Scene, line: bytes) -> None:
    scene.pump.sock.sendall(line)
    assert isinstance(scene.ended(), MalformedMessage)
    assert not scene.host.changes


@contextmanager
def _channels() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def test_messages_may_come_in_pieces_and_together() -> None:
    with _channels() as (channel, other):
        other.sendall(b'{"a": ')
        assert channel.receive() == []
        other.sendall(b'1}\n{"b": 2}\n')
        assert channel.receive() == [{"a": 1}, {"b": 2}]
        other.close()
        assert channel.receive() is None


def _twins(fd: int, other: int) -> bool:
    """Whether two descriptors are of the same pipe or socket."""
    return os.path.sameopenfile(fd, other)


def test_descriptors_are_taken_in_the_order_in_which_they_came() -> None:
    with _channels() as (channel, theirs), ExitStack() as held:
        pairs = [held.enter_context(_pipe()) for _ in range(5)]
        sent = [reading for reading, _ in pairs]
        other = Channel(theirs)
        other.send({"count": 3}, sent[:3])
        other.send({"count": 2}, tuple(sent[3:]))
        counts: list[int] = []
        while len(counts) < 2:
            counts += [message["count"] for message in channel.receive() or ()]
        assert counts == [3, 2]
        first, second = channel.take(3), channel.take(2)
        for fd in (*first, *second):
            held.callback(os.close, fd)
        assert (len(first), len(second)) == (3, 2)
        assert channel.take(1) == channel.descriptors == []
        assert all(map(_twins, (*first, *second), sent))


def test_as_many_sockets_as_the_helper_makes_at_once_come_in_one_message() -> None:
    with _channels() as (channel, theirs), ExitStack() as held:
        reading, _ = held.enter_context(_pipe())
        Channel(theirs).send({"count": TUNNEL_SOCKETS}, [reading] * TUNNEL_SOCKETS)
        assert channel.receive() == [{"count": TUNNEL_SOCKETS}]
        taken = channel.take(TUNNEL_SOCKETS)
        for fd in taken:
            held.callback(os.close, fd)
        assert len(taken) == TUNNEL_SOCKETS
        assert not any(map(os.get_inheritable, taken))


def test_a_line_without_end_is_refused() -> None:
    with _channels() as (channel, other):
        thread = threading.Thread(target=_send_all, args=(other, b"x" * (CHANNEL_LINE_BYTES + 2)))
        thread.start()

        def endless() -> None:
            while True:
                channel.receive()

        with pytest.raises(MalformedMessage, match="without end"):
            endless()
        channel.sock.close()
        thread.join(PATIENCE)


def _send_all(sock: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        sock.sendall(data)


def test_an_errors_sentence_is_bounded() -> None:
    assert len(str(failure({"error": "x" * 100_000, "code": 1}))) == 10_000
