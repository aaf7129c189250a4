"""Faults in the agent's end of the transparent mode."""

from __future__ import annotations

from mutants.mutant import Mutant

LINKS = "tests/unit/tunnel/test_gateway.py"
FLOWS = "tests/unit/tunnel/test_gateway_flows.py"
KERNEL = "tests/conformance/tunnel/test_kernel.py"
UPGRADE = "tests/conformance/proxy/test_link_upgrade.py"
AGENT = "tests/unit/agent/test_gateway.py"

MUTANTS = (
    Mutant("proxy/link.py", 'scheme.lower() != b"bearer" or not', "not", UPGRADE),
    Mutant("proxy/link.py", "if head.minor == 1 else", "if True else", UPGRADE),
    Mutant(
        "proxy/frontdoor.py",
        "bytes(client.buffer), key)\n        client.relayed",
        'b"", key)\n        client.relayed',
        UPGRADE,
    ),
    Mutant(
        "proxy/http.py", "route.target is None and route.path == link.PATH", "head.target.endswith(link.PATH)", UPGRADE
    ),
    Mutant("tunnel/gateway/gateway.py", "if not key.startswith(source):", "if False:", LINKS),
    Mutant(
        "tunnel/gateway/gateway.py",
        "link.address4 if len(key) == 12 else link.address6",
        "(link.address4, link.address6)",
        LINKS,
    ),
    # A stalled host must stop nobody but itself, and alone not lose a packet.
    Mutant("tunnel/gateway/gateway.py", "if slot is None and len(self._numbers) == 1:", "if slot is None:", LINKS),
    Mutant("tunnel/gateway/gateway.py", "if slot is None and len(self._numbers) == 1:", "if False:", LINKS),
    Mutant(
        "tunnel/gateway/tcp.py",
        '            if held.upstream is None:\n                router.counters.drop("held")',
        '            if False:\n                router.counters.drop("held")',
        FLOWS,
    ),
    Mutant(
        "tunnel/gateway/tcp.py",
        "if held is None or held.upstream is None:",
        "held = held or next(iter(self._held.values()))\n            if held.upstream is None:",
        FLOWS,
    ),
    # A port would look open whatever the destination says.
    Mutant(
        "tunnel/gateway/tcp.py",
        "            upstream = await self._connect(held, address)\n",
        "            self._router.admit(memoryview(held.packet))\n"
        "            upstream = await self._connect(held, address)\n",
        FLOWS,
    ),
    Mutant("tunnel/gateway/echo.py", " or identifier != flow.number", "", FLOWS),
    Mutant("tunnel/gateway/errors.py", "        return icmp.PORT\n", "        return None\n", FLOWS),
    Mutant("tunnel/gateway/errors.py", "code = icmp.EXPIRED", "code = icmp.HOST", KERNEL),
    Mutant("tunnel/gateway/flows.py", "if hops != flow.hops and hops:", "if not flow.hops:", FLOWS),
    Mutant("tunnel/gateway/gateway.py", "None if code == icmp.PORT else own.packed", "own.packed", FLOWS),
    Mutant(
        "agent/rights.py",
        "ctypes.byref((_Word * 2)())",
        "ctypes.byref((_Word * 2)((-1, -1, 0), (-1, -1, 0)))",
        "tests/unit/agent/test_rights.py",
    ),
    Mutant("agent/gateway.py", "network.driver not in ON_THE_LAN", "network.driver", AGENT),
    Mutant("agent/dialer.py", "        _hear_replies(sock)\n", "        pass\n", AGENT),
)
