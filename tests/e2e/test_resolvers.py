"""Everybody finds the same: dig, unbound, dnsmasq, glibc, musl, Python and Node; and that is what docker inspect says.

All of them run on the host that cannot route. Clients that know port 53 only reach the agent by another's resolver, or
by a rule of the host's own packet filter.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from dnslib import RCODE, DNSRecord

from bed.clients import needs
from bed.dconnect import DNS_PORT, PROGRAM, Dconnect
from bed.namespace import check_output
from bed.processes import processes
from bed.resolvers import Resolving, dnsmasq, port_53, unbound
from bed.scene import IPV6_SUBNET, Scene
from bed.session import Bed

PROGRAMS = Path(__file__).parent / "programs"
SUFFIXES = ("docker", "docker.test")
NETWORK, SUBNET = "resolvers_net", "10.83.0.0/24"
ZONES = (*SUFFIXES, "0.83.10.in-addr.arpa", f"{'0.' * 8}{'.'.join(reversed('fd0000dc'))}.ip6.arpa")
"""The suffixes, and the reverse zones of two of Docker's networks."""
PORTS = range(9000, 9060)
"""Exposed by one container ..."""
SERVERS = {f"0 0 {port} exposing.docker." for port in PORTS}
"""... as SRV tells them, in more than 512 bytes."""
UNKNOWN = "unknown"
"""What the programs print for a name without addresses."""

pytestmark = pytest.mark.usefixtures("names")


@pytest.fixture(scope="module")
def names(bed: Bed, scene: Scene) -> Iterator[dict[str, set[str]]]:
    """Each name with the addresses that ``docker inspect`` tells; none: it does not exist, or is none of a host."""
    bed.docker("network", "create", f"--subnet={SUBNET}", NETWORK)
    ports = [f"--expose={port}" for port in PORTS]
    made = [
        bed.target("aliased", network=NETWORK, options=["--network-alias=the-alias", "--hostname=the-hostname"]),
        bed.target("exposing", network=NETWORK, options=ports),
        bed.target("labelled", network=NETWORK, labels={"dev.dconnect.domains": "*.wild.docker"}),
    ]
    both = {bed.address_of(scene.six, version=4), bed.address_of(scene.six, version=6)}
    web = {bed.address_of(scene.web, "shop_front"), bed.address_of(scene.web, "shop_back"), bed.address_of(scene.web_2)}
    found = {
        "plain": {bed.address_of(scene.plain)},
        "six": both,
        "six.six_net": both,
        "web.shop": web,
        "web": web,
        "2.web.shop": {bed.address_of(scene.web_2)},
        "the-alias": {bed.address_of(made[0])},
        f"the-alias.{NETWORK}": {bed.address_of(made[0])},
        "the-hostname": {bed.address_of(made[0])},
        made[0][:12]: {bed.address_of(made[0])},
        "any.thing.wild": {bed.address_of(made[2])},
        "nobody": set(),
        "shop": set(),  # a project: there is something below it, and nothing at it
    }
    yield {f"{name}.{suffix}": addresses for name, addresses in found.items() for suffix in SUFFIXES[:1]} | {
        "web.shop.docker.test": web,
        "nobody.docker.test": set(),
    }
    bed.docker("rm", "--force", *made)
    bed.docker("network", "rm", NETWORK)


# -- dig, straight at the agent -------------------------------------------------------------------


class Dug:
    """What dig shows of one answer."""

    def __init__(self, said: str) -> None:
        self.text = said
        status = re.search(r"status: (\w+)", said)
        self.status = status[1] if status else "none"
        flags = re.search(r"flags: ([a-z ]*);", said)
        self.flags = set(flags[1].split()) if flags else set()
        answer = re.search(r"ANSWER SECTION:\n(.*?)\n\n", said, re.DOTALL)
        lines = [line.split(maxsplit=4) for line in answer[1].splitlines()] if answer else []
        self.values = sorted(line[4] for line in lines)
        self.kinds = {line[3] for line in lines}
        self.owners = {line[0] for line in lines}
        self.transport = "TCP" if "(TCP)" in said else "UDP"
        self.soa = "AUTHORITY SECTION" in said
        self.edns = "EDNS: version: 0" in said
        size = re.search(r"MSG SIZE\s+rcvd: (\d+)", said)
        self.bytes = int(size[1]) if size else 0


Dig = Callable[..., Dug]


