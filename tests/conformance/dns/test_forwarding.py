"""Asking other servers: RFC 1035 §7, 2308 §5, 5452, 6891, 7766, 8767; against a server on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address
from typing import Self

import pytest
from dnslib import QTYPE, RCODE, RR, DNSRecord

from dconnect.core.limits import DNS_FORWARDS_WAITING
from dconnect.dns import DnsServer, Forwarder, Resolver, Server
from dconnect.dns.wire.message import Query, parse_query
from kit.dns import query, zone
from kit.inventories import container, endpoint
from kit.loops import LOOPS, Run, runner
from kit.name_server import NameServer, name_server
from kit.name_server import zone as lines

WEB = lines("www.example. 60 A 192.0.2.1\nlong.example. 7200 A 192.0.2.2")


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return runner(request.param)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asking:
    """A forwarder, asked in dnslib's words."""

    def __init__(self, *servers: Server) -> None:
        self.clock = Clock()
        self.complaints: list[str] = []
        self.forwarder = Forwarder(servers, "abc123", self.complaints.append, self.clock)

    async def __call__(self, name: str, qtype: str = "A", ident: int = 0x1234, limit: int = 512) -> DNSRecord:
        return DNSRecord.parse(await self.forwarder.answer(parsed(name, qtype, ident), limit))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.forwarder.close()


def parsed(name: str, qtype: str = "A", ident: int = 0x1234) -> Query:
    return parse_query(query(name, qtype, ident))


def values(record: DNSRecord) -> list[str]:
    return [str(each.rdata) for each in record.rr]


def asked(server: NameServer) -> list[str]:
    """What came by UDP, but for the question whether it is us."""
    names = [str(each.q.qname).rstrip(".") for each, _ in server.udp]
    return [name for name in names if not name.endswith("loop.dconnect.test")]


