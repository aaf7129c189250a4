"""OpenSSH through a ProxyCommand, and git over HTTP and over ssh."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bed.clients import Hosts, needs, talk
from bed.dconnect import PROGRAM, Dconnect
from bed.forge import HTTP_PATH, NAME, SSH_PATH, Forge, set_up_forge
from bed.session import Bed

pytestmark = [
    needs("openssh-server", "sshd"),
    needs("openssh-client", "ssh"),
    needs("git", "git"),
]
NCAT = needs("ncat", "ncat")
NC = needs("netcat-openbsd", "nc.openbsd")
TEN_MEGABYTES = 10_000_000
PROXY_COMMANDS = [
    pytest.param("ncat --proxy-type socks5 --proxy DOOR %h %p", marks=NCAT),
    pytest.param("ncat --proxy-type http --proxy DOOR %h %p", marks=NCAT),
    pytest.param("ncat --proxy-type socks4 --proxy DOOR %h %p", marks=NCAT),
    pytest.param("nc.openbsd -X 5 -x DOOR %h %p", marks=NC),
    pytest.param("nc.openbsd -X connect -x DOOR %h %p", marks=NC),
    f"{shlex.quote(str(PROGRAM))} nc %h %p",
]
HTTP_PROXIES = ["socks5h://DOOR", "http://DOOR", "socks4a://DOOR"]


@pytest.fixture(scope="module")
def forge(bed: Bed, agent: Dconnect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    made = set_up_forge(bed, tmp_path_factory.mktemp("forge"))
    yield made
    bed.docker("rm", "--force", made.container)


@pytest.fixture(scope="module")
def ten_megabytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssh") / "body"
    path.write_bytes(os.urandom(TEN_MEGABYTES))
    return path


@pytest.mark.parametrize("command", PROXY_COMMANDS)
@pytest.mark.parametrize("by", ["name", "address"])
def test_ssh_carries_ten_megabytes_up_intact(
    bed: Bed, agent: Dconnect, forge: Forge, ten_megabytes: Path, command: str, by: str
) -> None:
    host = NAME if by == "name" else bed.address_of(forge.container)
    ssh = [*forge.ssh(command.replace("DOOR", agent.proxy)), host, "hostname; sha256sum"]
    output = talk(bed, ssh, ten_megabytes.read_bytes())
    digest = hashlib.sha256(ten_megabytes.read_bytes()).hexdigest()
    assert output.decode().split() == [forge.container[:12], digest, "-"]


@pytest.mark.parametrize("command", PROXY_COMMANDS)
def test_scp_brings_a_file_there_and_back(
    bed: Bed, agent: Dconnect, forge: Forge, ten_megabytes: Path, command: str, tmp_path: Path
) -> None:
    scp = forge.ssh(command.replace("DOOR", agent.proxy), "scp")
    bed.host.run([*scp, ten_megabytes, f"{NAME}:/tmp/body"], check=True)
    bed.host.run([*scp, f"{NAME}:/tmp/body", tmp_path / "back"], check=True)
    assert (tmp_path / "back").read_bytes() == ten_megabytes.read_bytes()


def head(bed: Bed, folder: Path) -> str:
    """What a clone's commit is, with every object of it checked."""
    bed.host.run(["git", "-C", folder, "fsck", "--full", "--strict"], check=True)
    return bed.host.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True).stdout.strip()


@pytest.mark.parametrize("proxy", HTTP_PROXIES)
@pytest.mark.parametrize("host", [NAME, f"{NAME}.docker", "address"])
def test_git_clones_over_http(bed: Bed, agent: Dconnect, forge: Forge, tmp_path: Path, host: str, proxy: str) -> None:
    authority = bed.address_of(forge.container) if host == "address" else host
    option = f"http.proxy={proxy.replace('DOOR', agent.proxy)}"
    bed.host.run(["git", "-c", option, "clone", f"http://{authority}{HTTP_PATH}", tmp_path / "clone"], check=True)
    assert head(bed, tmp_path / "clone") == forge.commit


def test_git_clones_when_it_looks_the_name_up_itself(bed: Bed, agent: Dconnect, forge: Forge, tmp_path: Path) -> None:
    hosts = Hosts(agent, [NAME], tmp_path / "hosts")
    option, url = f"http.proxy=socks5://{agent.proxy}", f"http://{NAME}{HTTP_PATH}"
    bed.host.run(hosts.command(["git", "-c", option, "clone", url, tmp_path / "clone"]), check=True)
    assert head(bed, tmp_path / "clone") == forge.commit


@pytest.mark.parametrize("command", PROXY_COMMANDS)
def test_git_clones_and_pushes_over_ssh(bed: Bed, agent: Dconnect, forge: Forge, tmp_path: Path, command: str) -> None:
    ssh = {"GIT_SSH_COMMAND": shlex.join(map(str, forge.ssh(command.replace("DOOR", agent.proxy))))}
    clone = tmp_path / "clone"
    bed.host.run(["git", "clone", f"ssh://{NAME}{SSH_PATH}", clone], env=ssh, check=True)
    assert head(bed, clone) == forge.commit
    branch = f"refs/heads/{hashlib.sha256(command.encode()).hexdigest()}"
    bed.host.run(["git", "-C", clone, "push", "origin", f"HEAD:{branch}"], env=ssh, check=True)
    told = bed.docker("exec", forge.container, "git", "-C", SSH_PATH, "rev-parse", branch)
    assert told == forge.commit
