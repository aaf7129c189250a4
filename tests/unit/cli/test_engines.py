"""Which engine is chosen: the order and the files are docker/cli's (cli/command/cli.go, opts/hosts.go)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

import pytest

from dconnect.agent.docker.engine import Engine
from dconnect.cli.engines import PIPE, Choice, Machine, Tls, choose
from dconnect.core.errors import EngineUnreachable, UsageError

HOSTS = {"DOCKER_HOST": "tcp://from-host:2375", "DOCKER_CONTEXT": "from-context"}


def machine(home: Path, environ: Mapping[str, str] = {}) -> Machine:
    """The real files under a home directory, and none of this machine's sockets."""
    here = Machine.here()
    return Machine(environ, home, windows=False, read=here.read, exists=lambda path: inside(home, path))


def inside(home: Path, path: str) -> bool:
    return path.startswith(str(home)) and os.path.exists(path)  # noqa: PTH110 - a text, as Machine has it


def add_context(home: Path, name: str, endpoint: object, tls: tuple[str, ...] = ()) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / digest
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    for file in tls:
        path = home / ".docker" / "contexts" / "tls" / digest / "docker" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def use_context(home: Path, name: str) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {}, "currentContext": name}))


def listen(path: Path) -> str:
    """A file where an engine has its socket; only its being there is looked at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return f"unix://{path}"


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A home where the current context, and other contexts, are set."""
    use_context(tmp_path, "current")
    for name in ("current", "from-context", "asked"):
        add_context(tmp_path, name, {"Host": f"tcp://{name}:2375", "SkipTLSVerify": False})
    return tmp_path


def test_the_option_context_wins_over_all_else(configured: Path) -> None:
    assert choose(machine(configured, HOSTS), context="asked") == Choice("asked", "tcp://asked:2375")


def test_the_option_host_wins_over_the_environment(configured: Path) -> None:
    assert choose(machine(configured, HOSTS), host="unix:///x.sock") == Choice("--host", "unix:///x.sock")


def test_docker_host_wins_over_docker_context(configured: Path) -> None:
    assert choose(machine(configured, HOSTS)) == Choice("DOCKER_HOST", "tcp://from-host:2375")


def test_docker_context_wins_over_the_current_context(configured: Path) -> None:
    environ = {"DOCKER_CONTEXT": "from-context"}
    assert choose(machine(configured, environ)) == Choice("from-context", "tcp://from-context:2375")


def test_without_variables_the_current_context_counts(configured: Path) -> None:
    assert choose(machine(configured)) == Choice("current", "tcp://current:2375")


def test_empty_variables_count_as_unset(configured: Path) -> None:
    environ = dict.fromkeys(("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"), "")
    assert choose(machine(configured, environ)).name == "current"


def test_docker_config_moves_contexts_and_current_context(configured: Path) -> None:
    moved = configured / "elsewhere"
    (configured / ".docker").rename(moved)
    assert choose(machine(configured, {"DOCKER_CONFIG": str(moved)})).name == "current"


def test_both_options_are_too_many(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        choose(machine(tmp_path), context="a", host="b")


def test_the_context_default_is_docker_host_where_that_is_set(configured: Path) -> None:
    assert choose(machine(configured, HOSTS), context="default") == Choice("default", "tcp://from-host:2375")


def test_a_current_context_named_default_is_the_known_socket(tmp_path: Path) -> None:
    use_context(tmp_path, "default")
    url = listen(tmp_path / ".colima" / "default" / "docker.sock")
    assert choose(machine(tmp_path)) == Choice("Colima", url)


def test_an_unknown_context_is_a_usage_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Docker context named 'nowhere'"):
        choose(machine(tmp_path, {"DOCKER_CONTEXT": "nowhere"}))


@pytest.mark.parametrize("endpoint", [None, {}, [], "tcp://x"])
def test_a_context_without_an_engine_is_a_usage_error(tmp_path: Path, endpoint: object) -> None:
    add_context(tmp_path, "hollow", endpoint)
    with pytest.raises(UsageError, match="'hollow' names no engine"):
        choose(machine(tmp_path), context="hollow")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"currentContext": null}', "\0"])
def test_a_broken_config_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(text)
    url = listen(tmp_path / ".rd" / "docker.sock")
    assert choose(machine(tmp_path)) == Choice("Rancher Desktop", url)


