"""Proxy settings as each shell writes them.

``socks5h`` in ALL_PROXY lets the agent resolve names. HTTP(S)_PROXY are plain HTTP, because
many programs know no SOCKS. Both cases are written: curl reads only lower-case http_proxy,
others only upper-case.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal, get_args
from urllib.parse import quote

from dconnect.core.config import AgentConfig
from dconnect.core.credentials import Credentials

Shell = Literal["sh", "bash", "zsh", "fish", "powershell", "cmd"]
SHELLS: tuple[Shell, ...] = get_args(Shell)
NO_PROXY = "localhost,127.0.0.1,::1"


def detect(environ: Mapping[str, str], *, windows: bool) -> Shell:
    """The user's shell: $SHELL where it is one we know; on Windows PowerShell."""
    name = PurePosixPath(environ.get("SHELL", "")).name
    for shell in SHELLS:
        if name == shell:
            return shell
    return "powershell" if windows or name == "pwsh" else "sh"


def settings(config: AgentConfig, credentials: Credentials | None = None) -> dict[str, str]:
    """The variables, upper case; with the password in them, where one is wanted (RFC 3986 §3.2.1)."""
    door = f"{config.reach}:{config.port}"
    if credentials is not None:
        door = f"{quote(credentials.user, safe='')}:{quote(credentials.password, safe='')}@{door}"
    return {
        "ALL_PROXY": f"socks5h://{door}",
        "HTTP_PROXY": f"http://{door}",
        "HTTPS_PROXY": f"http://{door}",
        "NO_PROXY": NO_PROXY,
    }


def render(shell: Shell, variables: Mapping[str, str]) -> str:
    """The lines a shell evaluates, ending in a newline."""
    if shell == "cmd":  # its variables know no case
        return "".join(f"set {name}={value}\n" for name, value in variables.items())
    lines = [_line(shell, spelled, value) for name, value in variables.items() for spelled in (name, name.lower())]
    return "".join(lines) + _hint(shell)


def _line(shell: Shell, name: str, value: str) -> str:
    match shell:
        case "fish":
            return f"set -gx {name} {shlex.quote(value)};\n"
        case "powershell":
            return f'$Env:{name} = "{value}"\n'
        case _:
            return f"export {name}={shlex.quote(value)}\n"


def _hint(shell: Shell) -> str:
    match shell:
        case "fish":
            return "# Run: dconnect env | source\n"
        case "powershell":
            return "# Run: dconnect env --shell powershell | Out-String | Invoke-Expression\n"
        case _:
            return '# Run: eval "$(dconnect env)"\n'
