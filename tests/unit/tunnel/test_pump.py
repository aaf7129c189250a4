"""The pump between a device in memory and an agent that is scripted here, over a socket pair."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dconnect.core.errors import DconnectError, NotRunning
from dconnect.core.limits import LINK_BEAT_SECONDS, LINK_MISSES
from dconnect.tunnel.dial import Connection, Door
from dconnect.tunnel.fake import MemoryDevice
from dconnect.tunnel.gate import Gate
from dconnect.tunnel.pump import Pump, Stopped
from dconnect.tunnel.wire import frames, icmp
from dconnect.tunnel.wire import packets as ip
from dconnect.tunnel.wire.messages import Config, Hello
from kit import packets

DOOR = Door("127.0.0.1", 1080, "secret")
ADDRESS = ip_interface("10.0.0.1/24")
CONFIG = Config(65_535, (ADDRESS,), (ip_network("172.17.0.0/16"),), (ip_address("10.0.0.254"),))
PATIENCE = 5.0


class Scene:
    """A pump with its device; the system's end of that, and the agent's ends of the links that were opened."""

    def __init__(self, *, resets: bool = False) -> None:
        self.pump = Pump(self._dial, 65_535, self._configured, resets=resets)
        self.device, self.system = MemoryDevice.pair()
        self.pump.attach(self.device)
        self.pump.admit(Gate((ADDRESS,), (ip_network("172.17.0.0/16"),)))
        self.agents: list[socket.socket] = []
        self.configs: list[Config] = []
        self.away: DconnectError | None = None
        """Why no link can be opened now."""
        self.dials = 0
        self.early = b""
        """What the agent sends right behind its answer."""

    def _dial(self) -> Connection:
        self.dials += 1
        if self.away is not None:
            raise self.away
        ours, theirs = socket.socketpair()
        theirs.settimeout(PATIENCE)
        self.agents.append(theirs)
        return Connection(ours, self.early, DOOR)

    def _configured(self, config: Config) -> None:
        self.configs.append(config)

    def until(self, done: Callable[[], bool]) -> None:
        """Let the pump turn until that is so."""
        end = time.monotonic() + PATIENCE
        due = 0.0
        while not done():
            assert time.monotonic() < end, "the pump does not get there"
            due = self.pump.turn(min(due, time.monotonic() + 0.02))

    def link(self) -> socket.socket:
        """A link that is open and configured; the agent's end."""
        before = len(self.configs)
        self.until(lambda: self.pump.link is not None)
        self.agents[-1].sendall(frames.frame(frames.CONFIG, CONFIG.encode()))
        self.until(lambda: len(self.configs) > before)
        self.heard(frames.HELLO)
        return self.agents[-1]

    def heard(self, kind: int) -> bytes:
        """The payload of the next frame that the agent gets, which is of that kind."""
        agent = self.agents[-1]
        agent.setblocking(False)
        got = b""

        def whole() -> bool:
            nonlocal got
            try:
                got += agent.recv(4 - len(got) if len(got) < 4 else 4 + int.from_bytes(got[1:4]) - len(got))
            except BlockingIOError:
                return False
            return len(got) >= 4 and len(got) == 4 + int.from_bytes(got[1:4])

        self.until(whole)
        agent.settimeout(PATIENCE)
        assert got[0] == kind
        return got[4:]

    def read(self) -> bytes:
        """The next packet that the system gets."""
        buffer = bytearray(65_535)
        size: list[int] = []

        def came() -> bool:
            try:
                size.append(self.system.read_into(buffer))
            except BlockingIOError:
                return False
            return True

        self.until(came)
        return bytes(buffer[: size[0]])

    def close(self) -> None:
        self.pump.close("")
        self.system.close()
        for agent in self.agents:
            agent.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        made.close()


def test_it_says_hello_with_its_mtu_and_takes_the_config(scene: Scene) -> None:
    scene.until(lambda: scene.pump.link is not None)
    hello = Hello.parse(scene.heard(frames.HELLO))
    assert (hello.mtu, hello.address) == (65_535, None)
    assert len(hello.host) >= 16
    scene.agents[-1].sendall(frames.frame(frames.CONFIG, CONFIG.encode()))
    scene.until(lambda: scene.configs == [CONFIG])


def test_frames_that_came_right_behind_the_answer_count(scene: Scene) -> None:
    scene.early = frames.frame(frames.CONFIG, CONFIG.encode())
    scene.until(lambda: scene.configs == [CONFIG])


def test_packets_go_both_ways_whole(scene: Scene) -> None:
    agent = scene.link()
    for packet in (packets.PING4, packets.WHOLE6, packets.SYN4):
        scene.system.write(packet)
        assert scene.heard(frames.PACKET) == packet
    for packet in (packets.PONG4, packets.RST_OF_SYN4):
        agent.sendall(frames.frame(frames.PACKET, packet))
        assert scene.read() == packet


