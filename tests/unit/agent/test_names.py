"""Names for the front door: the zone, and lookups elsewhere that can hang as they like."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from ipaddress import ip_address

import pytest

from dconnect.agent.names import Names, no_addresses
from dconnect.core.errors import DialError
from dconnect.core.failure import Failure
from dconnect.core.inventory import Inventory
from dconnect.core.limits import LOOKUPS_IN_FLIGHT
from dconnect.core.rules import Rules
from dconnect.dns import NoAddress, Stopped, Unknown, build
from kit.inventories import container, endpoint, inventory

ZONE = build(Inventory(), ("docker",), [ip_address("127.0.0.1")])
HANGS = """
import asyncio, time
from dconnect.agent.names import Names
from dconnect.dns import build
from dconnect.core.inventory import Inventory
zone = build(Inventory(), ("docker",), [])
names = Names(lambda: zone, "allow", lambda host: time.sleep(600), 0.01)
try:
    asyncio.run(names("far.example"))
except Exception as error:
    print(error)
"""


def names(answer: Iterable[str] | Exception) -> Names:
    def look_up(_host: str) -> Iterable[str]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Names(lambda: ZONE, "allow", look_up)


def test_addresses_come_once_each_in_the_resolvers_order() -> None:
    found = asyncio.run(names(["192.0.2.2", "2001:db8::1", "192.0.2.2", "192.0.2.1"])("far.example"))
    assert found == [ip_address(text) for text in ("192.0.2.2", "2001:db8::1", "192.0.2.1")]


@pytest.mark.parametrize(
    ("rules", "looked_up"),
    [
        (Rules(), False),
        (Rules(allow=["example"]), True),
        (Rules(allow=["other.example"]), False),
        (Rules(allow=["192.0.2.0/24"]), True),
        (Rules(allow=["192.0.2.0/24"], deny=["example"]), False),
        (Rules(deny=["192.0.2.0/24"]), False),
    ],
)
def test_without_egress_only_what_a_rule_may_open_is_looked_up(rules: Rules, looked_up: bool) -> None:
    closed = Names(lambda: ZONE, "deny", lambda _: ["192.0.2.1"], rules=rules)
    if looked_up:
        assert asyncio.run(closed("far.example")) == [ip_address("192.0.2.1")]
    else:
        with pytest.raises(DialError, match="--egress deny") as refusal:
            asyncio.run(closed("far.example"))
        assert refusal.value.failure is Failure.POLICY


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (socket.gaierror(socket.EAI_NONAME, ""), Failure.NAME_UNKNOWN),
        (socket.gaierror(socket.EAI_AGAIN, ""), Failure.TIMEOUT),
        (UnicodeError("label too long"), Failure.NAME_UNKNOWN),
        ([], Failure.NAME_UNKNOWN),
    ],
)
def test_a_failed_lookup_is_told(answer: Iterable[str] | Exception, failure: Failure) -> None:
    with pytest.raises(DialError, match=r"far\.example") as caught:
        asyncio.run(names(answer)("far.example"))
    assert caught.value.failure is failure


def test_a_bounded_number_of_lookups_hangs_and_the_next_dial_is_told_in_time() -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def hang(_host: str) -> Iterable[str]:
        begun.release()
        gate.wait(60)
        return ["192.0.2.1"]

    async def scenario() -> None:
        hanging = Names(lambda: ZONE, "allow", hang, 0.05)
        for _ in range(2):
            dials = [hanging(f"{number}.example") for number in range(LOOKUPS_IN_FLIGHT)]
            for refusal in await asyncio.gather(*dials, return_exceptions=True):
                assert isinstance(refusal, DialError)
                assert refusal.failure is Failure.TIMEOUT
        for _ in range(LOOKUPS_IN_FLIGHT):
            assert begun.acquire(timeout=10)
        assert not begun.acquire(blocking=False), "more threads than the bound"
        gate.set()
        # Threads that ended late gave their slots back.
        patient = Names(lambda: ZONE, "allow", hang)
        assert await patient("far.example") == [ip_address("192.0.2.1")]
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await hanging("far.example") == [ip_address("192.0.2.1")]
                    break
                except DialError:
                    continue

    asyncio.run(scenario())


def test_a_lookup_that_hangs_delays_no_exit() -> None:
    result = subprocess.run([sys.executable, "-P", "-c", HANGS], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "The engine's resolver did not answer for far.example.\n"


@pytest.mark.parametrize(
    ("nothing", "failure", "sentence"),
    [
        (Stopped("web", "exited"), Failure.STOPPED, "The container web has stopped; start it with: docker start web"),
        (Stopped("web", "restarting"), Failure.STOPPED, "The container web is restarting; start it with: docker start"),
        (NoAddress("web"), Failure.HOST_UNREACHABLE, "The container web has no address of its own"),
        (Unknown(("web.a", "web.b")), Failure.NAME_UNKNOWN, "called web; it may be one of web.a, web.b."),
        (Unknown(()), Failure.NAME_UNKNOWN, "No container is called web; dconnect dns lists all names."),
    ],
)
def test_why_a_name_leads_nowhere(nothing: Stopped | NoAddress | Unknown, failure: Failure, sentence: str) -> None:
    error = no_addresses("web", nothing)
    assert error.failure is failure
    assert sentence in str(error)


def test_the_name_of_an_address_is_told_or_why_not() -> None:
    web = build(inventory([container("web", endpoint("front", "172.18.0.2"))]), ("docker",), [])
    assert Names(lambda: web, "allow").name_of(ip_address("172.18.0.2")) == "web.docker"
    with pytest.raises(DialError) as unknown:
        Names(lambda: web, "allow").name_of(ip_address("172.18.0.3"))
    assert (unknown.value.failure, str(unknown.value)) == (
        Failure.NAME_UNKNOWN,
        "No container has the address 172.18.0.3.",
    )
    with pytest.raises(DialError) as early:
        Names(lambda: None, "allow").name_of(ip_address("172.18.0.2"))
    assert early.value.failure is Failure.NOT_READY
