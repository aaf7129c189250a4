"""A container as a forge has it: sshd on port 22, git over smart HTTP on port 80, one repository."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bed import cache
from bed.namespace import check_output
from bed.programs import with_libraries
from bed.session import Bed

NAME = "forge"
REPOSITORY = "srv/git/project.git"
HTTP_PATH = "/cgi-bin/git/project.git"
SSH_PATH = f"/{REPOSITORY}"
_BACKEND = Path("/usr/lib/git-core/git-http-backend")
_PROGRAMS = ("/usr/sbin/sshd", "/usr/bin/git", "/usr/bin/git-upload-pack", "/usr/bin/git-receive-pack")
_SERVES = """
set -e
echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin' >>/etc/passwd
mkdir -p /run/sshd
chown -R root:root /root/.ssh /srv
/usr/sbin/sshd -f /dev/null -h /etc/ssh/host_key -o PermitRootLogin=yes -o 'Subsystem=sftp internal-sftp'
trap exit TERM
python3 -m http.server --cgi --directory /srv 80 & wait
"""


@dataclass(frozen=True, slots=True)
class Forge:
    """The container, and what a user needs to trust it and be trusted."""

    container: str
    known_hosts: Path
    key: Path
    commit: str
    """The repository's only commit."""

    def ssh(self, proxy_command: str, program: str = "ssh") -> list[str | Path]:
        """The words of ssh or scp up to the host's name; whoever is not known is not spoken to."""
        options = ("StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.known_hosts}", "BatchMode=yes")
        words = [f"-o{option}" for option in (*options, f"ProxyCommand={proxy_command}", "User=root")]
        return [program, "-F", "none", "-i", self.key, *words]


def set_up_forge(bed: Bed, folder: Path) -> Forge:
    """Make keys, a repository and an image in a folder, and start the container."""
    files = [(_BACKEND, "srv/cgi-bin/git"), *with_libraries([_BACKEND, *map(Path, _PROGRAMS)])]
    commit = _repository(folder)
    files.append((folder / "project.git", REPOSITORY))
    for name in ("host_key", "user_key"):
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name])
    files += [(folder / "host_key", "etc/ssh/host_key"), (folder / "user_key.pub", "root/.ssh/authorized_keys")]
    (folder / "gitconfig").write_text("[safe]\n\tdirectory = *\n")  # the server's user is not the owner
    files.append((folder / "gitconfig", "etc/gitconfig"))
    image = bed.extend_base(NAME, cache.tar_of(*files), "ENV GIT_PROJECT_ROOT=/srv/git GIT_HTTP_EXPORT_ALL=1")
    container = bed.target(NAME, network="shop_back", image=image, command=["sh", "-c", _SERVES])
    bed.wait_ready(container, 22)
    known = folder / "known_hosts"
    known.write_text(f"* {(folder / 'host_key.pub').read_text()}")
    return Forge(container, known, folder / "user_key", commit)


def _repository(folder: Path) -> str:
    """Make project.git with one commit of three megabytes; the commit's hash."""
    work = folder / "work"
    work.mkdir()
    (work / "data").write_bytes(b"".join(number.to_bytes(4, "big") for number in range(750_000)))
    git: list[str | Path] = ["git", "-C", work, "-c", "user.name=Bed", "-c", "user.email=bed@example.org"]
    _run(["git", "init", "-q", "-b", "main", work])
    _run([*git, "add", "data"])
    _run([*git, "commit", "-q", "-m", "Data"])
    _run(["git", "clone", "-q", "--bare", work, folder / "project.git"])
    return _run([*git, "rev-parse", "HEAD"]).strip()


def _run(command: Iterable[str | Path]) -> str:
    words = [str(word) for word in command]
    return check_output(words, subprocess.run(words, capture_output=True, text=True, check=False, timeout=60))
