"""The build context: everything of the installed package that the agent needs, and the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from dconnect.agent import image
from dconnect.core.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("agent", "core", "dns", "proxy", "tunnel")
DIGEST = """
import hashlib
from dconnect.agent import image
made = image.recipe()
print(made.tag, hashlib.sha256(made.context).hexdigest())
"""


def read(context: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(context)) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar}
        return {name: file.read() for name, file in files.items() if file is not None}


def source_files() -> dict[str, bytes]:
    """What the tree holds, by its place in the context."""
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return {f"package/dconnect/{path.relative_to(ROOT).as_posix()}": path.read_bytes() for path in paths}


def test_every_module_of_every_room_that_the_agent_runs_is_in_the_context() -> None:
    files = read(image.recipe().context)
    expected = source_files()
    assert len(expected) > 40
    assert {name: content for name, content in files.items() if name.endswith(".py")} == expected


def test_the_command_line_and_compiled_files_stay_at_home() -> None:
    names = read(image.recipe().context)
    assert not [name for name in names if "/cli/" in name or "__pycache__" in name or name.endswith(".pyc")]


def test_the_dockerfile_stands_at_the_top() -> None:
    assert read(image.recipe().context)["Dockerfile"] == (ROOT / "agent" / "Dockerfile").read_bytes()


def test_the_image_knows_its_version() -> None:
    number = version("dconnect")
    files = read(image.recipe().context)
    assert f"\nVersion: {number}\n" in files[f"package/dconnect-{number}.dist-info/METADATA"].decode()
    assert image.recipe().args["VERSION"] == number


def test_requirements_are_the_package_s_own_without_the_command_line_s() -> None:
    lines = read(image.recipe().context)["requirements.txt"].decode().splitlines()
    names = {re.split(r"[^a-z0-9-]", line)[0] for line in lines}
    assert {"aiodocker", "aiohttp", "dnslib", "structlog", "uvloop"} <= names
    assert not names & {"rich", "typer"}
    assert [line for line in lines if line.startswith("uvloop")] == ['uvloop>=0.21; sys_platform != "win32"']


def test_the_same_package_gives_the_same_bytes_in_every_process() -> None:
    def digest(seed: str) -> str:
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", DIGEST], env=environ, capture_output=True, text=True, check=True
        ).stdout

    recipe = image.recipe()
    assert digest("1") == digest("2") == f"{recipe.tag} {hashlib.sha256(recipe.context).hexdigest()}\n"


def test_the_context_tells_nothing_of_this_machine() -> None:
    with tarfile.open(fileobj=io.BytesIO(image.recipe().context)) as tar:
        entries = tar.getmembers()
    assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in entries} == {(0, 0, 0, "", "")}
    assert {each.mode for each in entries if each.isfile()} == {0o644}
    assert [each.name for each in entries if not each.isfile()] == ["wheels"]
    assert [each.name for each in entries[1:]] == sorted(each.name for each in entries[1:])


def test_the_tag_names_the_version_and_changes_with_whatever_changes_the_image(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"one")
    tags = [image.recipe().tag, image.recipe("other:base").tag, image.recipe(wheels=tmp_path).tag]
    (tmp_path / "a.whl").write_bytes(b"two")
    tags.append(image.recipe(wheels=tmp_path).tag)
    assert len(set(tags)) == 4
    for tag in tags:
        assert re.fullmatch(rf"dconnect-agent:{re.escape(version('dconnect'))}-[0-9a-f]{{12}}", tag)


def test_wheels_go_along_and_pip_is_kept_from_the_index(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "notes.txt").write_bytes(b"no wheel")
    recipe = image.recipe(wheels=tmp_path)
    wheels = {name: content for name, content in read(recipe.context).items() if name.startswith("wheels/")}
    assert wheels == {"wheels/a-1-py3-none-any.whl": b"wheel"}
    assert recipe.args["PIP_OPTIONS"] == "--no-index --find-links /build/wheels"
    assert image.recipe().args["PIP_OPTIONS"] == ""


def test_a_directory_without_wheels_is_told_how_to_be_filled(tmp_path: Path) -> None:
    packages = "aiodocker aiohttp dnslib orjson prometheus-client pyroute2 pytun-pmd3 structlog uvloop"
    with pytest.raises(UsageError, match=rf"pip download -d {tmp_path} {packages}"):
        image.recipe(wheels=tmp_path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        image.recipe(wheels=tmp_path / "absent")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("uvloop>=0.21; sys_platform != 'win32'", "uvloop"),
        ("Prometheus_Client [x] >= 1", "prometheus-client"),
        ("", ""),
    ],
)
def test_a_requirement_s_name_is_normalised(line: str, name: str) -> None:
    assert image.requirement_name(line) == name
