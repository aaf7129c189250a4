"""docs/clients.md is true: its lines are run as they stand, but for the front door's address."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bed.clients import needs
from bed.dconnect import PROGRAM, Dconnect
from bed.forge import Forge, set_up_forge
from bed.session import Bed

TEXT = (Path(__file__).parents[3] / "docs" / "clients.md").read_text()
DOCUMENTED = "127.0.0.1"
APT_HELPER = Path("/usr/lib/apt/apt-helper")
BROWSER = Path(__file__).parents[1] / "programs" / "browser.py"
PACKAGES = {"wget": "wget", "ncat": "ncat", "nc": "netcat-openbsd", "git": "git"}
pytestmark = [needs("openssh-server", "sshd"), needs("git", "git")]


def blocks(language: str) -> list[str]:
    """The text of each fenced block in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def marks(line: str) -> list[pytest.MarkDecorator]:
    """Skip a shell line where a program of it is missing."""
    words = set(line.split())
    return [needs(package, program) for program, package in PACKAGES.items() if program in words]


@pytest.fixture(scope="module")
def forge(bed: Bed, agent: Dconnect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    made = set_up_forge(bed, tmp_path_factory.mktemp("forge"))
    yield made
    bed.docker("rm", "--force", made.container)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search path on which ``dconnect`` is ours and ``nc`` is OpenBSD's."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "dconnect").symlink_to(PROGRAM)
    if found := shutil.which("nc.openbsd"):
        (folder / "nc").symlink_to(found)
    return f"{folder}:/usr/bin:/bin"


def here(bed: Bed, text: str) -> str:
    """The text with this bed's front door in place of the documented one; ``dconnect`` finds it by itself."""
    assert DOCUMENTED in text or "dconnect" in text
    return text.replace(DOCUMENTED, bed.address)


@pytest.mark.parametrize("line", [pytest.param(line, marks=marks(line)) for line in "".join(blocks("sh")).splitlines()])
def test_the_shell_lines_work(bed: Bed, agent: Dconnect, forge: Forge, path: str, tmp_path: Path, line: str) -> None:
    script = f"cd {tmp_path} && {here(bed, line)}"
    result = bed.host.run(["sh", "-c", script], env={"PATH": path, "HOME": str(tmp_path)}, check=True)
    if line.startswith("git "):
        assert list(tmp_path.glob("*/data"))
    else:
        assert result.stdout.startswith("hello")


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_programs_work(bed: Bed, agent: Dconnect, block: str) -> None:
    assert (
        bed.host.run([sys.executable, "-P", "-c", here(bed, block)], check=True).stdout.lstrip("b'").startswith("hello")
    )


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, marks=marks(block)) for block in blocks("ssh-config")],
)
def test_the_ssh_configurations_work(
    bed: Bed, agent: Dconnect, forge: Forge, path: str, tmp_path: Path, block: str
) -> None:
    trusted = f"    UserKnownHostsFile {forge.known_hosts}\n    IdentityFile {forge.key}\n    BatchMode yes\n"
    (tmp_path / "config").write_text(here(bed, block) + trusted)
    ssh: list[str | Path] = ["ssh", "-F", tmp_path / "config", "root@forge.docker", "hostname"]
    assert bed.host.run(ssh, env={"PATH": path}, check=True).stdout.strip() == forge.container[:12]


@pytest.mark.skipif(not APT_HELPER.exists(), reason="apt is not here; Debian's package apt brings it.")
def test_the_apt_configuration_works(bed: Bed, agent: Dconnect, tmp_path: Path) -> None:
    (tmp_path / "apt.conf").write_text(here(bed, "".join(blocks("apt"))))
    fetch: list[str | Path] = [APT_HELPER, "download-file", "http://web.shop.docker/", tmp_path / "page"]
    bed.host.run(fetch, env={"APT_CONFIG": str(tmp_path / "apt.conf")}, check=True)
    assert (tmp_path / "page").read_text().startswith("hello from ")


@needs("firefox-esr", "firefox-esr")
def test_the_firefox_preferences_work(bed: Bed, agent: Dconnect) -> None:
    [preferences] = blocks("js")
    setting = f"user.js={here(bed, preferences)}"
    command: list[str | Path] = [sys.executable, "-P", BROWSER, "firefox", setting, "http://web.shop.docker/page"]
    [page] = json.loads(bed.host.run(command, timeout=90, check=True).stdout)
    assert page["host"] == "web.shop.docker"