def dead() -> Server:
    """Where nothing listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return Server(ip_address("127.0.0.1"), sock.getsockname()[1])


def with_soa(query: DNSRecord) -> list[bytes]:
    """NXDOMAIN, to be kept for 5 seconds."""
    answer = query.reply()
    answer.header.rcode = RCODE.NXDOMAIN
    answer.add_auth(*RR.fromZone("example. 60 SOA ns.example. host.example. 1 2 3 4 5"))
    return [bytes(answer.pack())]


def failing(query: DNSRecord) -> list[bytes]:
    answer = query.reply()
    answer.header.rcode = RCODE.SERVFAIL
    return [bytes(answer.pack())]


def test_rfc1035_s7_3_the_answer_has_the_clients_id_and_spelling(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as server, Asking(server.where) as ask:
            for name, ident in (("www.example", 1), ("WWW.exAmple", 2)):
                record = await ask(name, ident=ident)
                assert (record.header.id, str(record.q.qname), values(record)) == (ident, f"{name}.", ["192.0.2.1"])
            assert asked(server) == ["www.example"]

    run(main())


def test_rfc1035_s4_1_1_recursion_was_available_and_we_are_no_authority(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as server, Asking(server.where) as ask:
            header = (await ask("www.example")).header
            assert (header.qr, header.ra, header.aa, header.rd) == (1, 1, 0, 1)

    run(main())


def test_rfc5452_s9_2_ids_and_ports_are_new_for_every_question(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as server, Asking(server.where) as ask:
            for _ in range(30):
                ask.clock.now += 61
                _ = await ask("www.example")
            assert len({record.header.id for record, _ in server.udp}) > 25
            assert len({port for _, port in server.udp}) > 25

    run(main())


@pytest.mark.parametrize("forged", ["id", "name", "type", "a query"])
def test_rfc5452_s9_1_an_answer_to_another_question_is_passed_over(run: Run, forged: str) -> None:
    def replies(query: DNSRecord) -> Sequence[bytes]:
        [good] = WEB(query)
        bad = query.reply()
        bad.add_answer(*RR.fromZone("www.example. 60 A 203.0.113.66"))
        match forged:
            case "id":
                bad.header.id ^= 1
            case "name":
                bad.q.qname = "other.example"
            case "type":
                bad.q.qtype = QTYPE.AAAA
            case _:
                bad.header.qr = 0
        return [bytes(bad.pack()), good]

    async def main() -> None:
        async with name_server(replies) as server, Asking(server.where) as ask:
            assert values(await ask("www.example")) == ["192.0.2.1"]

    run(main())


def test_rfc7766_s5_a_truncated_answer_is_asked_for_by_tcp(run: Run) -> None:
    many = lines("\n".join(f"www.example. 60 A 192.0.2.{number}" for number in range(100)))

    def cut(query: DNSRecord) -> Sequence[bytes]:
        answer = query.reply()
        answer.header.tc = 1
        return [bytes(answer.pack())]

    async def main() -> None:
        async with name_server(cut, many) as server, Asking(server.where) as ask:
            assert len((await ask("www.example", limit=65_535)).rr) == 100
            again = await ask("www.example", limit=512)  # and to whom that is too much
            assert (again.header.tc, again.header.ra, again.rr) == (1, 1, [])
            assert len(server.tcp) == 1

    run(main())


def test_rfc1035_s3_2_1_a_kept_answer_grows_old(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as server, Asking(server.where) as ask:
            for age, ttl, times in ((0, 60, 1), (20.5, 40, 1), (39, 1, 1), (1, 60, 2)):
                ask.clock.now += age
                assert [each.ttl for each in (await ask("www.example")).rr] == [ttl]
                assert asked(server) == ["www.example"] * times

    run(main())


def test_rfc8767_s4_no_answer_is_fresh_for_longer_than_an_hour(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as server, Asking(server.where) as ask:
            _ = await ask("long.example")
            ask.clock.now += 3601
            _ = await ask("long.example")
            assert asked(server) == ["long.example"] * 2

    run(main())


def test_rfc2308_s5_what_does_not_exist_is_kept_as_long_as_its_soa_says(run: Run) -> None:
    async def main() -> None:
        async with name_server(with_soa) as server, Asking(server.where) as ask:
            for age, ttl, times in ((0, 5, 1), (4, 1, 1), (2, 5, 2)):
                ask.clock.now += age
                record = await ask("no.example")
                assert (record.header.rcode, [each.ttl for each in record.auth]) == (RCODE.NXDOMAIN, [ttl])
                assert asked(server) == ["no.example"] * times

    run(main())


def test_rfc2308_s5_without_soa_it_is_not_kept(run: Run) -> None:
    def replies(query: DNSRecord) -> Sequence[bytes]:
        return [bytes(query.reply().pack())]

    async def main() -> None:
        async with name_server(replies) as server, Asking(server.where) as ask:
            for _ in range(2):
                assert values(await ask("no.example")) == []
            assert asked(server) == ["no.example"] * 2

    run(main())


def test_rfc8767_s5_stale_answers_are_given_while_no_server_answers(run: Run) -> None:
    async def main() -> None:
        async with Asking() as ask:
            async with name_server(WEB) as server:
                ask.forwarder._servers = [server.where]
                _ = await ask("www.example")
            ask.clock.now += 3600
            record = await ask("www.example")
            assert (values(record), [each.ttl for each in record.rr]) == (["192.0.2.1"], [30])
            ask.clock.now += 86_400
            assert (await ask("www.example")).header.rcode == RCODE.SERVFAIL

    run(main())


def test_rfc8767_s5_a_slow_server_keeps_nobody_waiting_for_what_is_known(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as server, Asking(server.where) as ask:
            _ = await ask("www.example")
            ask.clock.now += 61
            server.release.clear()
            record = await ask("www.example")
            assert (values(record), [each.ttl for each in record.rr]) == (["192.0.2.1"], [30])

    run(main())


def test_a_server_that_fails_is_passed_over_and_the_next_preferred(run: Run) -> None:
    async def main() -> None:
        async with name_server(failing) as bad, name_server(WEB) as good, Asking(dead(), bad.where, good.where) as ask:
            for name in ("www.example", "long.example"):
                assert (await ask(name)).header.rcode == RCODE.NOERROR
            assert (asked(bad), asked(good)) == (["www.example"], ["www.example", "long.example"])

    run(main())


def test_when_all_servers_fail_the_client_is_told_so(run: Run) -> None:
    async def main() -> None:
        async with name_server(failing) as bad, Asking(bad.where, dead()) as ask:
            assert (await ask("www.example")).header.rcode == RCODE.SERVFAIL
        async with Asking(dead()) as ask:
            assert (await ask("www.example")).header.rcode == RCODE.SERVFAIL

    run(main())


def test_nonsense_from_a_server_is_no_answer(run: Run) -> None:
    def replies(query: DNSRecord) -> Sequence[bytes]:
        return [bytes(query.reply().pack())[:-2]]

    async def main() -> None:
        async with name_server(replies) as bad, name_server(WEB) as good, Asking(bad.where, good.where) as ask:
            assert values(await ask("www.example")) == ["192.0.2.1"]

    run(main())


def test_the_same_question_is_under_way_once(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as server, Asking(server.where) as ask:
            server.release.clear()
            waiting = [asyncio.ensure_future(ask("www.example", ident=number)) for number in range(20)]
            await server.came.wait()
            server.release.set()
            records = await asyncio.gather(*waiting)
            assert [record.header.id for record in records] == list(range(20))
            assert asked(server) == ["www.example"]

    run(main())


@pytest.mark.parametrize("edns", [True, False])
def test_rfc6891_s6_1_1_opt_is_given_to_those_who_sent_it(run: Run, edns: bool) -> None:
    def replies(query: DNSRecord) -> Sequence[bytes]:
        answer = query.reply()
        answer.add_answer(*RR.fromZone("www.example. 60 A 192.0.2.1"))
        answer.add_ar(*query.ar)
        return [bytes(answer.pack())]

    async def main() -> None:
        async with name_server(replies) as server, Asking(server.where) as ask:
            message = query("www.example")
            if edns:
                message = message[:11] + b"\1" + message[12:] + bytes.fromhex("0000290200000080000000")
            record = DNSRecord.parse(await ask.forwarder.answer(parse_query(message), 512))
            assert [each.rtype for each in record.ar] == [QTYPE.OPT] * edns
            assert [bool(each.ar and each.ar[0].edns_do) for each, _ in server.udp if "www" in str(each.q.qname)] == [
                edns
            ]

    run(main())


# -- behind the server -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(*servers: Server) -> AsyncIterator[tuple[Asking, Server, Resolver]]:
    """Our own server before a forwarder to those; before itself, if there are none."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        where = Server(ip_address("127.0.0.1"), tcp.getsockname()[1])
        udp.bind(("127.0.0.1", where.port))
        async with Asking(*(servers or (where,))) as asking:
            resolver = Resolver(forwards=lambda name: name != "forbidden.example")
            resolver.publish(zone(container("web", endpoint("n", "10.0.0.2"))))
            forward = asking.forwarder.answer
            ours = DnsServer(udp=[udp], tcp=[tcp], admits=lambda _: True, resolver=resolver, forward=forward)
            await ours.start()
            try:
                yield asking, where, resolver
            finally:
                await ours.close()


