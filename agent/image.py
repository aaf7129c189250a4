"""The agent's image: its build context from the installed package, and its build by the engine.

Theory. The command line carries the agent inside itself: the context is made of the very
files that this Python has imported or would import, so image and command line have the same
version by construction, from a wheel and from an editable checkout alike (the packages are
walked through their search paths, following links; a wheel's RECORD says nothing when the
install is editable). The context is a deterministic tar and the tag ends in its digest, so
an image that exists is the right one and is never built twice. Our requirements go in as
they stand, with ranges and markers: pip judges them inside the image, for its platform.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dconnect.agent.docker.engine import Engine, EngineRefused
from dconnect.agent.labels import IMAGE_REPOSITORY, LABEL_ROLE, ROLE_AGENT, ROLE_BUILD
from dconnect.core.errors import DconnectError, UsageError

DISTRIBUTION = "dconnect"
DEFAULT_BASE = "python:3-slim"
ROOMS = ("agent", "core", "dns", "proxy", "tunnel")
"""The rooms that run in the agent; ``cli`` is the host's."""
CLI_ONLY = frozenset({"rich", "typer"})
"""Requirements of the command line, which the image does without."""

MAX_OUTPUT_LINES = 200
"""Bound of the kept build output, from which a failure is explained."""
SWEEP_DEADLINE_S = 15.0
"""How long a cancelled build may take to let go of its last image; the engine must kill its container first."""
QUIET_S = 2.0
"""A cancelled build has ended when it left nothing new for so long: it still finishes its step, a COPY of seconds."""

_EXIT_CODE = re.compile(r"returned a non-zero code: (\d+)")
_COLOUR = re.compile(r"\x1b\[\d+m")
"""The engine paints what a step writes to stderr (moby ``pkg/streamformatter``, NewStderrWriter)."""
_BASE_FAULTS = {
    64: "its Python is older than 3.11",
    65: "it has no pip",
    126: "its python3 cannot be executed",
    127: "it has no python3",
}
"""Exit codes of the checks in the Dockerfile."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines an image."""

    tag: str
    """``dconnect-agent:<version>-<12 hex digits>``."""
    context: bytes
    """Uncompressed tar for the engine's ``/build``."""
    args: dict[str, str]
    """Build arguments."""

    @property
    def base(self) -> str:
        """The base image's name."""
        return self.args["BASE"]


def version() -> str:
    """The installed version of dconnect."""
    return importlib.metadata.version(DISTRIBUTION)


def recipe(base: str = DEFAULT_BASE, wheels: Path | None = None) -> Recipe:
    """Make the recipe from the installed package.

    Args:
        base: image to build from; must have Python 3.11 or later and pip.
        wheels: directory of wheels to install from, for engines that reach no package index.

    Raises:
        UsageError: ``wheels`` is no directory or holds no wheel.
    """
    files = dict(package_files())
    files["requirements.txt"] = "".join(f"{line}\n" for line in requirements()).encode()
    files["Dockerfile"] = files["package/dconnect/agent/Dockerfile"]
    files |= _wheel_files(wheels)
    context = _tar(files)
    args = {
        "BASE": base,
        "VERSION": version(),
        "PIP_OPTIONS": "--no-index --find-links /build/wheels" if wheels else "",
    }
    digest = hashlib.sha256(context)
    digest.update(repr(sorted(args.items())).encode())
    # A local version (1.0+g12) is no valid tag.
    tag = f"{IMAGE_REPOSITORY}:{version().replace('+', '_')}-{digest.hexdigest()[:12]}"
    return Recipe(tag=tag, context=context, args=args)


async def ensure(engine: Engine, wanted: Recipe, progress: Callable[[str], None]) -> bool:
    """Build the image unless the engine has it; True if it was built.

    Whatever happens, cancellation included, no untagged image of ours stays behind, and no base
    image that was pulled for us alone: the agent image keeps its layers.

    ``progress`` is called with short texts fit for a status line.

    Raises:
        DconnectError: the build failed; the sentence says why.
    """
    if await engine.image(wanted.tag) is not None:
        return False
    had_base = await engine.image(wanted.base) is not None
    output: deque[str] = deque(maxlen=MAX_OUTPUT_LINES)

    def report(item: dict[str, Any]) -> None:
        text = _status(item, wanted.base, output)
        if text:
            progress(text)

    quiet_s = QUIET_S
    try:
        await engine.build(wanted.context, tag=wanted.tag, args=wanted.args, progress=report)
        quiet_s = 0
    except EngineRefused as error:
        quiet_s = 0
        raise DconnectError(_explain(error.reason, wanted, output)) from error
    finally:
        with suppress(DconnectError):  # an engine that went away is reported by the build itself
            await sweep(engine, quiet_s)
            if not had_base:
                await _remove_unused(engine, [wanted.base])
    return True


async def remove(engine: Engine) -> list[str]:
    """Remove every image of ours from the engine; gives their tags."""
    removed: list[str] = []
    for image in await engine.images(f"{LABEL_ROLE}={ROLE_AGENT}"):
        tags = _our_tags(image)
        for name in tags:
            await engine.remove_image(name)
        removed += tags
    return removed