@pytest.fixture
def dig(bed: Bed, agent: Dconnect) -> Dig:
    def run(*words: str) -> Dug:
        command = ["dig", "-p", str(DNS_PORT), f"@{bed.address}", "+time=3", "+tries=2", *words]
        return Dug(bed.host.run(command, check=True).stdout)

    return run


@pytest.mark.parametrize("option", ["+notcp", "+tcp", "+edns=0", "+noedns", "+bufsize=512", "+cookie", "+dnssec"])
def test_dig_finds_every_name_in_every_way_of_asking(dig: Dig, names: Mapping[str, set[str]], option: str) -> None:
    for name, addresses in names.items():
        found = [dig(option, name, kind) for kind in ("A", "AAAA")]
        assert {value for each in found for value in each.values} == addresses, name
        assert all({"qr", "aa"} <= each.flags for each in found), found[0].text
        for each, version in zip(found, (4, 6), strict=True):
            wanted = {address for address in addresses if ipaddress.ip_address(address).version == version}
            assert set(each.values) == wanted, f"{name} {each.text}"
            assert each.soa is not bool(wanted), "an empty answer without SOA cannot be kept (RFC 2308 §3)"
            assert each.edns is (option != "+noedns")
            status = "NXDOMAIN" if name.startswith("nobody.") else "NOERROR"
            assert each.status == status, f"{name} {each.text}"


def test_what_is_too_large_for_udp_comes_truncated_then_whole_by_tcp(dig: Dig) -> None:
    asked = "_tcp.exposing.docker", "SRV"
    for option in ("+bufsize=512", "+noedns"):
        cut = dig(option, "+ignore", *asked)
        assert "tc" in cut.flags
        assert (cut.transport, cut.bytes <= 512) == ("UDP", True)
        whole = dig(option, *asked)
        assert (whole.transport, "tc" in whole.flags) == ("TCP", False)
        assert set(whole.values) >= SERVERS
    assert dig("+bufsize=512", "plain.docker", "A").transport == "UDP"


def test_any_gives_all_that_there_is(dig: Dig, names: Mapping[str, set[str]]) -> None:
    found = dig("+notcp", "six.docker", "ANY")
    assert (set(found.values), found.kinds) == (names["six.docker"], {"A", "AAAA"})


def test_the_spelling_of_a_question_comes_back(dig: Dig, names: Mapping[str, set[str]]) -> None:
    for spelled in ("pLaIn.DoCkEr", "PLAIN.DOCKER", "Plain.docker"):
        found = dig(spelled, "A")
        assert set(found.values) == names["plain.docker"]
        assert found.owners == {f"{spelled}."}
        assert f";{spelled}." in found.text


def test_addresses_lead_back_to_names(bed: Bed, scene: Scene, dig: Dig) -> None:
    for container, name in ((scene.plain, "plain"), (scene.web_2, "shop_web_2"), (scene.six, "six")):
        assert dig("-x", bed.address_of(container)).values == [f"{name}.docker."]
    assert dig("-x", bed.address_of(scene.six, version=6)).values == ["six.docker."]
    nobody = ipaddress.ip_network(IPV6_SUBNET)[-2]
    assert dig("-x", str(nobody)).status == "NXDOMAIN"
    assert dig("-x", "192.0.2.1").status == "REFUSED"


def test_services_and_texts_are_told(dig: Dig) -> None:
    assert dig("_http._tcp.plain.docker", "SRV").values == ["0 0 80 plain.docker."]
    assert dig("_9007._tcp.exposing.docker", "SRV").values == ["0 0 9007 exposing.docker."]
    assert dig("_9007._udp.exposing.docker", "SRV").status == "NXDOMAIN"
    [text] = dig("db.shop.docker", "TXT").values
    assert text.startswith('"container=shop_db_1" "image=dconnect-bed/target')


@pytest.mark.parametrize("kind", ["HTTPS", "SVCB", "MX", "CAA", "TYPE65280"])
def test_other_types_of_a_name_are_an_empty_answer_at_once(dig: Dig, kind: str) -> None:
    found = dig("+tries=1", "+time=1", "plain.docker", kind)
    assert (found.status, found.values, found.soa) == ("NOERROR", [], True)


def test_what_is_not_served_is_refused(dig: Dig) -> None:
    assert dig("version.bind", "CH", "TXT").status == "REFUSED"
    assert dig("plain.docker", "CH", "A").status == "REFUSED"
    assert dig("example.com", "A").status == "REFUSED"
    assert dig("+edns=1", "+noednsneg", "plain.docker", "A").status == "BADVERS"
    assert dig("+tcp", "docker", "AXFR").status in ("REFUSED", "none")  # dig shows no header of a failed transfer
    assert dig("+opcode=NOTIFY", "plain.docker", "SOA").status == "NOTIMP"