async def by_udp(server: Server, message: bytes) -> DNSRecord:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((str(server.address), server.port))
        sock.send(message)
        return DNSRecord.parse(await asyncio.get_running_loop().sock_recv(sock, 65_535))


async def read(reader: asyncio.StreamReader) -> DNSRecord:
    return DNSRecord.parse(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def test_rfc1034_s4_3_1_other_domains_are_asked_elsewhere_and_ours_are_not(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as other, serving(other.where) as (_, ours, resolver):
            assert values(await by_udp(ours, query("www.example"))) == ["192.0.2.1"]
            assert values(await by_udp(ours, query("web.docker"))) == ["10.0.0.2"]
            assert (await by_udp(ours, query("no.docker"))).header.rcode == RCODE.NXDOMAIN
            assert values(await by_udp(ours, query("localhost"))) == ["127.0.0.1"]
            assert (await by_udp(ours, query("x.invalid"))).header.rcode == RCODE.NXDOMAIN
            assert (await by_udp(ours, query("forbidden.example"))).header.rcode == RCODE.REFUSED
            assert asked(other) == ["www.example"]
            assert resolver.counters.forwarded == 1

    run(main())


def test_rfc1035_s4_1_1_who_does_not_desire_recursion_is_refused(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as other, serving(other.where) as (_, ours, _resolver):
            message = query("www.example")
            assert (await by_udp(ours, message[:2] + b"\0" + message[3:])).header.rcode == RCODE.REFUSED
            assert asked(other) == []

    run(main())


def test_rfc7766_s6_2_1_1_over_tcp_a_slow_answer_is_overtaken(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as other, serving(other.where) as (_, ours, _resolver):
            other.release.clear()
            reader, writer = await asyncio.open_connection(str(ours.address), ours.port)
            writer.write(framed(query("www.example", ident=1)) + framed(query("web.docker", ident=2)))
            writer.write_eof()  # and is given although the client has nothing more to ask
            assert (await read(reader)).header.id == 2
            other.release.set()
            last = await read(reader)
            assert (last.header.id, values(last)) == (1, ["192.0.2.1"])
            assert await reader.read() == b""
            writer.close()

    run(main())


def test_a_loop_is_found_told_once_and_ends_in_servfail(run: Run) -> None:
    async def main() -> None:
        async with serving() as (asking, ours, _):
            for name in ("www.example", "long.example"):
                assert (await by_udp(ours, query(name))).header.rcode == RCODE.SERVFAIL
            assert len(asking.complaints) == 1
            assert str(ours) in asking.complaints[0]

    run(main())


def test_rfc2308_s2_2_behind_an_alias_too_the_soa_says_how_long(run: Run) -> None:
    def replies(query: DNSRecord) -> Sequence[bytes]:
        answer = query.reply()
        answer.add_answer(*RR.fromZone("www.example. 86400 CNAME w.example."))
        answer.add_auth(*RR.fromZone("example. 60 SOA ns.example. host.example. 1 2 3 4 5"))
        return [bytes(answer.pack())]

    async def main() -> None:
        async with name_server(replies) as server, Asking(server.where) as ask:
            for age, times in ((0, 1), (4, 1), (2, 2)):
                ask.clock.now += age
                assert [each.rtype for each in (await ask("www.example", "AAAA")).rr] == [QTYPE.CNAME]
                assert asked(server) == ["www.example"] * times

    run(main())


def test_rfc6891_s6_1_1_a_servers_opt_goes_no_further(run: Run) -> None:
    def replies(query: DNSRecord) -> Sequence[bytes]:
        answer = query.reply()
        answer.add_answer(*RR.fromZone("www.example. 60 A 192.0.2.1"))
        return [
            bytes(answer.pack())[:11]
            + b"\1"
            + bytes(answer.pack())[12:]
            + bytes.fromhex("000029ffff00000000000400030000")
        ]

    async def main() -> None:
        async with name_server(replies) as server, Asking(server.where) as ask:
            message = query("www.example")
            with_opt = message[:11] + b"\1" + message[12:] + bytes.fromhex("0000290200000000000000")
            record = DNSRecord.parse(await ask.forwarder.answer(parse_query(with_opt), 512))
            assert [(each.rtype, each.rclass, each.rdata) for each in record.ar] == [(QTYPE.OPT, 1232, [])]
            assert values(record) == ["192.0.2.1"]

    run(main())


def test_a_full_queue_answers_servfail_however_much_is_pipelined(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as other, serving(other.where) as (_, ours, _resolver):
            other.release.clear()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as crowd:
                crowd.connect((str(ours.address), ours.port))
                for _ in range(DNS_FORWARDS_WAITING):
                    crowd.send(query("www.example"))
                    await asyncio.sleep(0)
                reader, writer = await asyncio.open_connection(str(ours.address), ours.port)
                writer.write(framed(query("long.example")) * 2000)
                writer.write_eof()
                codes = {(await read(reader)).header.rcode for _ in range(2000)}
                assert codes == {RCODE.SERVFAIL}
                writer.close()
            other.release.set()

    run(main())


def test_two_silent_servers_leave_time_for_the_third(run: Run) -> None:
    async def main() -> None:
        async with name_server(WEB) as one, name_server(WEB) as two, name_server(WEB) as good:
            one.release.clear()
            two.release.clear()
            async with Asking(one.where, two.where, good.where) as ask:
                assert values(await ask("www.example")) == ["192.0.2.1"]
                assert values(await ask("long.example")) == ["192.0.2.2"]
                assert asked(one) == ["www.example"]  # the good one is preferred from then on
            one.release.set()
            two.release.set()

    run(main())
