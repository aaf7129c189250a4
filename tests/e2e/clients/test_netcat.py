"""ncat and OpenBSD's nc: bare TCP through the proxy, with each direction ended by itself."""

from __future__ import annotations

import hashlib
import os

import pytest

from bed.clients import needs, talk
from bed.dconnect import PROGRAM, Dconnect
from bed.session import Bed

MEGABYTE = os.urandom(1_000_000)
NCAT = needs("ncat", "ncat")
NC = needs("netcat-openbsd", "nc.openbsd")
BY_NAME = [
    pytest.param("ncat --proxy-type socks5 --proxy-dns remote --proxy DOOR", marks=NCAT),
    pytest.param("ncat --proxy-type socks4 --proxy-dns remote --proxy DOOR", marks=NCAT),
    pytest.param("ncat --proxy-type http --proxy DOOR", marks=NCAT),
    pytest.param("nc.openbsd -N -X 5 -x DOOR", marks=NC),
    pytest.param("nc.openbsd -N -X connect -x DOOR", marks=NC),
    f"{PROGRAM} nc",
]
BY_ADDRESS = [*BY_NAME, pytest.param("nc.openbsd -N -X 4 -x DOOR", marks=NC)]


@pytest.mark.parametrize("command", BY_NAME)
def test_bytes_come_back_by_name(bed: Bed, agent: Dconnect, command: str) -> None:
    words = [*command.replace("DOOR", agent.proxy).split(), "shop_db_1", "7"]
    assert talk(bed, words, MEGABYTE) == MEGABYTE


@pytest.mark.parametrize("command", BY_ADDRESS)
def test_an_answer_comes_after_the_end_of_the_question(bed: Bed, agent: Dconnect, command: str) -> None:
    words = [*command.replace("DOOR", agent.proxy).split(), bed.address_of("vault"), "9"]
    assert talk(bed, words, MEGABYTE).decode() == hashlib.sha256(MEGABYTE).hexdigest()