GOOD = b"\x77\x77" + bytes(DNSRecord.question("plain.docker").pack())[2:]
_QUESTION = GOOD[12:]
MALFORMED = {
    "nothing": (b"", None),
    "a part of a header": (b"\0\1\1\0\0\1", None),
    "a response": (b"\0\2\x81\x80\0\1\0\0\0\0\0\0" + _QUESTION, None),
    "no question": (b"\0\3\1\0\0\0\0\0\0\0\0\0", RCODE.FORMERR),
    "two questions": (b"\0\4\1\0\0\2\0\0\0\0\0\0" + _QUESTION * 2, RCODE.FORMERR),
    "a question that ends early": (b"\0\5\1\0\0\1\0\0\0\0\0\0" + _QUESTION[:-3], RCODE.FORMERR),
    "a label that overruns": (b"\0\6\1\0\0\1\0\0\0\0\0\0\x3fabc", RCODE.FORMERR),
    "a pointer to itself": (b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", RCODE.FORMERR),
    "a reserved kind of label": (b"\0\x08\1\0\0\1\0\0\0\0\0\0\x80a\0\0\1\0\1", RCODE.FORMERR),
    "a name of 300 bytes": (b"\0\x09\1\0\0\1\0\0\0\0\0\0" + b"\x09nine-long" * 30 + b"\0\0\1\0\1", RCODE.FORMERR),
    "bytes after the end": (b"\0\x0a\1\0\0\1\0\0\0\0\0\0" + _QUESTION + b"more", RCODE.FORMERR),
    "two OPT records": (b"\0\x0b\1\0\0\1\0\0\0\0\0\2" + _QUESTION + (b"\0\0\x29" + b"\2" * 8) * 2, RCODE.FORMERR),
    "an option that overruns": (
        b"\0\x0c\1\0\0\1\0\0\0\0\0\1" + _QUESTION + b"\0\0\x29\4\0\0\0\0\0\0\4\0\x0a\0\xff",
        RCODE.FORMERR,
    ),
    "another opcode": (b"\0\x0d\x28\0\0\1\0\0\0\0\0\0" + _QUESTION, RCODE.NOTIMP),
}
"""Each with its own ID (but for the empty one), and the answer's code or None for silence (RFC 1035 §4.1.1)."""


def test_malformed_messages_are_refused_or_ignored_and_the_server_lives(bed: Bed, agent: Dconnect) -> None:
    before = processes(bed, "dconnect")
    for what, (message, code) in MALFORMED.items():
        expected = {GOOD[:2]: RCODE.NOERROR} | ({} if code is None else {message[:2]: code})
        assert _codes(bed, message, len(expected)) == expected, what
    assert processes(bed, "dconnect") == before


def _codes(bed: Bed, message: bytes, count: int) -> dict[bytes, int]:
    """By ID, the codes of so many answers to a message and to a good query after it; workers answer in any order."""
    found: dict[bytes, int] = {}
    with bed.host.socket(kind=socket.SOCK_DGRAM) as asker:
        asker.settimeout(5)
        asker.connect((bed.address, DNS_PORT))
        asker.send(message)
        asker.send(GOOD)
        while len(found) < count:
            answer = asker.recv(4096)
            assert answer[2] & 0x80, "a query came back"
            found[answer[:2]] = answer[3] & 15
    return found


@pytest.mark.parametrize("what", [what for what, (message, _) in MALFORMED.items() if message])
def test_malformed_messages_over_tcp_harm_nobody(bed: Bed, agent: Dconnect, what: str) -> None:
    message, code = MALFORMED[what]
    with bed.host.connect(bed.address, DNS_PORT) as connection:
        connection.sendall(struct.pack(">H", len(message)) + message + struct.pack(">H", len(GOOD)) + GOOD)
        connection.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: connection.recv(4096), b""))
    answers = {}
    while data:
        size = int.from_bytes(data[:2], "big")
        answers[data[2:4]] = data[5] & 15
        data = data[2 + size :]
    assert answers.pop(GOOD[:2], 0) == 0
    assert answers == ({} if code is None else {message[:2]: code})
    with bed.host.connect(bed.address, DNS_PORT) as connection:
        connection.sendall(struct.pack(">H", len(GOOD)) + GOOD)
        assert connection.recv(4)[2:] == GOOD[:2]


