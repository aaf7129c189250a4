"""Resolvers of others on the bed's host, which send what lies under our suffixes to us, and programs that ask them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dnslib import DNSRecord

from bed.namespace import BedError
from bed.session import READY_DEADLINE, Bed
from bed.waiting import wait_for

UNBOUND_ADDRESS, DNSMASQ_ADDRESS = "127.0.0.53", "127.0.0.54"
"""On the host's own loopback, port 53: resolv.conf(5) has no place for a port."""
_PRIVATE = 'mount --bind "$0/resolv.conf" /etc/resolv.conf && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf'
# Out of the box unbound answers for private networks' reverse zones itself, and believes in no name without DNSSEC.
# use-caps-for-id (0x20) is not its default: it then takes no answer that spells the question otherwise.
_UNBOUND = """
server:
    interface: {address}
    access-control: 127.0.0.0/8 allow
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    module-config: "iterator"
    do-not-query-localhost: no
    use-caps-for-id: yes
    unblock-lan-zones: yes
    insecure-lan-zones: yes
    local-zone: "test." nodefault
{insecure}
remote-control:
    control-enable: no
{zones}
"""


@contextmanager
def unbound(bed: Bed, kind: str, zones: Sequence[str], server: str, port: int) -> Iterator[str]:
    """unbound for these zones within the block; its address.

    ``kind`` is ``stub`` (it asks as resolvers ask authoritative servers) or ``forward`` (as clients ask resolvers).
    """
    clauses = [f'{kind}-zone:\n    name: "{zone}"\n    {kind}-addr: {server}@{port}\n' for zone in zones]
    with tempfile.TemporaryDirectory(dir=bed.root) as folder:
        file = Path(folder, "unbound.conf")
        insecure = "".join(f'    domain-insecure: "{zone}"\n' for zone in zones)
        text = _UNBOUND.format(address=UNBOUND_ADDRESS, folder=folder, insecure=insecure, zones="\n".join(clauses))
        file.write_text(text)
        with _running(bed, ["unbound", "-d", "-c", file], UNBOUND_ADDRESS):
            yield UNBOUND_ADDRESS


@contextmanager
def dnsmasq(bed: Bed, zones: Sequence[str], server: str, port: int) -> Iterator[str]:
    """dnsmasq for these zones within the block; its address."""
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]
    options += ["--pid-file=", "--log-facility=-", f"--listen-address={DNSMASQ_ADDRESS}", "--bind-interfaces"]
    command = ["dnsmasq", *options, *(f"--server=/{zone}/{server}#{port}" for zone in zones)]
    with _running(bed, command, DNSMASQ_ADDRESS):
        yield DNSMASQ_ADDRESS


@contextmanager
def port_53(bed: Bed, port: int) -> Iterator[str]:
    """Within the block the host's programs find us on port 53, without a resolver between; the address."""
    for protocol in ("udp", "tcp"):
        _redirect(bed, "--append", protocol, port)
    try:
        yield bed.address
    finally:
        for protocol in ("udp", "tcp"):
            _redirect(bed, "--delete", protocol, port)


def _redirect(bed: Bed, verb: str, protocol: str, port: int) -> None:
    rule = f"OUTPUT -d {bed.address} -p {protocol} --dport 53 -j DNAT --to-destination {bed.address}:{port}"
    bed.host.run(["iptables", "--wait", "-t", "nat", verb, *rule.split()], check=True)


@contextmanager
def _running(bed: Bed, command: Sequence[str | Path], address: str) -> Iterator[None]:
    log = bed.root / f"{command[0]}.log"
    with log.open("wb") as file, bed.host.popen(command, stdout=file, stderr=file) as process:
        try:
            try:
                wait_for(f"{command[0]} answers", lambda: _answers(bed, address, process), READY_DEADLINE)
            except AssertionError as error:
                raise BedError(f"{error}; it says: {log.read_text()}") from error
            yield
        finally:
            process.terminate()
            process.wait(READY_DEADLINE)


def _answers(bed: Bed, address: str, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"it ended with {process.returncode}")
    try:
        with bed.host.connect(address, 53, timeout=2) as connection:
            query = DNSRecord.question("localhost").pack()
            connection.sendall(len(query).to_bytes(2, "big") + query)
            return bool(connection.recv(1))
    except OSError:
        return False


class Resolving:
    """The command line of programs whose libc asks one name server, and no file."""

    def __init__(self, folder: Path, server: str) -> None:
        (folder / "resolv.conf").write_text(f"nameserver {server}\noptions timeout:2 attempts:2\n")
        (folder / "nsswitch.conf").write_text("hosts: dns\n")
        self._folder = folder

    def command(self, command: Sequence[str | Path]) -> list[str]:
        script = f'{_PRIVATE} && exec "$@"'
        return ["unshare", "--mount", "--", "sh", "-c", script, str(self._folder), *map(str, command)]