async def remove_older(engine: Engine, newest: str) -> None:
    """Remove our images of other versions and other bases, except where a container has one."""
    for image in await engine.images(f"{LABEL_ROLE}={ROLE_AGENT}"):
        tags = _our_tags(image)
        older = [tag for tag in tags if tag != newest]
        if len(older) == len(tags):
            await _remove_unused(engine, older)
        else:  # further names of the newest: another recipe came to the same image
            for tag in older:
                await engine.remove_image(tag)


def _our_tags(image: dict[str, Any]) -> list[str]:
    return [tag for tag in image.get("RepoTags") or () if tag.startswith(f"{IMAGE_REPOSITORY}:")]


async def _remove_unused(engine: Engine, names: list[str]) -> None:
    """Remove images from which no container was made, running or not; the engine may refuse for reasons of its own."""
    used = {container.get("ImageID") for container in await engine.containers()}
    for name in names:
        found = await engine.image(name)
        if found is not None and found["Id"] not in used:
            with suppress(EngineRefused):
                await engine.remove_image(name, force=False)


async def sweep(engine: Engine, quiet_s: float = 0) -> bool:
    """Remove what builds of ours left, until there was nothing for ``quiet_s`` seconds; True if there was anything.

    That is the containers of their steps, and images without a name.
    """
    label = f"{LABEL_ROLE}={ROLE_BUILD}"
    clock = asyncio.get_running_loop().time
    clean_since = clock()
    found = False
    with suppress(TimeoutError):
        async with asyncio.timeout(SWEEP_DEADLINE_S):
            while True:
                containers = await engine.containers(label=label)
                for container in containers:
                    await engine.remove(container["Id"])
                if containers or await engine.images(label, dangling=True):
                    await engine.prune_images(label)
                    clean_since = clock()
                    found = True
                elif clock() - clean_since >= quiet_s:
                    break
                await asyncio.sleep(0.1)
    return found


# -- the context --------------------------------------------------------------------------------


def requirements() -> list[str]:
    """Our own requirements as far as the image needs them, markers and ranges untouched."""
    declared = importlib.metadata.requires(DISTRIBUTION) or []
    return sorted(line for line in declared if requirement_name(line) not in CLI_ONLY and "extra ==" not in line)


def requirement_name(line: str) -> str:
    """The normalised project name of a requirement (PEP 508, PEP 503)."""
    match = re.match(r"[A-Za-z0-9._-]+", line.strip())
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""


def package_files() -> Iterator[tuple[str, bytes]]:
    """Yield (path in the context, content) of everything that ``import dconnect`` finds in the image."""
    for room in ROOMS:
        spec = importlib.util.find_spec(f"dconnect.{room}")
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for folder, names, files in os.walk(root, followlinks=True):
                names[:] = [name for name in names if name != "__pycache__"]
                for file in files:
                    path = Path(folder, file)
                    inside = path.relative_to(root).as_posix()
                    yield f"package/dconnect/{room}/{inside}", path.read_bytes()
    # So that importlib.metadata knows our version in the image too; the rest of the metadata is of no use there.
    metadata = f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version()}\n"
    yield f"package/{DISTRIBUTION}-{version()}.dist-info/METADATA", metadata.encode()


def _wheel_files(directory: Path | None) -> dict[str, bytes]:
    if directory is None:
        return {}
    try:
        found = {f"wheels/{path.name}": path.read_bytes() for path in directory.iterdir() if path.suffix == ".whl"}
    except OSError as error:
        raise UsageError(f"--wheels {directory} cannot be read: {error.strerror}.") from error
    if not found:
        names = " ".join(map(requirement_name, requirements()))
        raise UsageError(f"--wheels {directory} holds no wheel; fill it with: pip download -d {directory} {names}")
    return found


def _tar(files: dict[str, bytes]) -> bytes:
    """A tar that depends on nothing but names and contents; ``wheels/`` is always there, for COPY."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        folder = tarfile.TarInfo("wheels")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


# -- the engine's words ---------------------------------------------------------------------------


def _status(item: dict[str, Any], base: str, output: deque[str]) -> str:
    """A status text for one object of the build stream, or nothing; output lines are kept."""
    stream = _COLOUR.sub("", str(item.get("stream", "")))
    output.extend(line for line in stream.splitlines() if line.strip())
    step = re.match(r"Step (\d+/\d+) :", stream)
    if step:
        return f"building the agent image, step {step.group(1)}"
    detail = item.get("progressDetail") or {}
    if detail.get("total"):
        return f"pulling {base}: {detail['current'] / 1e6:.0f} of {detail['total'] / 1e6:.0f} MB"
    return f"pulling {base}" if str(item.get("status", "")).startswith("Pulling") else ""


def _explain(reason: str, wanted: Recipe, output: deque[str]) -> str:
    """One sentence for a failed build."""
    match = _EXIT_CODE.search(reason)
    code = int(match.group(1)) if match else 0
    if code in _BASE_FAULTS:
        return (
            f"The base image {wanted.base} cannot carry the agent: {_BASE_FAULTS[code]}; choose one with --base-image."
        )
    complaints = [line for line in output if line.startswith("ERROR:")]
    if match and complaints:
        where = "the wheels given with --wheels" if wanted.args["PIP_OPTIONS"] else "the package index"
        return f"The agent image could not be built, because pip found no way to install from {where}: {complaints[-1]}"
    # Steps 1 and 2 are ARG and FROM.
    if not any(line.startswith("Step 3/") for line in output) and not match:
        return f"The base image {wanted.base} is not there ({reason}); give one that the engine has with --base-image."
    return f"The agent image could not be built: {reason}"
