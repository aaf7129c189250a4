"""Faults in the front door, SOCKS, UDP, dialing and relaying."""

from __future__ import annotations

from mutants.mutant import Mutant

UDP = "tests/conformance/proxy/test_rfc1928_udp.py"
CARRIER = "tests/unit/proxy/test_carrier.py"
CARRYING = "tests/unit/proxy/test_carrier_program.py"
ACKS = "tests/conformance/proxy/test_rfc9293_acks.py"
RESTS = "tests/unit/proxy/test_carrying.py"
PRIORITY = "tests/unit/core/test_priority.py"
METHOD = "tests/conformance/proxy/test_tunnel_method.py"
TRUNK_WIRE = "tests/unit/proxy/test_trunk_wire.py tests/fuzz/test_trunk_bytes.py"
LEAVING = "tests/conformance/proxy/test_leaving.py tests/unit/proxy/test_unless_cut.py"

MUTANTS = (
    Mutant(
        "proxy/policy.py",
        "address = canonical(address)\n        if address in self._containers",
        "if address in self._containers",
        "tests/unit/proxy/test_policy.py",
    ),
    Mutant(
        "proxy/policy.py",
        "return address not in self._containers and not any",
        "return not any",
        "tests/unit/proxy/test_policy.py",
    ),
    Mutant("proxy/policy.py", "if len(self._known) < KNOWN_PEERS:", "if True:", "tests/unit/proxy/test_policy.py"),
    Mutant("proxy/wire/socks5.py", "len(buffer) < end + 2", "len(buffer) < end", "tests/unit/proxy/test_socks5.py"),
    Mutant(
        "proxy/wire/socks5.py",
        "    address, port = bound\n    kind = IPV4 if address.version == 4 else IPV6",
        "    address, port = bound\n    kind = IPV4",
        "tests/unit/proxy/test_socks5.py",
    ),
    Mutant(
        "proxy/wire/socks5.py",
        "bytes((VERSION, command, 0, IPV6)) + key",
        "bytes((VERSION, command, 0, IPV4)) + key",
        "tests/unit/proxy/test_socks5.py",
    ),
    Mutant("proxy/wire/sniff.py", " or first in _CR_LF", "", "tests/unit/proxy/test_sniff.py"),
    Mutant(
        "proxy/relay/splice.py",
        " and filled < conduit.slots and not not_dry",
        " and not not_dry",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant(
        "proxy/relay/splice.py",
        " and filled < conduit.slots and not not_dry",
        " and filled < conduit.slots",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant("proxy/relay/splice.py", "side.reset()", "side.close()", "tests/conformance/proxy/test_relay.py"),
    Mutant(
        "proxy/relay/splice.py",
        "            direction.sink.tell_writable()\n",
        "",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant(
        "proxy/poller.py",
        "        self.tell_writable()\n",
        "",
        "tests/conformance/proxy",
    ),
    Mutant("proxy/guests.py", "if not session.target:", "if False:", "tests/conformance/proxy/test_limits.py"),
    Mutant(
        "proxy/frontdoor.py",
        "if not self._backlog.poll(0):",
        "if False:",
        "tests/conformance/proxy/test_limits.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "client.channel.reset()  # what",
        "client.channel.close()  # what",
        "tests/conformance/proxy/test_limits.py",
    ),
    # A handshake may come in pieces: one read is not one message.
    Mutant("proxy/wire/socks5.py", "if len(buffer) < 2 + count:", "if False:", "tests/unit/proxy/test_socks5.py"),
    # Success is told after the connect, whatever its outcome.
    Mutant(
        "proxy/socks.py",
        "upstream = await door.dial(target, session)\n",
        "await client.channel.send(socks5.reply(0)); upstream = await door.dial(target, session)\n",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    # Every failure has a code of its own.
    Mutant(
        "proxy/socks.py",
        "socks5.reply(failure.value.socks5_rep)",
        "socks5.reply(socks5.GENERAL_FAILURE)",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    # A refused method is two bytes, not a whole reply; and only what is offered is selected.
    Mutant(
        "proxy/socks.py",
        "socks5.greeting_reply(socks5.NO_ACCEPTABLE_METHOD))\n    return None",
        "socks5.reply(socks5.NO_ACCEPTABLE_METHOD))\n    return None",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/socks.py",
        "if method in methods:",
        "if methods:",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/socks.py",
        "socks5.reply(socks5.SUCCEEDED, bound)",
        "socks5.reply(socks5.SUCCEEDED)",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant(
        "proxy/socks.py",
        "session, socks5.COMMAND_NOT_SUPPORTED)",
        "session, socks5.GENERAL_FAILURE)",
        "tests/conformance/proxy/test_rfc1928.py",
    ),
    Mutant("proxy/socks.py", "if client.buffer:  #", "if False:  #", "tests/conformance/proxy/test_rfc1928.py"),
    Mutant("proxy/policy.py", '"0.0.0.0/8"', '"192.0.2.0/24"', "tests/unit/proxy/test_policy.py"),
    Mutant("proxy/policy.py", '"169.254.0.0/16"', '"192.0.2.0/24"', "tests/unit/proxy/test_policy.py"),
    Mutant(
        "proxy/policy.py",
        'if address in self._gateways:\n            return "the engine',
        'if False:\n            return "the engine',
        "tests/unit/proxy/test_policy.py",
    ),
    # The policy judges what is dialed, and judges it before.
    Mutant(
        "proxy/dial.py",
        "(address, target.host)\n        if objection:\n",
        "(address, target.host)\n        if objection and False:\n",
        "tests/unit/proxy/test_dial.py",
    ),
    Mutant("proxy/dial.py", "addresses))[:MAX_ATTEMPTS]", "addresses))[:1]", "tests/unit/proxy/test_dial.py"),
    Mutant(
        "proxy/frontdoor.py",
        "if not self._admits(address[0]):",
        "if False:",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "            client.channel.deadline(HANDSHAKE_SECONDS)\n",
        "",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "if self._clients >= self._max_clients:",
        "if False:",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    Mutant(
        "proxy/frontdoor.py",
        "            client.close()\n            self._gone()\n",
        "            self._gone()\n",
        "tests/conformance/proxy/test_frontdoor.py",
    ),
    # A relay ends when both directions have ended, and carries each end on.
    Mutant(
        "proxy/relay/splice.py",
        "if self._up.shut and self._down.shut:",
        "if self._up.shut or self._down.shut:",
        "tests/conformance/proxy/test_relay.py",
    ),
    Mutant("proxy/relay/splice.py", "        direction.sink.finish()\n", "", "tests/conformance/proxy/test_relay.py"),
    Mutant(
        "proxy/relay/splice.py",
        "self._pool.give_back(conduit, held)",
        "self._pool.give_back(conduit)",
        "tests/unit/proxy/test_relay_reset.py",
    ),
    # EPERM: the user's pipes are many already, and this one stays as small as it is.
    Mutant(
        "proxy/relay/pipes.py",
        "contextlib.suppress(OSError)",
        "contextlib.suppress(ValueError)",
        "tests/unit/proxy/test_relay_reset.py",
    ),
    Mutant(
        "proxy/relay/pipes.py",
        "        except OSError:\n            return Buffer()",
        "        except ValueError:\n            return Buffer()",
        "tests/conformance/proxy/test_relay.py",
    ),
    # Who has only just come is not silent, and who was answered last has been silent shortest.
    Mutant("proxy/guests.py", "< self._patience:", "< 0:", "tests/conformance/proxy/test_limits.py"),
    Mutant(
        "proxy/guests.py",
        "min(FRESH_SECONDS, places / LISTEN_BACKLOG)",
        "FRESH_SECONDS",
        "tests/unit/proxy/test_guests.py",
    ),
    Mutant("proxy/guests.py", "        self.pop(client, None)\n", "", "tests/conformance/proxy/test_limits.py"),
    # A dial ends with its client's RST, wherever it waits, and not with its FIN.
    Mutant("proxy/fiber.py", "            self._fiber.cancel()\n", "            pass\n", LEAVING),
    Mutant("proxy/fiber.py", "if self._client.is_cut and not self._told", "if not self._told", LEAVING),
    Mutant("proxy/fiber.py", "            if self._client.is_cut:\n", "            if False:\n", LEAVING),
    Mutant("proxy/fiber.py", "self._told and self._fiber is not None and", "self._fiber is not None and", LEAVING),
    Mutant("proxy/fiber.py", "            self._client.on_hangup = None\n", "            pass\n", LEAVING),
    Mutant("proxy/race.py", "            with UnlessCut():\n", "            if True:\n", LEAVING),
    Mutant("proxy/poller.py", "        with UnlessCut():\n", "        if True:\n", LEAVING),
    # UDP: an answer is from whom it says, a source has one association, and only what may be reached is.
    Mutant(
        "proxy/flow.py",
        "self._permitted.get(peer[:2])",
        "self._permitted.get(peer[:2]) or next(iter(self._permitted.values()), None)",
        UDP,
    ),
    Mutant("proxy/flow.py", " or route.policy is not port.policy()", "", UDP),
    Mutant("proxy/flow.py", "len(self._held) >= UDP_LOOKUPS_PER_SOURCE or ", "", UDP),
    Mutant("proxy/flow.py", "        self._permitted.pop(route.peer, None)\n", "", UDP),
    Mutant(
        "proxy/associate.py",
        "self._hosts.get(source[0])",
        "next(iter(self._hosts.values()), None)",
        UDP,
    ),
    Mutant(
        "proxy/associate.py",
        """            if association.flow is None:
                break
""",
        """            break
""",
        UDP,
    ),
    Mutant(
        "proxy/associate.py",
        """        if not host.associations:
            for flow in tuple(host.flows):
                self._forget(flow)
""",
        """        for flow in tuple(host.flows):
            self._forget(flow)
        if not host.associations:
""",
        UDP,
    ),
    Mutant(
        "proxy/associate.py",
        """            if association.flow is flow:
                association.flow = None
""",
        """            pass
""",
        UDP,
    ),
    Mutant("proxy/associate.py", "if mask & HANGUP ", "if mask & 8 ", UDP),
    Mutant("proxy/wire/udp.py", "    if datagram[2]:", "    if datagram[2] & 0x80:", "tests/unit/proxy/test_udp.py"),
    Mutant(
        "proxy/dial.py",
        """                await self._allow(target, address)
            except""",
        """                pass
            except""",
        UDP,
    ),
    # The other worker has the socket still: without this its events go on coming here.
    Mutant(
        "proxy/poller.py",
        "        self._epoll.unregister(channel.fd)\n",
        "",
        "tests/unit/agent/test_handover.py",
    ),
    Mutant("proxy/poller.py", "        poller.release(channel)\n", "        pass\n", "tests/unit/proxy/test_dial.py"),
    # SOCKS4 has one code for all failures, none of it before the connect; 4a's name counts, and nothing is endless.
    Mutant(
        "proxy/socks.py",
        "    session.target = str(target)\n    try:\n",
        "    session.target = str(target)\n    await client.channel.send(granted((IPv4Address(0), 0)))\n    try:\n",
        "tests/conformance/proxy/test_socks4.py",
    ),
    Mutant(
        "proxy/socks4.py",
        "def _failed(_: Failure) -> bytes:\n    return socks4.reply(SOCKS4_REJECTED)",
        "def _failed(_: Failure) -> bytes:\n    return socks4.reply(socks4.GRANTED)",
        "tests/conformance/proxy/test_socks4.py",
    ),
    Mutant(
        "proxy/wire/socks4.py",
        "if address[:3] == bytes(3) and address[3]:",
        "if False:",
        "tests/conformance/proxy/test_socks4.py",
    ),
    Mutant("proxy/wire/socks4.py", "bytes(3) and address[3]:", "bytes(3):", "tests/unit/proxy/test_socks4.py"),
    Mutant("proxy/wire/socks4.py", "if len(buffer) > start + most:", "if False:", "tests/unit/proxy/test_socks4.py"),
    # Who may be reached is asked for lookups as well.
    Mutant(
        "proxy/lookup.py",
        "objection = await self._judge.objection(address, host)",
        'objection = ""',
        "tests/conformance/proxy/test_tor.py",
    ),
    Mutant(
        "proxy/lookup.py",
        "objection = await self._judge.objection(address)\n",
        'objection = ""\n',
        "tests/conformance/proxy/test_tor.py",
    ),
    Mutant(
        "proxy/socks.py",
        "versions: tuple[int, ...] = (4, 6)",
        "versions: tuple[int, ...] = (4,)",
        "tests/conformance/proxy/test_tor.py",
    ),
    # A password lets in who knows it, and nobody else, by any way; it goes no further.
    Mutant("proxy/socks.py", "if accepts(user, password):", "if user:", "tests/conformance/proxy/test_rfc1929.py"),
    Mutant(
        "proxy/socks.py",
        "socks5.NO_AUTHENTICATION if door.accepts is None else socks5.USERNAME_PASSWORD",
        "socks5.NO_AUTHENTICATION if door.accepts is None or 0 in methods else socks5.USERNAME_PASSWORD",
        "tests/conformance/proxy/test_rfc1929.py",
    ),
    Mutant("proxy/socks4.py", "if door.accepts is not None:", "if False:", "tests/conformance/proxy/test_socks4.py"),
    Mutant("proxy/wire/socks5.py", "(12 if buffer[5] == IPV6 else 0)", "0", "tests/unit/proxy/test_socks5.py"),
    Mutant(
        "proxy/wire/socks5.py",
        "buffer[0] != VERSION or buffer[1] not in (TUNNEL, NO_ACCEPTABLE_METHOD)",
        "buffer[0] != VERSION",
        "tests/unit/proxy/test_socks5.py",
    ),
    Mutant(
        "core/failure.py",
        "for failure in reversed(Failure)}",
        "for failure in Failure}",
        "tests/unit/core/test_failure.py",
    ),
    Mutant("proxy/socks.py", "door.links is not None and door.links.opens(token)", "door.links is not None", METHOD),
    Mutant("proxy/socks.py", "socks5.TUNNEL in methods and door.links is not None", "socks5.TUNNEL in methods", METHOD),
    Mutant("proxy/socks.py", "farewell(method + socks5.reply(code))", "farewell(socks5.reply(code))", METHOD),
    Mutant("proxy/socks.py", "case _ if _is_tunnels(session):", "case _ if False:", METHOD),
    # Trunks are for whoever has the token; their key comes whole, and says which is meant.
    Mutant(
        "proxy/socks.py", "socks5.TRUNK | socks5.MOVE if _is_tunnels(session)", "socks5.TRUNK | socks5.MOVE", METHOD
    ),
    Mutant("proxy/socks.py", "key = IPv6Address(target.host)", "key = parse_ip(target.host)", METHOD),
    Mutant(
        "proxy/socks.py",
        "door.link(door.links, client, session, key)",
        "door.link(door.links, client, session)",
        METHOD,
    ),
    Mutant("proxy/socks.py", "command == socks5.TRUNK else", "command == socks5.MOVE else", METHOD),
    Mutant("proxy/frontdoor.py", "        session.bytes_up += up\n", "        session.bytes_up = up\n", METHOD),
    Mutant("proxy/frontdoor.py", "        session.bytes_down += down\n", "        session.bytes_down = down\n", METHOD),
    # A trunk's frames: nothing is read that may not be, and nothing is lost that has not come whole.
    Mutant("proxy/wire/trunk.py", "if not least <= length <= most:", "if length > most:", TRUNK_WIRE),
    Mutant("proxy/wire/trunk.py", "_BOUNDS.get(kind, (1, 0))", "_BOUNDS.get(kind, (0, 0))", TRUNK_WIRE),
    Mutant("proxy/wire/trunk.py", "word & 0xFFFFFF", "word & 0xFFFF", TRUNK_WIRE),
    Mutant("proxy/wire/trunk.py", "if start + length > size:", "if start + length >= size:", TRUNK_WIRE),
    Mutant("proxy/wire/trunk.py", "    return found, at\n", "    return found, size\n", TRUNK_WIRE),
    Mutant("proxy/wire/trunk.py", 'struct.Struct("!II")', 'struct.Struct("!Ii")', TRUNK_WIRE),
    Mutant("proxy/wire/trunk.py", "len(payload) not in (6, 18):", "not 6 <= len(payload) <= 18:", TRUNK_WIRE),
    Mutant("proxy/relay/splice.py", "return up.conduit is None and down.conduit is None and", "return", CARRIER),
    Mutant("proxy/relay/splice.py", " and not up.urgent and not down.urgent", "", CARRIER),
    Mutant("proxy/relay/splice.py", "self._before[0] + up, self._before[1] + down", "up, down", CARRIER),
    Mutant("proxy/relay/splice.py", "self._bulk_at = max(self.moved) + RELAY_BULK_BYTES", "pass", CARRIER),
    Mutant("proxy/relay/splice.py", "- self._since > RELAY_BULK_SECONDS", "< 0", CARRIER),
    Mutant("proxy/relay/splice.py", "side.cut_when_closed(cut=True)", "pass", CARRIER),
    Mutant("proxy/relay/carrying.py", "        self.cut_when_closed(cut=False)\n", "", CARRIER),
    Mutant("proxy/relay/splice.py", "        if self._carry is not None:  # now", "        if True:  # now", CARRIER),
    Mutant("proxy/relay/splice.py", "            upstream.bound_window(CARRIED_SOCKET_BYTES)\n", "", CARRIER),
    Mutant("proxy/poller.py", "socket.TCP_QUICKACK, 1", "socket.TCP_QUICKACK, 0", ACKS),
    Mutant("proxy/stream.py", "                self.channel.ack_at_once()\n", "                pass\n", ACKS),
    Mutant("proxy/frontdoor.py", "                client.channel.ack_at_once()\n", "", ACKS),
    Mutant("proxy/socks.py", "        client.channel.ack_at_once()\n", "        pass\n", ACKS),
    Mutant("proxy/poller.py", "socket.TCP_WINDOW_CLAMP, size", "socket.TCP_WINDOW_CLAMP, 65_535", CARRIER),
    Mutant("proxy/relay/carrying.py", "SO_SNDBUF, CARRIED_SOCKET_BYTES", "SO_RCVBUF, 262_144", CARRIER),
    Mutant("proxy/relay/carrying.py", "except BlockingIOError:  # the owner", "except ZeroDivisionError:  #", CARRYING),
    Mutant("core/keepalive.py", "next(_TIMES)", "PROBE_IDLE_SECONDS[0]", "tests/unit/core/test_keepalive.py"),
    Mutant("core/priority.py", "_set_niceness(os.getpid(), _LAST)", "os.nice(_LAST)", PRIORITY),
    Mutant("core/priority.py", "niceness = os.getpriority(os.PRIO_PROCESS, 0)", "niceness = 1", PRIORITY),
    Mutant("proxy/relay/carrying.py", "self._poller.busy = len(news)", "pass", RESTS),
    Mutant("proxy/relay/carrying.py", "if self.busy > 1:", "if self.busy:", RESTS),
    Mutant("proxy/relay/carrier.py", "self._closed = True", "pass", CARRIER),
    Mutant("proxy/relay/carrier.py", "self._due = time.monotonic() + CARRIER_AGAIN_SECONDS", "pass", CARRIER),
    Mutant("proxy/relay/carrier.py", "            os.waitpid(self._pid, 0)\n", "", CARRIER),
    Mutant("proxy/relay/carrying.py", "*relay.moved, error.errno", "0, 0, error.errno", CARRIER),
    Mutant(
        "proxy/poller.py",
        "now - self._tick_due > DEADLINE_TICK_SECONDS and",
        "False and",
        "tests/unit/proxy/test_deadlines.py",
    ),
    Mutant("proxy/poller.py", " and not self._was_late:", ":", "tests/unit/proxy/test_deadlines.py"),
)
