from __future__ import annotations

from dconnect.core.limits import DNS_CACHE_ANSWERS_PER_NAME
from dconnect.dns.cache import AnswerCache


def query(key: str, ident: bytes = b"\x12\x34") -> bytes:
    return ident + key.encode()


def test_an_answer_is_found_again_under_another_id() -> None:
    cache = AnswerCache()
    cache.keep(query("web A"), [b"\x12\x34answer"], "web")
    assert cache.get(query("web A", b"\xff\x00")) == b"\xff\x00answer"
    assert cache.get(query("web AAAA")) is None


def test_dropping_a_name_forgets_all_its_answers_and_no_others() -> None:
    cache = AnswerCache()
    for key, name in (("web A", "web"), ("web AAAA", "web"), ("db A", "db")):
        cache.keep(query(key), [b"..answer"], name)
    cache.drop(["web", "never heard of"])
    assert cache.get(query("web A")) is None
    assert cache.get(query("web AAAA")) is None
    assert cache.get(query("db A")) is not None
    assert len(cache) == 1


def test_every_change_forgets_passing_answers() -> None:
    cache = AnswerCache()
    cache.keep_passing(query("x"), b"..no")
    assert cache.get(query("x", b"ab")) == b"abno"
    cache.drop([])
    assert cache.get(query("x")) is None


def test_passing_answers_are_bounded_and_push_no_lasting_one_out() -> None:
    cache = AnswerCache(passing=10)
    cache.keep(query("web"), [b"..yes"], "web")
    for number in range(1000):
        cache.keep_passing(query(f"x{number}"), b"..no")
        assert len(cache) <= 11
    assert cache.get(query("web")) is not None


def test_one_name_has_a_bounded_number_of_answers() -> None:
    cache = AnswerCache()
    cache.keep(query("db"), [b"..yes"], "db")
    for number in range(1000):
        cache.keep(query(f"web {number}"), [b"..yes"], "web")
    assert len(cache) == DNS_CACHE_ANSWERS_PER_NAME + 1
    assert cache.get(query("web 0")) is not None
    assert cache.get(query("db")) is not None


def test_a_full_cache_forgets_the_name_that_came_first() -> None:
    cache = AnswerCache(answers=3)
    for key, name in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")):
        cache.keep(query(key), [b"..yes"], name)
    assert cache.get(query("a1")) is None
    assert cache.get(query("a2")) is None
    assert cache.get(query("b1")) is not None
    assert cache.get(query("c1")) is not None


def test_several_answers_take_turns_in_their_order() -> None:
    cache = AnswerCache()
    cache.keep(query("api"), [b"..one", b"..two", b"..three"], "api")
    found = [cache.get(query("api")) for _ in range(4)]
    assert found == [b"\x12\x34one", b"\x12\x34two", b"\x12\x34three", b"\x12\x34one"]
    cache.drop(["api"])
    assert len(cache) == 0
