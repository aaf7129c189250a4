"""A network namespace of this process's own with a TUN device, whose other end a test plays."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bed.namespace import Namespace
from dconnect.tunnel.linux import LinuxDevice

_CLONE_NEWNET = 0x40000000

Answer = Callable[[memoryview], Sequence[bytes]]
"""What is written to the device for a packet that came from it."""

HERE4, HERE6 = "10.9.0.1", "fd09::1"
ROUTES = ("10.8.0.0/16", "fd08::/64")


def why_not() -> str | None:
    """One sentence that says why there is no TUN device here; None when there is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "A TUN device in a namespace of its own needs Linux and root."
    if not Path("/dev/net/tun").exists():
        return "There is no /dev/net/tun here."
    missing = [program for program in ("ip", "nsenter", "busybox") if shutil.which(program) is None]
    return f"The programs {', '.join(missing)} are missing." if missing else None


@contextmanager
def private_namespace() -> Iterator[Namespace]:
    """A network namespace without a name: it ends with its last user, at the latest with this process."""
    made: list[int] = []

    def leave() -> None:
        if not ctypes.CDLL(None).unshare(_CLONE_NEWNET):
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    thread = threading.Thread(target=leave, name="unshare")
    thread.start()
    thread.join()
    try:
        yield Namespace(Path(f"/proc/{os.getpid()}/fd/{made[0]}"), "", dict(os.environ))
    finally:
        os.close(made[0])


@contextmanager
def device_in(namespace: Namespace, mtu: int) -> Iterator[LinuxDevice]:
    """A device with an address of each family, and routes into it."""

    def create() -> LinuxDevice:
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("0")
        return LinuxDevice.create(mtu)

    device = namespace.call(create)
    try:
        for words in (
            f"address add {HERE4}/24 dev {device.name}",
            f"address add {HERE6}/64 dev {device.name} nodad",
            *(f"route add {route} dev {device.name}" for route in ROUTES),
        ):
            namespace.run(["ip", *words.split()], check=True)
        yield device
    finally:
        device.close()


@contextmanager
def answered(device: LinuxDevice, answer: Answer) -> Iterator[None]:
    """Answer the kernel's packets meanwhile; what the answering raises is raised at the end."""
    reading, writing = os.pipe()
    failed: list[Exception] = []

    def serve() -> None:
        buffer = memoryview(bytearray(65_535))
        try:
            while reading not in select.select([device.fileno(), reading], [], [])[0]:
                size = device.read_into(buffer)
                for packet in answer(buffer[:size]):
                    device.write(packet)
        except Exception as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=serve, name="tun-answers")
    thread.start()
    try:
        yield
    finally:
        os.close(writing)
        thread.join()
        os.close(reading)
    if failed:
        raise failed[0]