def test_after_so_many_bytes_of_large_packets_the_link_has_its_turn(scene: Scene) -> None:
    scene.link()
    large = packets.PING4.ljust(60_000, b"\0")
    for _ in range(6):
        scene.system.write(large)
    before = scene.pump.stats.sent
    scene.pump.turn(0.0)
    assert scene.pump.stats.sent - before == 5  # the first number of them that are 256 KiB


def test_a_link_that_delivers_byte_by_byte_is_understood(scene: Scene) -> None:
    agent = scene.link()
    for byte in frames.frame(frames.PACKET, packets.PONG4) + frames.frame(frames.PING, b"12345678"):
        agent.sendall(bytes((byte,)))
        scene.pump.turn(time.monotonic())
    assert scene.read() == packets.PONG4
    assert scene.heard(frames.PONG) == b"12345678"


def test_the_largest_packets_pass_when_the_agent_is_slow(scene: Scene) -> None:
    scene.link()
    large = b"".join((packets.DATA4[:2], (60_000).to_bytes(2), packets.DATA4[4:])).ljust(60_000, b"x")
    for _ in range(20):
        scene.system.write(large)
        scene.pump.turn(time.monotonic())
    assert [scene.heard(frames.PACKET) for _ in range(20)] == [large] * 20


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x09\0\0\0", "unknown kind 9"),
        (b"\x01\x01\0\0", "kind 1 with 65536 bytes"),
        (b"\x02\0\0\0", "said hello"),
        (b"\x03\0\0\x02{}", "no whole number as 'version'"),
        (frames.bye("the engine goes down"), "the agent ended it: the engine goes down"),
    ],
)
def test_what_is_not_the_protocol_ends_the_link_and_is_told(scene: Scene, sent: bytes, reason: str) -> None:
    scene.link().sendall(sent)
    scene.until(lambda: scene.pump.error is not None)
    assert reason in str(scene.pump.error)
    scene.link()  # and there is another


def test_without_a_link_every_packet_is_answered_at_once(scene: Scene) -> None:
    scene.away = NotRunning("There is nobody.")
    scene.until(lambda: scene.pump.error is not None)
    for packet in (packets.SYN4, packets.PING4):
        scene.system.write(packet)
        answer = scene.read()
        assert answer == icmp.unreachable(ip.parse(packet), icmp.HOST)
        assert (answer[20], answer[21], answer[12:16]) == (3, 1, packets.B4)  # RFC 792: host unreachable
    scene.system.write(packets.SYN6)
    assert scene.read()[40:42] == b"\x01\x03"  # RFC 4443 §3.1: address unreachable


def test_where_tcp_is_slow_to_believe_icmp_a_syn_gets_an_rst_too() -> None:
    scene = Scene(resets=True)
    try:
        scene.away = NotRunning("There is nobody.")
        scene.until(lambda: scene.pump.error is not None)
        for packet in (packets.SYN4, packets.DATA4, packets.PING4):
            scene.system.write(packet)
        answers = [scene.read() for _ in range(4)]
    finally:
        scene.close()
    assert [answer[9] for answer in answers] == [1, 6, 1, 1]  # ICMP, and TCP for the SYN alone
    assert answers[1] == packets.RST_OF_SYN4


def test_an_error_is_not_answered_with_an_error(scene: Scene) -> None:
    scene.away = NotRunning("There is nobody.")
    scene.until(lambda: scene.pump.error is not None)
    for packet in (packets.ERROR4, b"\x99", packets.SYN4):
        scene.system.write(packet)
    assert scene.read() == icmp.unreachable(ip.parse(packets.SYN4), icmp.HOST)


def test_a_lost_link_is_opened_again_and_the_device_stays(scene: Scene) -> None:
    scene.link().close()
    scene.until(lambda: scene.pump.link is None)
    scene.system.write(packets.SYN4)
    agent = scene.link()
    scene.system.write(packets.PING4)
    scene.until(lambda: scene.pump.stats.sent > 0)
    agent.sendall(frames.frame(frames.PACKET, packets.PONG4))
    read = scene.read()
    assert packets.PONG4 in (read, scene.read() if read != packets.PONG4 else b"")
    assert scene.pump.stats.links == 2


def test_the_address_that_it_had_is_asked_for_again_by_the_same_host(scene: Scene) -> None:
    scene.until(lambda: scene.pump.link is not None)
    first = Hello.parse(scene.heard(frames.HELLO))
    scene.agents[-1].sendall(frames.frame(frames.CONFIG, CONFIG.encode()))
    scene.until(lambda: bool(scene.configs))
    scene.agents[-1].close()
    scene.until(lambda: len(scene.agents) == 2)
    again = Hello.parse(scene.heard(frames.HELLO))
    assert (again.address, again.host) == (ADDRESS.ip, first.host)