@pytest.mark.parametrize(
    ("name", "path", "variable"),
    [
        ("Docker Desktop", ".docker/run/docker.sock", ""),
        ("Docker Desktop", ".docker/desktop/docker.sock", ""),
        ("Colima", ".colima/default/docker.sock", ""),
        ("Colima", "moved/default/docker.sock", "COLIMA_HOME=moved"),
        ("Colima", ".config/colima/default/docker.sock", ""),
        ("Colima", "moved/colima/default/docker.sock", "XDG_CONFIG_HOME=moved"),
        ("OrbStack", ".orbstack/run/docker.sock", ""),
        ("Rancher Desktop", ".rd/docker.sock", ""),
        ("rootless Docker", "moved/docker.sock", "XDG_RUNTIME_DIR=moved"),
        ("rootless Podman", "moved/podman/podman.sock", "XDG_RUNTIME_DIR=moved"),
        ("Podman", ".local/share/containers/podman/machine/podman.sock", ""),
    ],
)
def test_an_engine_is_found_by_its_well_known_socket(tmp_path: Path, name: str, path: str, variable: str) -> None:
    key, _, folder = variable.partition("=")
    url = listen(tmp_path / path)
    assert choose(machine(tmp_path, {key: str(tmp_path / folder)})) == Choice(name, url)


def test_the_usual_socket_comes_before_other_engines(tmp_path: Path) -> None:
    listen(tmp_path / ".rd" / "docker.sock")
    listen(tmp_path / ".docker" / "run" / "docker.sock")
    assert choose(machine(tmp_path)).name == "Docker Desktop"


def test_where_nothing_listens_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachable, match=r"looked for unix:///var/run/docker\.sock and .* --context or --host"):
        choose(machine(tmp_path))


def test_a_bare_host_is_tcp(tmp_path: Path) -> None:
    assert choose(machine(tmp_path), host="10.0.0.1:2375").url == "tcp://10.0.0.1:2375"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has named pipes.")
def test_a_named_pipe_where_there_are_none_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only Windows"):
        choose(machine(tmp_path, {"DOCKER_HOST": PIPE}))


def test_on_windows_the_first_pipe_that_exists_is_taken() -> None:
    pipe = r"\\.\pipe\podman-machine-default"
    windows = Machine({}, PureWindowsPath(r"C:\Users\me"), True, lambda _: None, lambda path: path == pipe)
    assert choose(windows) == Choice("Podman", "npipe:////./pipe/podman-machine-default")


# -- TLS ------------------------------------------------------------------------------------------


def certificates(folder: Path, *names: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.pem").write_text("")
    return str(folder)


def test_docker_tls_verify_takes_the_certificates_of_docker_cert_path(tmp_path: Path) -> None:
    folder = certificates(tmp_path / "certs", "ca", "cert", "key")
    environ = {"DOCKER_HOST": "tcp://e:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": folder}
    tls = Tls(f"{folder}/ca.pem", f"{folder}/cert.pem", f"{folder}/key.pem", verify=True)
    assert choose(machine(tmp_path, environ)) == Choice("DOCKER_HOST", "tcp://e:2376", tls)


def test_without_docker_cert_path_the_certificates_are_beside_the_config(tmp_path: Path) -> None:
    folder = certificates(tmp_path / ".docker", "ca")
    environ = {"DOCKER_HOST": "tcp://e:2376", "DOCKER_TLS_VERIFY": "1"}
    assert choose(machine(tmp_path, environ)).tls == Tls(f"{folder}/ca.pem", None, None, verify=True)


def test_docker_tls_alone_encrypts_without_verifying(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": "tcp://e:2376", "DOCKER_TLS": "1"}
    assert choose(machine(tmp_path, environ)).tls == Tls(None, None, None, verify=False)


def test_docker_tls_verify_means_nothing_to_a_unix_socket(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": "unix:///x.sock", "DOCKER_TLS_VERIFY": "1"}
    assert choose(machine(tmp_path, environ)).tls is None


def test_a_context_brings_its_own_certificates(tmp_path: Path) -> None:
    add_context(tmp_path, "far", {"Host": "tcp://far:2376", "SkipTLSVerify": True}, tls=("ca.pem", "cert.pem"))
    tls = choose(machine(tmp_path), context="far").tls
    assert tls is not None
    assert (tls.verify, tls.key) == (False, None)
    assert tls.ca is not None
    assert tls.ca.startswith(str(tmp_path / ".docker" / "contexts" / "tls"))


def test_a_context_that_skips_verification_is_encrypted_without_any_certificate(tmp_path: Path) -> None:
    add_context(tmp_path, "far", {"Host": "tcp://far:2376", "SkipTLSVerify": True})
    assert choose(machine(tmp_path), context="far").tls == Tls(None, None, None, verify=False)


def test_unreadable_certificates_are_a_usage_error(tmp_path: Path) -> None:
    folder = certificates(tmp_path / "certs", "ca")  # an empty file is no certificate
    environ = {"DOCKER_HOST": "tcp://e:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": folder}

    async def opened() -> Engine:
        return choose(machine(tmp_path, environ)).open()

    with pytest.raises(UsageError, match=r"certificates at .*ca\.pem cannot be used"):
        asyncio.run(opened())
