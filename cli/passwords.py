"""Passwords of front doors, and tokens of links: made, read from a file, and kept for this user alone.

One JSON list in the user's state directory, mode 600, newest last: by it ``dconnect``'s own commands sign in, and an
engine's generated password is the same after ``down`` and ``up``. Which entry fits an agent, the agent's proof tells.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dconnect.cli import state
from dconnect.core.config import AgentConfig
from dconnect.core.credentials import GENERATED_USER, MAX_BYTES, SALT_BYTES, Credentials, Verifier, proof
from dconnect.core.errors import DconnectError, UsageError

PASSWORD_BYTES = 16
"""Of randomness in a generated password: beyond guessing, whatever is known about its digest."""
MAX_ENTRIES = 64
"""Bound of the file; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept."""

    engine: str
    """The engine's id."""
    user: str
    password: str
    generated: bool
    """By us; otherwise the user gave it."""

    @property
    def basic(self) -> str:
        """They, as HTTP has them after (Proxy-)Authorization (RFC 7617 §2)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def credentials(self) -> Credentials:
        """What a client must know."""
        return Credentials(self.user, self.password)


def default_file() -> Path:
    """The file on this machine."""
    return state.default_file().with_name("passwords.json")


def token_file() -> Path:
    """Where the tokens of links are kept, in the same form."""
    return default_file().with_name("tokens.json")


def link_token(config: AgentConfig, file: Path | None = None) -> str | None:
    """What this user knows that opens an agent's link; None where nothing is known, or the agent has no tunnel."""
    entry = _known(config.tun, file or token_file())
    return entry.password if entry is not None else None


def read(path: Path) -> Credentials:
    """The one line ``user:password`` of a file.

    Raises: UsageError, which does not tell what stands there.
    """
    try:
        text = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"--auth-file {path} cannot be read: {reason}.") from None
    user, colon, password = text.partition(":")
    if not colon or not text.isprintable():
        raise UsageError(f"--auth-file {path} must have one line, user:password, without control characters.")
    if not all(1 <= len(part.encode()) <= MAX_BYTES for part in (user, password)):
        raise UsageError(f"--auth-file {path} must have a user name and a password of 1 to {MAX_BYTES} bytes each.")
    return Credentials(user, password)


def settle(file: Path, engine_id: str, given: Credentials | None) -> Entry:
    """The password for an engine, remembered before anything is locked with it.

    ``given`` None stands for a generated one, the same as last time.

    Raises: DconnectError when it cannot be kept.
    """
    entries = _load(file)
    if given is not None:
        entry = Entry(engine_id, *given, generated=False)
    else:
        before = [each for each in entries if each.generated and each.engine == engine_id]
        entry = (
            before[-1]
            if before
            else Entry(engine_id, GENERATED_USER, secrets.token_hex(PASSWORD_BYTES), generated=True)
        )
    try:
        _save(file, [*(each for each in entries if each != entry), entry])
    except OSError as error:
        raise DconnectError(
            f"The password cannot be kept in {file} ({error.strerror}), and dconnect itself needs it; "
            "let this user write there."
        ) from error
    return entry


def forget_others(file: Path, entry: Entry) -> None:
    """Of an entry's engine keep this one only: no agent has another."""
    with suppress(OSError):
        _save(file, [each for each in _load(file) if each.engine != entry.engine or each == entry])


def lock(config_auth: str, credentials: Credentials) -> str:
    """The proof for a new agent: the old one, if it is for the same password, so that nothing changes."""
    if config_auth and Verifier(config_auth).accepts(credentials.user.encode(), credentials.password.encode()):
        return config_auth
    return proof(credentials, secrets.token_bytes(SALT_BYTES))


def find(config: AgentConfig, file: Path | None = None) -> Entry | None:
    """What this user knows that opens an agent's front door; None where nothing is known, or wanted."""
    return _known(config.auth, file or default_file())


def _known(kept: str, file: Path) -> Entry | None:
    """The newest entry that a proof is of."""
    if not kept:
        return None
    verifier = Verifier(kept)
    for entry in reversed(_load(file)):
        if verifier.accepts(entry.user.encode(), entry.password.encode()):
            return entry
    return None


def needed(config: AgentConfig) -> DconnectError:
    """The error of whoever does not know the password."""
    return DconnectError(
        f"The front door at {config.reach}:{config.port} wants a password that this user does not know; "
        "`dconnect up --auth-file FILE` with the same one makes it known."
    )


def _load(file: Path) -> list[Entry]:
    try:
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        texts = [each for each in found if isinstance(each["user"], str) and isinstance(each["password"], str)]
        return [Entry(**each) for each in texts]
    except (OSError, ValueError, TypeError, LookupError):
        return []


def _save(file: Path, entries: Sequence[Entry]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
    )  # never readable by others, not for a moment
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump([asdict(each) for each in entries[-MAX_ENTRIES:]], opened, indent=1)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