def test_a_link_counts_once_however_often_its_config_changes(scene: Scene) -> None:
    agent = scene.link()
    since = scene.pump.stats.since
    agent.sendall(frames.frame(frames.CONFIG, CONFIG.encode()))
    scene.until(lambda: len(scene.configs) == 2)
    assert (scene.pump.stats.links, scene.pump.stats.since) == (1, since)


def test_each_host_says_of_itself_something_else() -> None:
    scenes = Scene(), Scene()
    try:
        hosts = set()
        for each in scenes:
            each.until(lambda: each.pump.link is not None)  # noqa: B023 - called here
            hosts.add(Hello.parse(each.heard(frames.HELLO)).host)
        assert len(hosts) == 2
    finally:
        for each in scenes:
            each.close()


def test_what_waited_for_a_lost_link_does_not_go_to_the_next(scene: Scene) -> None:
    agent = scene.link()
    large = b"".join((packets.DATA4[:2], (60_000).to_bytes(2), packets.DATA4[4:])).ljust(60_000, b"x")
    for _ in range(10):
        scene.system.write(large)
        scene.pump.turn(time.monotonic())
    agent.close()
    scene.until(lambda: len(scene.agents) == 2)
    scene.link()
    scene.system.write(packets.PING4)
    assert scene.heard(frames.PACKET) == packets.PING4


def test_an_agent_that_takes_links_and_drops_them_is_not_asked_in_a_loop(scene: Scene) -> None:
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        scene.pump.turn(time.monotonic() + 0.01)
        for agent in scene.agents:
            agent.close()
    assert scene.dials < 8


def test_a_packet_for_somebody_else_does_not_reach_the_host(scene: Scene) -> None:
    agent = scene.link()
    agent.sendall(frames.frame(frames.PACKET, packets.PING4) + frames.frame(frames.PACKET, packets.PONG4))
    assert scene.read() == packets.PONG4
    assert scene.pump.stats.refused == 1


def test_silence_is_noticed(scene: Scene) -> None:
    scene.link()
    link = scene.pump.link
    assert link is not None
    now = time.monotonic()
    assert link.tick(now) <= now + LINK_BEAT_SECONDS
    link.tick(now + LINK_BEAT_SECONDS)
    scene.heard(frames.PING)
    with pytest.raises(Exception, match="nothing was heard"):
        link.tick(now + LINK_BEAT_SECONDS * LINK_MISSES + 1)


def test_a_pong_tells_the_round_trip(scene: Scene) -> None:
    agent = scene.link()
    link = scene.pump.link
    assert link is not None
    link.ping(time.monotonic())
    agent.sendall(frames.frame(frames.PONG, scene.heard(frames.PING)))
    scene.until(lambda: link.rtt is not None)
    assert link.rtt is not None
    assert 0 <= link.rtt < PATIENCE


def test_after_a_sleep_the_link_must_answer_soon(scene: Scene) -> None:
    scene.link()
    link = scene.pump.link
    assert link is not None
    now = time.monotonic()
    link.woken(now)
    scene.heard(frames.PING)
    with pytest.raises(Exception, match="nothing was heard"):
        link.tick(now + 1.5)


def test_a_turn_that_the_machine_slept_through_asks_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever woke it, and long before anything is due."""
    agent = scene.link()
    clock = itertools.chain([0.0], itertools.repeat(100.0))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    read, write = os.pipe()
    scene.pump.watch(read, lambda: None)
    os.write(write, b"!")
    scene.pump.turn(time.monotonic() + PATIENCE)
    assert agent.recv(100)[:1] == bytes((frames.PING,))
    scene.pump.unwatch(read)
    os.close(read)
    os.close(write)


def test_a_device_that_is_gone_ends_it(scene: Scene) -> None:
    scene.link()
    scene.system.close()
    with pytest.raises(Stopped, match="memory0 is gone"):
        scene.until(lambda: False)


def test_whoever_dials_by_itself_is_told_where_once_the_agent_has_said_what_it_wants(scene: Scene) -> None:
    told: list[Door | None] = []
    scene.pump.on_door = told.append
    scene.until(lambda: scene.pump.link is not None)
    scene.heard(frames.HELLO)
    assert told == []
    scene.agents[-1].sendall(frames.frame(frames.CONFIG, CONFIG.encode()) * 2)
    scene.until(lambda: len(scene.configs) == 2)
    assert told == [DOOR], "a later config tells of networks, not of another agent"
    scene.agents[-1].close()
    scene.until(lambda: len(told) > 1)
    assert told == [DOOR, None]
    scene.link()
    assert told == [DOOR, None, DOOR]
