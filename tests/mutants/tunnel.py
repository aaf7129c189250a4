"""Faults in the tunnel's frames, packets, fragments and devices."""

from __future__ import annotations

from mutants.mutant import Mutant

FRAMES = "tests/unit/tunnel/test_frames.py"
IP = "tests/conformance/tunnel/test_ip.py"
TRANSPORTS = "tests/conformance/tunnel/test_transports.py"
BULK = "tests/unit/tunnel/test_bulk.py"
FRAGMENTS = "tests/conformance/tunnel/test_fragments.py"
DEVICES = "tests/unit/tunnel/test_devices.py"

MUTANTS = (
    Mutant(
        "core/congestion.py",
        "if _OPTION is not None:",
        "if _OPTION is None:",
        "tests/unit/tunnel/test_congestion.py",
    ),
    Mutant("tunnel/wire/frames.py", "if word >> 16 != _SMALL_PACKET:", "if word >> 24 != PACKET:", FRAMES),
    Mutant(
        "tunnel/wire/frames.py",
        "(start := at + 4) <= size",
        "(start := at + 4) < size",
        "tests/fuzz/test_tunnel_bytes.py",
    ),
    Mutant("tunnel/wire/checksum.py", "return 0xFFFF - rest if rest else 0", "return 0xFFFF - rest", IP),
    Mutant("tunnel/wire/checksum.py", "    if not number:\n        return 0xFFFF\n", "", IP),
    Mutant(
        "tunnel/wire/packets.py", "not fragment & 0x3FFF", "not fragment & 0x1FFF", "tests/unit/tunnel/test_packets.py"
    ),
    Mutant("tunnel/wire/packets.py", "if option >> 6:", "if option >> 7:", IP),
    Mutant("tunnel/wire/packets.py", "if header[3]:", "if False:", IP),
    Mutant("tunnel/wire/tcp.py", " + bool(flags & SYN)", "", TRANSPORTS),
    Mutant(
        "tunnel/wire/tcp.py",
        "(segment.sequence + segment.length) & 0xFFFFFFFF",
        "segment.sequence + segment.length",
        TRANSPORTS,
    ),
    Mutant("tunnel/wire/packets.py", "source[0] < 224 and destination[0] < 224", "source[0] < 224", TRANSPORTS),
    Mutant("tunnel/wire/udp.py", " or 0xFFFF", "", TRANSPORTS),
    Mutant("tunnel/wire/icmp.py", "kind < 128 or kind == _REDIRECT6", "kind < 128", TRANSPORTS),
    Mutant("tunnel/wire/icmp.py", "if part is not None and part.offset:", "if False:", TRANSPORTS),
    Mutant("tunnel/wire/fragments.py", "        datagram.refused = True\n", "", FRAGMENTS),
    Mutant("tunnel/wire/fragments.py", "return part.more != is_last", "return part.more or is_last", FRAGMENTS),
    Mutant("tunnel/wire/fragments.py", "len(packet.payload) + _PIECE_BYTES", "len(packet.payload)", FRAGMENTS),
    Mutant(
        "tunnel/wire/fragments.py", "if last is not None and (end > last or not part.more):", "if False:", FRAGMENTS
    ),
    Mutant(
        "tunnel/darwin.py",
        '_FAMILY6 = b"\\0\\0\\0\\x02", b"\\0\\0\\0\\x1e"',
        '_FAMILY6 = b"\\0\\0\\0\\x02", b"\\0\\0\\0\\x0a"',
        DEVICES,
    ),
    Mutant(
        "tunnel/linux.py", "            os.set_blocking(fd, False)\n", "", "tests/conformance/tunnel/test_kernel.py"
    ),
    Mutant("tunnel/linux.py", "(_IFF_TUN_EXCL, 0)", "(0, 0)", "tests/conformance/tunnel/test_kernel.py"),
    Mutant("tunnel/linux.py", "size > EXPRESS_BYTES", "not size", "tests/conformance/tunnel/test_kernel.py"),
    Mutant("tunnel/bulk.py", "            del seen[next(iter(seen))]\n", "            pass\n", BULK),
    Mutant("tunnel/bulk.py", "self._clock() < at + BULK_SECONDS", "at", BULK),
    Mutant(
        "tunnel/linux.py",
        '            reason = _ADVICE.get(error.errno or 0, f"{error.strerror}.")\n',
        '            reason = _ADVICE.get(error.errno or 0, f"{error.strerror}.")\n'
        '            raise DconnectError(f"{name} could not be made: {reason}") from error\n',
        "tests/conformance/tunnel/test_kernel.py",
    ),
)
