"""A user name and password, and what the agent keeps of them: enough to know them again, not to tell them."""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

GENERATED_USER = "dconnect"
"""The user name that goes with a generated password, and with a link's token."""
MAX_BYTES = 255
"""Of a user name or a password: RFC 1929 §2 has one octet for each length."""
SALT_BYTES = 16


class Credentials(NamedTuple):
    """What a client must know."""

    user: str
    """Without a colon, which ends it in HTTP (RFC 7617 §2)."""
    password: str


def proof(credentials: Credentials, salt: bytes) -> str:
    """What may be kept: ``salt:digest`` in hexadecimal digits, as ``AgentConfig.auth`` has it.

    The digest is a fast one (BLAKE2s, RFC 7693, keyed with the salt), since it is made for every connection: a
    generated password of 128 bits is not guessed from it, a short one that a person chose is.
    """
    return f"{salt.hex()}:{_digest(salt, credentials.user.encode(), credentials.password.encode()).hex()}"


class Verifier:
    """Knows the right credentials again."""

    __slots__ = ("_digest", "_salt")

    def __init__(self, kept: str) -> None:
        """``kept`` is a ``proof``."""
        salt, _, digest = kept.partition(":")
        self._salt, self._digest = bytes.fromhex(salt), bytes.fromhex(digest)

    def accepts(self, user: bytes, password: bytes) -> bool:
        """Whether these are they; takes as long whatever is wrong with them."""
        return hmac.compare_digest(_digest(self._salt, user, password), self._digest)


def _digest(salt: bytes, user: bytes, password: bytes) -> bytes:
    return hashlib.blake2s(len(user).to_bytes(4) + user + password, key=salt).digest()
