from __future__ import annotations

import pytest

from dconnect.core.config import AgentConfig
from dconnect.core.credentials import Credentials, Verifier, proof

SALT = bytes(range(16))
KEPT = proof(Credentials("dconnect", "s3cret"), SALT)


def test_what_is_kept_does_not_tell_the_password() -> None:
    assert "s3cret" not in KEPT
    assert b"s3cret".hex() not in KEPT
    assert AgentConfig(auth=KEPT).auth == KEPT


def test_the_right_ones_are_accepted() -> None:
    assert Verifier(KEPT).accepts(b"dconnect", b"s3cret")
    kept = proof(Credentials("jörg", "pässword: x"), SALT)
    assert Verifier(kept).accepts("jörg".encode(), "pässword: x".encode())


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (b"dconnect", b""),
        (b"", b"s3cret"),
        (b"", b""),
        (b"dconnect", b"s3cre"),
        (b"dconnect", b"s3cret "),
        (b"dconnect", b"S3cret"),
        (b"dconnects", b"3cret"),  # the same octets, cut elsewhere
        (b"Dconnect", b"s3cret"),
    ],
)
def test_others_are_not(user: bytes, password: bytes) -> None:
    assert not Verifier(KEPT).accepts(user, password)


def test_another_salt_gives_another_digest() -> None:
    assert proof(Credentials("dconnect", "s3cret"), bytes(16)).partition(":")[2] != KEPT.partition(":")[2]
