"""The build by the engine: its words become a status line or a sentence, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dconnect.agent import image
from dconnect.agent.docker.engine import Engine
from dconnect.core.errors import DconnectError
from kit.docker_engine import DockerEngine, image_id

BASE = "base:1"
RECIPE = image.Recipe("dconnect-agent:1-abc", b"", {"BASE": BASE, "PIP_OPTIONS": ""})
OFFLINE = image.Recipe("dconnect-agent:1-abc", b"", {"BASE": BASE, "PIP_OPTIONS": "--no-index"})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DockerEngine]:
    with DockerEngine(tmp_path) as made:
        yield made


def ensure(engine: DockerEngine, recipe: image.Recipe = RECIPE) -> tuple[bool, list[str]]:
    """Whether it was built, and what was said meanwhile."""
    said: list[str] = []

    async def ensured() -> bool:
        async with Engine.open(engine.url) as opened:
            return await image.ensure(opened, recipe, said.append)

    return asyncio.run(ensured()), said


def step(number: int, text: str = "RUN x") -> dict[str, Any]:
    return {"stream": f"Step {number}/14 : {text}\n"}


def failure(message: str) -> dict[str, Any]:
    return {"errorDetail": {"message": message}, "error": message}


def test_an_image_that_is_there_is_not_built_again(engine: DockerEngine) -> None:
    assert ensure(engine) == (True, [f"building the agent image, step {number}/3" for number in (1, 2, 3)])
    assert ensure(engine) == (False, [])
    assert engine.requests.count("POST build") == 1


def test_pulling_the_base_is_told_in_megabytes(engine: DockerEngine) -> None:
    layer = {"id": "a", "status": "Downloading", "progressDetail": {"current": 3_000_000, "total": 40_000_000}}
    engine.build_output = [{"status": "Pulling from library/base", "id": "1"}, layer, {"aux": {"ID": "sha256:x"}}]
    assert ensure(engine)[1] == ["pulling base:1", "pulling base:1: 3 of 40 MB"]


def test_nothing_but_the_image_stays_behind(engine: DockerEngine) -> None:
    ensure(engine)
    assert (list(engine.images), engine.leftovers) == ([RECIPE.tag], [])


def test_a_base_image_that_was_there_before_stays(engine: DockerEngine) -> None:
    engine.images[BASE] = {"Id": "sha256:base", "RepoTags": [BASE]}
    ensure(engine)
    assert set(engine.images) == {BASE, RECIPE.tag}


def container_of(tag: str) -> dict[str, Any]:
    return {"Id": "ab" * 32, "Config": {"Image": tag, "Labels": {}}, "State": {"Running": False, "ExitCode": 0}}


def test_a_base_image_that_somebody_began_to_use_during_the_build_stays(engine: DockerEngine) -> None:
    engine.containers["theirs"] = container_of(BASE)
    ensure(engine)
    assert set(engine.images) == {BASE, RECIPE.tag}


def test_older_images_of_ours_go_unless_a_container_has_one(engine: DockerEngine) -> None:
    older, used = "dconnect-agent:0-abc", "dconnect-agent:0-def"
    for tag in (older, used, BASE):
        engine.images[tag] = {"Id": image_id(tag), "RepoTags": [tag]}
    engine.containers |= {"theirs": container_of(used), "ours": container_of(RECIPE.tag)}
    ensure(engine)
    engine.images["dconnect-agent:same"] = engine.images[RECIPE.tag] | {"RepoTags": ["dconnect-agent:same"]}

    async def removed() -> None:
        async with Engine.open(engine.url) as opened:
            await image.remove_older(opened, RECIPE.tag)

    asyncio.run(removed())
    assert set(engine.images) == {BASE, RECIPE.tag, used}


# The messages are dockerd 20.10's own.
NO_BASE = (
    "pull access denied for base, repository does not exist or may require 'docker login': "
    "denied: requested access to the resource is denied"
)
CHECK = "The command '/bin/sh -c python3 -c ...' returned a non-zero code: {code}"
UNFIT = "The base image base:1 cannot carry the agent"
PIP = "The command '/bin/sh -c python3 -m pip install ...' returned a non-zero code: 1"
COMPLAINT = "ERROR: No matching distribution found for dnslib>=0.9.25"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            [step(1, "ARG BASE"), step(2, "FROM base"), failure(NO_BASE)],
            f"The base image base:1 is not there ({NO_BASE}); give one that the engine has with --base-image.",
        ),
        (
            [step(5), failure(CHECK.format(code=64))],
            f"{UNFIT}: its Python is older than 3.11; choose one with --base-image.",
        ),
        (
            [step(5), failure(CHECK.format(code=65))],
            f"{UNFIT}: it has no pip; choose one with --base-image.",
        ),
        (
            [step(5), failure(CHECK.format(code=127))],
            f"{UNFIT}: it has no python3; choose one with --base-image.",
        ),
        (
            [step(3), step(9), {"stream": f"\x1b[91m{COMPLAINT}\n\x1b[0m"}, failure(PIP)],
            "The agent image could not be built, because pip found no way to install from the package index: "
            + COMPLAINT,
        ),
        (
            [step(3), step(4), failure("no space left on device")],
            "The agent image could not be built: no space left on device",
        ),
    ],
)
def test_a_failed_build_is_explained_in_a_sentence(
    engine: DockerEngine, output: list[dict[str, Any]], sentence: str
) -> None:
    engine.build_output = output
    with pytest.raises(DconnectError) as caught:
        ensure(engine)
    assert str(caught.value) == sentence
    assert (engine.images, engine.leftovers) == ({}, [])


def test_with_wheels_a_missing_one_is_looked_for_there(engine: DockerEngine) -> None:
    engine.build_output = [step(9), {"stream": COMPLAINT + "\n"}, failure(PIP)]
    with pytest.raises(DconnectError, match="from the wheels given with --wheels: ERROR: No matching"):
        ensure(engine, OFFLINE)