# -- other people's resolvers and libraries ---------------------------------------------------------

WAYS: dict[str, Callable[[Bed], AbstractContextManager[str]]] = {
    "port 53": partial(port_53, port=DNS_PORT),
    "unbound, stub": lambda bed: unbound(bed, "stub", ZONES, bed.address, DNS_PORT),
    "unbound, forward": lambda bed: unbound(bed, "forward", ZONES, bed.address, DNS_PORT),
    "dnsmasq": lambda bed: dnsmasq(bed, ZONES, bed.address, DNS_PORT),
}


@pytest.fixture(
    scope="module",
    params=[
        "port 53",
        pytest.param("unbound, stub", marks=needs("unbound", "unbound")),
        pytest.param("unbound, forward", marks=needs("unbound", "unbound")),
        pytest.param("dnsmasq", marks=needs("dnsmasq-base", "dnsmasq")),
    ],
)
def server(request: pytest.FixtureRequest, bed: Bed, agent: Dconnect) -> Iterator[str]:
    """Where clients ask, on port 53."""
    with WAYS[request.param](bed) as address:
        yield address


@pytest.fixture(scope="module")
def musl_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("musl") / "addresses"
    command = ["musl-gcc", "-static", "-O1", "-Wall", "-Werror", "-o", str(made), str(PROGRAMS / "addresses.c")]
    check_output(command, subprocess.run(command, capture_output=True, text=True, check=False, timeout=60))
    return made


@pytest.fixture
def found_by(bed: Bed, server: str, tmp_path: Path) -> Callable[..., dict[str, set[str]]]:
    """What a program, which prints a line for each name, finds by way of the server."""

    def run(command: Sequence[str | Path], asked: Sequence[str]) -> dict[str, set[str]]:
        resolving = Resolving(tmp_path, server)
        lines = bed.host.run(resolving.command([*command, *asked]), check=True).stdout.splitlines()
        found = {line.split()[0]: set(line.split()[1:]) - {UNKNOWN} for line in lines}
        assert len(found) == len(lines) == len(set(asked)), lines
        return found

    return run


FoundBy = Callable[..., dict[str, set[str]]]


def test_dig_by_another_resolver_finds_the_same(bed: Bed, names: Mapping[str, set[str]], server: str) -> None:
    for name, addresses in names.items():
        for transport in ("+notcp", "+tcp"):
            words = ["dig", f"@{server}", "+time=3", "+tries=2", transport]
            found = [Dug(bed.host.run([*words, name, kind], check=True).stdout) for kind in ("A", "AAAA")]
            assert {value for each in found for value in each.values} == addresses, found[0].text
            assert {each.status for each in found} == {"NXDOMAIN" if name.startswith("nobody.") else "NOERROR"}


def test_reverse_names_and_services_pass_another_resolver(bed: Bed, scene: Scene, server: str) -> None:
    def values(*words: str) -> list[str]:
        return Dug(bed.host.run(["dig", f"@{server}", "+time=3", "+tries=2", *words], check=True).stdout).values

    assert values("-x", bed.address_of(scene.six, version=6)) == ["six.docker."]
    assert values("-x", bed.address_of("exposing")) == ["exposing.docker."]
    assert set(values("_tcp.exposing.docker", "SRV")) >= SERVERS


def test_glibc_s_getent_finds_the_same(bed: Bed, names: Mapping[str, set[str]], server: str, tmp_path: Path) -> None:
    for name, addresses in names.items():
        result = bed.host.run(Resolving(tmp_path, server).command(["getent", "ahosts", name]))
        assert result.returncode == (0 if addresses else 2), result.stderr
        assert {line.split()[0] for line in result.stdout.splitlines()} == addresses, name


@needs("musl-tools", "musl-gcc")
def test_a_static_program_with_musl_finds_the_same(
    names: Mapping[str, set[str]], found_by: FoundBy, musl_program: Path
) -> None:
    assert found_by([musl_program], list(names)) == names


def test_python_finds_the_same(names: Mapping[str, set[str]], found_by: FoundBy) -> None:
    python = PROGRAM.with_name("python")
    assert found_by([python, "-P", PROGRAMS / "addresses.py"], list(names)) == names


@needs("nodejs", "node")
@pytest.mark.parametrize("way", ["lookup", "resolve"])
def test_node_finds_the_same_by_libc_and_by_its_own_resolver(
    names: Mapping[str, set[str]], found_by: FoundBy, way: str
) -> None:
    assert found_by(["node", PROGRAMS / "addresses.js", way], list(names)) == names
