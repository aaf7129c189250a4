from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("agent", "cli", "core", "dns", "proxy", "tunnel")
_SETUPTOOLS: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
_PACKAGES = sorted(
    init.parent.relative_to(_ROOT).as_posix() for room in _ROOMS for init in (_ROOT / room).rglob("__init__.py")
)
_SOURCES = sorted(path for room in _ROOMS for path in (_ROOT / room).rglob("*.py"))


def _dotted(folder: str) -> str:
    return "dconnect." + folder.replace("/", ".")


def test_every_room_is_a_package_that_ships_its_types() -> None:
    for room in _ROOMS:
        assert room in _PACKAGES
        assert (_ROOT / room / "py.typed").is_file()


def test_pyproject_lists_exactly_the_packages_of_the_tree() -> None:
    assert sorted(_SETUPTOOLS["packages"]) == sorted(map(_dotted, _PACKAGES))


def test_pyproject_maps_every_package_to_its_folder() -> None:
    assert _SETUPTOOLS["package-dir"] == {_dotted(folder): folder for folder in _PACKAGES}


def test_no_source_lies_outside_a_package() -> None:
    assert {path.parent.relative_to(_ROOT).as_posix() for path in _SOURCES} == set(_PACKAGES)


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.relative_to(_ROOT).as_posix())
def test_a_source_is_short_and_so_are_its_functions(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 450
    long = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= 60
    ]
    assert not long
