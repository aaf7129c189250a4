from __future__ import annotations

import shutil
import subprocess

import pytest

from dconnect.cli.shells import SHELLS, Shell, detect, render, settings
from dconnect.core.config import AgentConfig

VARIABLES = settings(AgentConfig(port=1090))
EXPECTED = {
    "ALL_PROXY": "socks5h://127.0.0.1:1090",
    "HTTP_PROXY": "http://127.0.0.1:1090",
    "HTTPS_PROXY": "http://127.0.0.1:1090",
    "NO_PROXY": "localhost,127.0.0.1,::1",
}


def test_the_settings_name_the_door_that_this_host_reaches() -> None:
    assert VARIABLES == EXPECTED
    assert settings(AgentConfig(bind="0.0.0.0"))["ALL_PROXY"] == "socks5h://127.0.0.1:1080"
    assert settings(AgentConfig(bind="::"))["HTTP_PROXY"] == "http://[::1]:1080"


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_a_real_shell_takes_the_settings_in_both_cases(shell: Shell) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    names = [spelled for name in EXPECTED for spelled in (name, name.lower())]
    script = render(shell, VARIABLES) + "env\n"
    output = subprocess.run([program, "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    found = dict(line.partition("=")[::2] for line in output.splitlines())
    assert {name: found[name] for name in names} == {name: EXPECTED[name.upper()] for name in names}


def test_a_real_shell_takes_the_settings_by_eval() -> None:
    script = f"eval \"$(cat <<'END'\n{render('sh', VARIABLES)}END\n)\"; echo $all_proxy"
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == (
        "socks5h://127.0.0.1:1090\n"
    )


def test_fish_sets_global_exported_variables() -> None:
    first, *_, hint = render("fish", VARIABLES).splitlines()
    assert first == "set -gx ALL_PROXY socks5h://127.0.0.1:1090;"
    assert hint == "# Run: dconnect env | source"


def test_powershell_sets_environment_variables() -> None:
    first, *_, hint = render("powershell", VARIABLES).splitlines()
    assert first == '$Env:ALL_PROXY = "socks5h://127.0.0.1:1090"'
    assert hint == "# Run: dconnect env --shell powershell | Out-String | Invoke-Expression"


def test_cmd_gets_no_comment_and_no_quotes_because_it_would_take_both_literally() -> None:
    assert render("cmd", VARIABLES).splitlines() == [f"set {name}={value}" for name, value in EXPECTED.items()]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_whole_lines(shell: Shell) -> None:
    assert render(shell, VARIABLES).endswith("\n")


@pytest.mark.parametrize(
    ("environ", "windows", "shell"),
    [
        ({"SHELL": "/usr/bin/fish"}, False, "fish"),
        ({"SHELL": "/bin/zsh"}, False, "zsh"),
        ({"SHELL": "/bin/bash"}, True, "bash"),  # Git Bash
        ({"SHELL": "/usr/bin/pwsh"}, False, "powershell"),
        ({"SHELL": "/bin/dash"}, False, "sh"),
        ({}, False, "sh"),
        ({}, True, "powershell"),
    ],
)
def test_the_shell_is_known_by_its_variable(environ: dict[str, str], windows: bool, shell: Shell) -> None:
    assert detect(environ, windows=windows) == shell
